"""The DuckDB file, for the one process that may write it."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from tallymark.settings import Settings
from tallymark.warehouse.errors import broken, errors_explained, explained, must_have_room
from tallymark.warehouse.invoke_dbt import update_schema
from tallymark.warehouse.ledger_index import LedgerIndex
from tallymark.warehouse.lock import open_when_free
from tallymark.warehouse.schema import create_unless_begun, needs_upgrade

log = logging.getLogger(__name__)
PACKAGES = Path(__file__).parents[1]


@contextmanager
def connect(settings: Settings, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse and close it again; a new one, or one of an older schema version, gets its tables first.

    Raises:
        WarehouseError: when another process keeps it open for longer than ``lock.LOCK_TIMEOUT_SECONDS``, when a newer
            Tallymark wrote it, when the file is broken, or when the machine fails (a full disk, missing permissions).
    """
    index = LedgerIndex(settings.warehouse, settings.limits)
    with errors_explained(settings.warehouse), ExitStack() as opened:
        if not read_only:
            must_have_room(settings.warehouse, settings.min_free_bytes)
            create_unless_begun(settings)
        try:
            warehouse = opened.enter_context(open_when_free(settings.warehouse, read_only))
            if needs_upgrade(settings, warehouse):
                warehouse.close()
                update_schema(settings)
                warehouse = opened.enter_context(open_when_free(settings.warehouse, read_only))
        except duckdb.ConnectionException:
            # A reader inside a writer is an error of the caller.
            raise
        except duckdb.Error as error:
            raise (explained(error, settings.warehouse) or broken(error, settings.warehouse)) from error
        if not read_only:
            index.discard_unless_valid()
        yield warehouse
    if not read_only:
        index.confirm()


@contextmanager
def transaction(warehouse: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit at the end, roll back on any exception.

    No key of a table may be deleted and inserted again in one transaction: if its commit fails, DuckDB ends the
    process while it restores the index (seen with 1.5).
    """
    warehouse.begin()
    try:
        yield
    except BaseException:
        # After an error that ends the transaction there is nothing to roll back, and the first error counts.
        with suppress(duckdb.Error):
            warehouse.rollback()
        raise
    warehouse.commit()


def fetch_row(
    warehouse: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, Any] | list[Any] | None = None
) -> tuple[Any, ...]:
    """The first row of a query that always has one, such as a count."""
    row, *_ = warehouse.execute(query, parameters).fetchall()
    return row


def run_sql(warehouse: duckdb.DuckDBPyConnection, name: str, **parameters: Any) -> duckdb.DuckDBPyConnection:
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
