"""The DuckDB file, for the process that may write it."""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from tenacity import before_sleep_log, retry, retry_if_exception, stop_after_delay, wait_fixed

from tallymark import ledger_copy
from tallymark.invoke_dbt import create_raw_tables
from tallymark.settings import Settings

log = logging.getLogger(__name__)
SQL_FOLDER = Path(__file__).parent / "sql"
LOCK_TIMEOUT_SECONDS = 30
# Three headers of 4,096 bytes begin a file of DuckDB. It keeps nothing before they are written.
HEADER_BYTES = 3 * 4_096
SIGNS_OF_A_BROKEN_FILE = ("Corrupt", "corrupt", "not a valid DuckDB", "checksum", "has been invalidated")


class WarehouseError(RuntimeError):
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


@contextmanager
def connect(settings: Settings, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse and close it again; one that is new gets its tables first.

    Raises:
        WarehouseError: when another process keeps it open for longer than ``LOCK_TIMEOUT_SECONDS``, or when the file
            is broken, as far as that shows on opening it or while it is used.
    """
    if not read_only and not _is_begun(settings.warehouse):
        _make(settings)
    try:
        warehouse = _open(settings.warehouse, read_only)
        if not read_only and not _has_raw_tables(warehouse):
            warehouse.close()
            create_raw_tables(settings)
            warehouse = _open(settings.warehouse, read_only)
    except duckdb.Error as error:
        raise _explained(settings, error) from error
    if not read_only:
        ledger_copy.forget_unless_true(settings)
    try:
        yield warehouse
    except duckdb.Error as error:
        if shows_a_broken_file(str(error)):
            raise _explained(settings, error) from error
        raise
    finally:
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
    create_raw_tables(aside)
    # Of a file that is gone; DuckDB would take it for the new one's.
    settings.wal.unlink(missing_ok=True)
    aside.warehouse.replace(settings.warehouse)
    ledger_copy.make(settings, (), taken_at=time.time())
    ledger_copy.confirm(settings)
    shutil.rmtree(folder)


def _has_raw_tables(warehouse: duckdb.DuckDBPyConnection) -> bool:
    found = warehouse.execute(
        "select 1 from information_schema.tables where table_schema = 'raw' and table_name = 'refused_chunks'"
    )
    return found.fetchone() is not None


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
    """Run ``sql/<name>.sql`` with its named parameters."""
    return warehouse.execute((SQL_FOLDER / f"{name}.sql").read_text(), parameters or None)


def utc_now() -> datetime:
    """Now in UTC, without a time zone: how the warehouse keeps times."""
    return as_utc(datetime.now(UTC))


def as_utc(moment: datetime) -> datetime:
    """An aware time as the warehouse keeps it."""
    return moment.astimezone(UTC).replace(tzinfo=None)
