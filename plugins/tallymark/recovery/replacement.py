"""A warehouse that is made aside and then takes the place of the present one."""

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
    """Let a new warehouse replace the present one at the end; after an error, everything stays as it was.

    The present one is open, so that nobody else writes to it meanwhile, and is kept as ``<name>.before_<purpose>``.

    Args:
        purpose: one word, which also names the file that the new warehouse has until then.

    Yields:
        The settings of the new warehouse, which does not exist yet, and the present one; None: it is not there, or
        cannot be read.

    Raises:
        WarehouseError: when another process has the present warehouse open.
    """
    suffix = settings.warehouse.suffix
    new = settings.model_copy(update={"warehouse": settings.warehouse.with_suffix(f".{purpose}{suffix}")})
    _remove(new)
    with ExitStack() as opened:
        present = _open(settings, opened)
        on_spark = present and fetch_row(present, "select max(schema_name) from lake.about")[0]
        try:
            yield new, present
        except BaseException:
            # What is there is of no use to the next attempt, and may be what fills the disk.
            _remove(new)
            raise
        if present:
            present.execute("checkpoint")
        LedgerIndex(settings.warehouse, settings.limits).discard()
        for path in _files(settings.warehouse):
            if path.exists():
                path.replace(path.with_name(f"{path.name}.before_{purpose}"))
        new.warehouse.replace(settings.warehouse)
        _remove(new)
        if on_spark:
            log.info("Nothing reads the schema %s on Spark any more. Drop it once you are sure to stay", on_spark)


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
    """The DuckDB file and its log."""
    return warehouse, warehouse.with_name(f"{warehouse.name}.wal")
