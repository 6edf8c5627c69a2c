"""The tables of the warehouse: created with its file, and upgraded when a newer Tallymark opens it."""

import errno
import os
import shutil
import time

import duckdb

from tallymark.patterns import DBT_PROJECT
from tallymark.settings import Settings
from tallymark.warehouse.errors import TOO_SHORT, WarehouseError, explained
from tallymark.warehouse.invoke_dbt import DbtError, update_schema
from tallymark.warehouse.ledger_index import LedgerIndex

SCHEMA_VERSION = len(list((DBT_PROJECT / "macros" / "schema").glob("step_*.sql")))
# A DuckDB file begins with three headers of 4,096 bytes, and holds nothing before they are written.
HEADER_BYTES = 3 * 4_096
# DuckDB writes it in three quarters of the time that its newest format takes.
STORAGE_FORMAT = "v1.4.0"


def create_unless_begun(settings: Settings) -> None:
    """Create the file with its tables, unless there is one that may hold something.

    It is made aside and moved into place, so that a kill never leaves a part of it.
    """
    try:
        if settings.warehouse.stat().st_size >= HEADER_BYTES:
            return
    except FileNotFoundError:
        pass
    folder = settings.warehouse.with_name("dbt") / f"{settings.warehouse.name}.unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    aside = settings.model_copy(update={"warehouse": folder / settings.warehouse.name})
    try:
        duckdb.connect(str(aside.warehouse), config={"storage_compatibility_version": STORAGE_FORMAT}).close()
        try:
            update_schema(aside)
        except DbtError as error:
            # dbt opens a file that it failed to write once more, and reports only that it is too short.
            if TOO_SHORT in str(error):
                raise explained(os.strerror(errno.EIO), aside.warehouse) or error from error
            raise
        # DuckDB would replay the log of a file that is gone.
        settings.warehouse.with_name(f"{settings.warehouse.name}.wal").unlink(missing_ok=True)
        aside.warehouse.replace(settings.warehouse)
        index = LedgerIndex(settings.warehouse, settings.limits)
        index.create((), taken_at=time.time())
        index.confirm()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def needs_upgrade(settings: Settings, warehouse: duckdb.DuckDBPyConnection) -> bool:
    """Whether ``update_schema`` has to run, as an older Tallymark wrote the warehouse.

    Raises:
        WarehouseError: when a newer one wrote it.
    """
    known = warehouse.execute(
        "from duckdb_tables() where schema_name = 'raw' and table_name = 'schema_versions'"
    ).fetchall()
    # Of a result that was not read to its end, nothing else could be read beside.
    [(version,)] = warehouse.execute("select max(version) from raw.schema_versions").fetchall() if known else [(0,)]
    if version > SCHEMA_VERSION:
        raise WarehouseError(
            f"The warehouse {settings.warehouse} has schema version {version}, but this Tallymark knows versions up to "
            f"{SCHEMA_VERSION}. Install the newer Tallymark that wrote it. Nothing was changed."
        )
    return version < SCHEMA_VERSION
