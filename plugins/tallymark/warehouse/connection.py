"""The DuckDB file, for the process that may write it."""

import errno
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from tenacity import before_sleep_log, retry, retry_if_exception, stop_after_delay, wait_fixed

from tallymark import machine
from tallymark.errors import UserError
from tallymark.patterns import DBT_PROJECT
from tallymark.settings import Settings
from tallymark.warehouse.invoke_dbt import DbtError, update_schema
from tallymark.warehouse.ledger_index import LedgerIndex

log = logging.getLogger(__name__)
SCHEMA_VERSION = len(list((DBT_PROJECT / "macros" / "schema").glob("step_*.sql")))
PACKAGES = Path(__file__).parents[1]
LOCK_TIMEOUT_SECONDS = 30
CONTINUES = "the next run continues where this one stopped."
# Three headers of 4,096 bytes begin a file of DuckDB. It keeps nothing before they are written.
HEADER_BYTES = 3 * 4_096
LOCKED = "lock on file"
TOO_SHORT = "Could not read enough bytes"
OF_A_NEWER_DUCKDB = "created with a newer version of DuckDB"
SIGNS_OF_A_BROKEN_FILE = (
    "Corrupt",
    "corrupt",
    "not a valid DuckDB",
    "checksum",
    "has been invalidated",
    TOO_SHORT,
)


class WarehouseError(UserError, RuntimeError):
    """The warehouse cannot be used; the message says why and what to do."""


def is_locked(error: BaseException | None) -> bool:
    """Whether DuckDB reports that another process has the file open."""
    return isinstance(error, duckdb.IOException) and LOCKED in str(error)


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
    """Connections of this thread, each with its settings, by the paths of their files."""

    def __init__(self):
        self.by_path: dict[Path, tuple[duckdb.DuckDBPyConnection, Settings]] = {}


_open_here = _OpenHere()


@contextmanager
def connect(settings: Settings, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse and close it again; a new one, or one of an older schema version, gets its tables first.

    A connection within another one is the same connection: to open and close takes longer than most queries.

    Raises:
        WarehouseError: when another process keeps it open for longer than ``LOCK_TIMEOUT_SECONDS``, when a newer
            Tallymark wrote it, when the file is broken, or when the machine fails (a full disk, missing permissions).
    """
    if settings.warehouse in _open_here.by_path:
        yield _open_here.by_path[settings.warehouse][0]
        return
    with errors_explained(settings):
        warehouse = _opened(settings, read_only)
        if not read_only:
            LedgerIndex(settings).discard_unless_valid()
        _open_here.by_path[settings.warehouse] = warehouse, settings
        try:
            yield warehouse
        finally:
            del _open_here.by_path[settings.warehouse]
            warehouse.close()
    if not read_only:
        LedgerIndex(settings).confirm()


def _opened(settings: Settings, read_only: bool) -> duckdb.DuckDBPyConnection:
    if not read_only:
        must_have_room(settings)
        if not _is_begun(settings.warehouse):
            _make(settings)
    try:
        warehouse = _open(settings.warehouse, read_only)
        if (version := _schema_version(warehouse)) != SCHEMA_VERSION:
            warehouse.close()
            _must_be_known(settings, version)
            update_schema(settings)
            warehouse = _open(settings.warehouse, read_only)
    except duckdb.Error as error:
        raise (explained(settings, error) or broken(settings, error)) from error
    return warehouse


def must_have_room(settings: Settings) -> None:
    """Raise a WarehouseError when the disk of the warehouse has less than ``min_free_bytes`` free.

    It comes before each write: a commit that fails for lack of space costs the whole transaction.
    """
    free = machine.free_bytes(settings.warehouse)
    if free < settings.min_free_bytes:
        raise WarehouseError(
            f"The disk of the warehouse is almost full: {settings.warehouse} ({machine.human_size(free)} free, "
            f"{machine.human_size(settings.min_free_bytes)} needed, by TALLYMARK_MIN_FREE_BYTES). "
            f"Free some space on it, or enlarge it; {CONTINUES}"
        )


@contextmanager
def errors_explained(settings: Settings) -> Iterator[None]:
    """Turn errors of DuckDB, SQLite and the machine that people can fix into a WarehouseError; others pass."""
    try:
        yield
    except (duckdb.Error, sqlite3.Error, OSError, MemoryError) as error:
        if found := explained(settings, error):
            raise found from error
        raise


def explained(settings: Settings, error: Exception | str) -> WarehouseError | None:
    """What to tell about an error of DuckDB, SQLite or the machine, or about its text; None if people cannot fix it."""
    if LOCKED in str(error):
        return WarehouseError(
            f"The warehouse is open elsewhere: {settings.warehouse}. Close it there (a DuckDB shell, a notebook, a dbt "
            f"run); {CONTINUES} DuckDB reports: {error}"
        )
    if OF_A_NEWER_DUCKDB in str(error):
        return WarehouseError(
            f"A newer DuckDB wrote the warehouse {settings.warehouse}. Install the version of Tallymark that wrote it. "
            f"Nothing was changed. DuckDB reports: {str(error).splitlines()[0]}"
        )
    if fault := machine.explain(error, settings.warehouse):
        return WarehouseError(f"{fault.removesuffix('.')}; {CONTINUES}")
    if any(sign in str(error) for sign in SIGNS_OF_A_BROKEN_FILE):
        return broken(settings, error)
    return None


def broken(settings: Settings, error: object) -> WarehouseError:
    """What to tell about a file that is not what DuckDB wrote."""
    return WarehouseError(
        f"The warehouse cannot be read: {settings.warehouse}. If its file is broken, rebuild it from the bucket with: "
        f"make rebuild. DuckDB reports: {error}"
    )


def _is_begun(path: Path) -> bool:
    """Whether there is a file that may hold something: not one whose making was killed, nor an empty one."""
    try:
        return path.stat().st_size >= HEADER_BYTES
    except FileNotFoundError:
        return False


def _make(settings: Settings) -> None:
    """Create the file with its tables aside and move it into place, so that a kill never leaves a part of it."""
    folder = settings.warehouse.with_name("dbt") / f"{settings.warehouse.name}.unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    aside = settings.model_copy(update={"warehouse": folder / settings.warehouse.name})
    try:
        try:
            update_schema(aside)
        except DbtError as error:
            # dbt opens a file that it failed to write once more, and reports only that it is too short.
            if TOO_SHORT in str(error):
                unwritten = machine.explain(OSError(errno.EIO, os.strerror(errno.EIO), str(aside.warehouse)))
                raise WarehouseError(f"{unwritten.removesuffix('.')}; {CONTINUES}") from error
            raise
        # Of a file that is gone; DuckDB would take it for the new one's.
        settings.wal.unlink(missing_ok=True)
        aside.warehouse.replace(settings.warehouse)
        LedgerIndex(settings).create((), taken_at=time.time())
        LedgerIndex(settings).confirm()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    """Commit at the end, roll back on any exception.

    No key of a table may be deleted and inserted again in one transaction: if its commit fails, DuckDB ends the
    process while it restores the index (seen with 1.5).

    Raises:
        WarehouseError: when the disk is almost full; nothing was changed.
    """
    for connection, settings in _open_here.by_path.values():
        if connection is warehouse:
            must_have_room(settings)
    warehouse.begin()
    try:
        yield
    except BaseException:
        # After an error that ends the transaction there is nothing to roll back, and the first error counts.
        with suppress(duckdb.Error):
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
