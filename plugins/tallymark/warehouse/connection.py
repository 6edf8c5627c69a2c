"""Connections to the warehouse, a DuckDB file that one process at a time may write."""

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
    """Open the warehouse, and close it at the end.

    A missing warehouse is created unless ``read_only`` is set. A warehouse with an older schema version is upgraded.

    Raises:
        WarehouseError: if another process keeps it open for longer than ``lock.LOCK_TIMEOUT_SECONDS``, if a newer
            Tallymark wrote it, if the file is broken, or if the machine fails (a full disk, missing permissions).
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
            # Opening a reader inside a writer is a bug in the caller.
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
    """Commit at the end; roll back on any exception.

    Never delete and insert the same key in one transaction: if the commit fails, DuckDB terminates the process while
    it restores the index (seen with 1.5).
    """
    warehouse.begin()
    try:
        yield
    except BaseException:
        # The error may have ended the transaction already. Then rollback fails, and the original error matters.
        with suppress(duckdb.Error):
            warehouse.rollback()
        raise
    warehouse.commit()


def fetch_row(
    warehouse: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, Any] | list[Any] | None = None
) -> tuple[Any, ...]:
    """The first row of a query that always returns one, such as a count."""
    row, *_ = warehouse.execute(query, parameters).fetchall()
    return row


def run_sql(warehouse: duckdb.DuckDBPyConnection, name: str, **parameters: Any) -> duckdb.DuckDBPyConnection:
    """Run the SQL file that ``read_sql`` names, with named parameters."""
    return warehouse.execute(read_sql(name), parameters or None)


def read_sql(name: str) -> str:
    """The text of ``<package>/sql/<file>.sql``, which is named ``<package>/<file>``."""
    package, file = name.split("/")
    return (PACKAGES / package / "sql" / f"{file}.sql").read_text()


def utc_now() -> datetime:
    """The current time in UTC without a time zone, as the warehouse stores times."""
    return as_utc(datetime.now(UTC))


def as_utc(moment: datetime) -> datetime:
    """An aware time as the warehouse stores it: in UTC, without a time zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)
