"""Errors of the warehouse, explained to users: what happened, to which file, and what to do."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from tallymark import machine
from tallymark.errors import UserError
from tallymark.warehouse.lock import LOCKED

CONTINUES = "the next run continues where this one stopped."
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
    """The warehouse cannot be used. The message says why and what to do."""


def must_have_room(warehouse: Path, min_free_bytes: int) -> None:
    """Raise a WarehouseError if the disk of the warehouse has less than ``min_free_bytes`` free.

    Call it before each large write: a commit that fails for lack of space loses the whole transaction.
    """
    free = machine.free_bytes(warehouse)
    if free < min_free_bytes:
        raise WarehouseError(
            f"The disk of the warehouse is almost full: {warehouse} ({machine.human_size(free)} free, "
            f"{machine.human_size(min_free_bytes)} required by TALLYMARK_MIN_FREE_BYTES). "
            f"Free some space on it, or enlarge it; {CONTINUES}"
        )


@contextmanager
def errors_explained(warehouse: Path) -> Iterator[None]:
    """Turn errors of DuckDB, SQLite and the machine that users can fix into a WarehouseError; let others pass."""
    try:
        yield
    except (duckdb.Error, sqlite3.Error, OSError, MemoryError) as error:
        if found := explained(error, warehouse):
            raise found from error
        raise


def explained(error: Exception | str, warehouse: Path) -> WarehouseError | None:
    """A WarehouseError for an error of DuckDB, SQLite or the machine, or its text; None if users cannot fix it."""
    if LOCKED in str(error):
        return WarehouseError(
            f"The warehouse is open elsewhere: {warehouse}. Close it there (a DuckDB shell, a notebook, a dbt "
            f"run); {CONTINUES} DuckDB reports: {error}"
        )
    if OF_A_NEWER_DUCKDB in str(error):
        return WarehouseError(
            f"A newer DuckDB wrote the warehouse: {warehouse}. Install the version of Tallymark that wrote it. "
            f"Nothing was changed. DuckDB reports: {str(error).splitlines()[0]}"
        )
    if fault := machine.explain(error, warehouse):
        return WarehouseError(f"{fault.removesuffix('.')}; {CONTINUES}")
    if any(sign in str(error) for sign in SIGNS_OF_A_BROKEN_FILE):
        return broken(error, warehouse)
    return None


def broken(error: object, warehouse: Path) -> WarehouseError:
    """A WarehouseError for a file that DuckDB cannot read."""
    return WarehouseError(
        f"The warehouse cannot be read: {warehouse}. If its file is broken, rebuild it from the bucket with: "
        f"make rebuild. DuckDB reports: {error}"
    )
