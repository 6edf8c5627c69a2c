"""Replace the warehouse with one that was built in a separate file."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb

from tallymark.settings import Settings
from tallymark.warehouse.connection import connect, fetch_row
from tallymark.warehouse.errors import WarehouseError
from tallymark.warehouse.ledger_index import LedgerIndex
from tallymark.warehouse.lock import is_locked

log = logging.getLogger(__name__)


@contextmanager
def replacement(settings: Settings, purpose: str) -> Iterator[tuple[Settings, duckdb.DuckDBPyConnection | None]]:
    """Replace the current warehouse with a new one at the end; after an error, everything stays as it was.

    The current warehouse stays open meanwhile, so that nobody else writes to it. It is kept as
    ``<name>.before_<purpose>``.

    Args:
        purpose: one word; also part of the temporary name of the new warehouse.

    Yields:
        Settings of the new warehouse, which does not exist yet, and a connection to the current one; None if that is
        missing or cannot be read.

    Raises:
        WarehouseError: if another process has the current warehouse open.
    """
    suffix = settings.warehouse.suffix
    new = settings.model_copy(update={"warehouse": settings.warehouse.with_suffix(f".{purpose}{suffix}")})
    _remove(new)
    with ExitStack() as opened:
        current = _open(settings, opened)
        spark_schema = current and fetch_row(current, "select max(schema_name) from lake.about")[0]
        try:
            yield new, current
        except BaseException:
            # The next attempt cannot use the partial file, and it may be what fills the disk.
            _remove(new)
            raise
        if current:
            current.execute("checkpoint")
        LedgerIndex(settings.warehouse, settings.limits).discard()
        for path in _files(settings.warehouse):
            if path.exists():
                path.replace(path.with_name(f"{path.name}.before_{purpose}"))
        new.warehouse.replace(settings.warehouse)
        _remove(new)
        if spark_schema:
            log.info("The schema %s on Spark is no longer used. Drop it when you no longer need it", spark_schema)


def _open(settings: Settings, opened: ExitStack) -> duckdb.DuckDBPyConnection | None:
    if not settings.warehouse.exists():
        return None
    try:
        return opened.enter_context(connect(settings))
    except WarehouseError as error:
        if is_locked(error.__cause__):
            raise
        return None


def _remove(settings: Settings) -> None:
    for path in _files(settings.warehouse):
        path.unlink(missing_ok=True)
    LedgerIndex(settings.warehouse, settings.limits).discard()


def _files(warehouse: Path) -> tuple[Path, Path]:
    """The DuckDB file and its WAL."""
    return warehouse, warehouse.with_name(f"{warehouse.name}.wal")
