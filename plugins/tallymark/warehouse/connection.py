"""The DuckDB file, for the process that may write it."""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from tenacity import before_sleep_log, retry, retry_if_exception, stop_after_delay, wait_fixed

from tallymark.errors import UserError
from tallymark.settings import DBT_PROJECT, Settings
from tallymark.warehouse import ledger_copy
from tallymark.warehouse.invoke_dbt import update_schema

log = logging.getLogger(__name__)
SCHEMA_VERSION = len(list((DBT_PROJECT / "macros" / "schema").glob("step_*.sql")))
PACKAGES = Path(__file__).parents[1]
LOCK_TIMEOUT_SECONDS = 30
# Three headers of 4,096 bytes begin a file of DuckDB. It keeps nothing before they are written.
HEADER_BYTES = 3 * 4_096
SIGNS_OF_A_BROKEN_FILE = (
    "Corrupt",
    "corrupt",
    "not a valid DuckDB",
    "checksum",
    "has been invalidated",
    "Could not read enough bytes",
)


class WarehouseError(UserError, RuntimeError):
    """The warehouse cannot be used; the message says why and what to do."""


def is_locked(error: BaseException | None) -> bool:
    """Whether DuckDB says that another process has the file open."""
    return isinstance(error, duckdb.IOException) and "lock on file" in str(error)


@retry(
    retry=retry_if_exception(is_locked),
    stop=stop_after_delay(LOCK_TIMEOUT_SECONDS),
    wait=wait_fixed(0.5),
    before_sleep=before_sleep_log(log, logging.INFO),
    reraise=True,
)
def _open(path: Path, read_only: bool) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(path), read_only=read_only)


class _OpenHere(threading.local):
    """Connections of this thread by the paths of their files."""

    def __init__(self):
        self.by_path: dict[Path, duckdb.DuckDBPyConnection] = {}


_open_here = _OpenHere()


@contextmanager
def connect(settings: Settings, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse and close it again; one that is new or of an older schema version gets its tables first.

    Within it, another one gives the same connection, as opening and closing takes longer than most of what is asked.

    Raises:
        WarehouseError: when another process keeps it open for longer than ``LOCK_TIMEOUT_SECONDS``, when a newer
            Tallymark wrote it, or when the file is broken, as far as that shows on opening it or while it is used.
    """
    if outer := _open_here.by_path.get(settings.warehouse):
        yield outer
        return
    if not read_only and not _is_begun(settings.warehouse):
        _make(settings)
    try:
        warehouse = _open(settings.warehouse, read_only)
        if (version := _schema_version(warehouse)) != SCHEMA_VERSION:
            warehouse.close()
            _must_be_known(settings, version)
            update_schema(settings)
            warehouse = _open(settings.warehouse, read_only)
    except duckdb.Error as error:
        raise _explained(settings, error) from error
    if not read_only:
        ledger_copy.forget_unless_true(settings)
    _open_here.by_path[settings.warehouse] = warehouse
    try:
        yield warehouse
    except duckdb.Error as error:
        if shows_a_broken_file(str(error)):
            raise _explained(settings, error) from error
        raise
    finally:
        del _open_here.by_path[settings.warehouse]
        warehouse.close()
    if not read_only:
        ledger_copy.confirm(settings)


def shows_a_broken_file(message: str) -> bool:
    """Whether a message of DuckDB's says that the file is not what it wrote."""
    return any(sign in message for sign in SIGNS_OF_A_BROKEN_FILE)


def broken(settings: Settings, error: object) -> WarehouseError:
    """What to tell about a file that is not what DuckDB wrote."""
    return WarehouseError(
        f"The warehouse {settings.warehouse} cannot be read. If its file is broken, make it again from the bucket "
        f"with: make rebuild. DuckDB says: {error}"
    )


def _explained(settings: Settings, error: duckdb.Error) -> WarehouseError:
    if is_locked(error):
        return WarehouseError(
            f"{settings.warehouse} is open elsewhere, perhaps in a DuckDB shell, a notebook or a dbt run. "
            f"Close it there; the next run goes on where this one stopped. DuckDB says: {error}"
        )
    return broken(settings, error)


def _is_begun(path: Path) -> bool:
    """Whether there is a file that may hold something: not one whose making was killed, nor an empty one."""
    try:
        return path.stat().st_size >= HEADER_BYTES
    except FileNotFoundError:
        return False


def _make(settings: Settings) -> None:
    """Make the file with its tables aside and move it into place, so that a kill never leaves a part of it."""
    folder = settings.warehouse.with_name("dbt") / f"{settings.warehouse.name}.unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    aside = settings.model_copy(update={"warehouse": folder / settings.warehouse.name})
    update_schema(aside)
    # Of a file that is gone; DuckDB would take it for the new one's.
    settings.wal.unlink(missing_ok=True)
    aside.warehouse.replace(settings.warehouse)
    ledger_copy.make(settings, (), taken_at=time.time())
    ledger_copy.confirm(settings)
    shutil.rmtree(folder)


def _schema_version(warehouse: duckdb.DuckDBPyConnection) -> int:
    """The last schema step that the warehouse took; 0: none. As the macro schema_version has it."""
    known = warehouse.execute(
        "from duckdb_tables() where schema_name = 'raw' and table_name = 'schema_versions'"
    ).fetchone()
    return warehouse.execute("select max(version) from raw.schema_versions").fetchone()[0] if known else 0


def _must_be_known(settings: Settings, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise WarehouseError(
            f"The warehouse {settings.warehouse} has schema version {version}, and this Tallymark knows those up to "
            f"{SCHEMA_VERSION}. A newer one wrote it: install that one again. Nothing was changed."
        )


@contextmanager
def transaction(warehouse: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit at the end, roll back on any exception."""
    warehouse.begin()
    try:
        yield
    except BaseException:
        warehouse.rollback()
        raise
    warehouse.commit()


def run_sql(warehouse: duckdb.DuckDBPyConnection, name: str, **parameters) -> duckdb.DuckDBPyConnection:
    """Run a statement of ``read_sql`` with its named parameters."""
    return warehouse.execute(read_sql(name), parameters or None)


def read_sql(name: str) -> str:
    """The file ``<package>/sql/<file>.sql`` that is named ``<package>/<file>``."""
    package, file = name.split("/")
    return (PACKAGES / package / "sql" / f"{file}.sql").read_text()


def utc_now() -> datetime:
    """Now in UTC, without a time zone: how the warehouse keeps times."""
    return as_utc(datetime.now(UTC))


def as_utc(moment: datetime) -> datetime:
    """An aware time as the warehouse keeps it."""
    return moment.astimezone(UTC).replace(tzinfo=None)
