"""The schema of the warehouse: created with the file, and upgraded when a newer Tallymark opens it."""

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
# A DuckDB file starts with three headers of 4,096 bytes each; a shorter file holds no data.
HEADER_BYTES = 3 * 4_096
# DuckDB writes this format in three quarters of the time that its newest format takes.
STORAGE_FORMAT = "v1.4.0"


def create_unless_begun(settings: Settings) -> None:
    """Create the warehouse with its tables, unless a file exists that may hold data.

    The file is created in another folder and then moved into place, so a kill never leaves part of a warehouse.
    """
    try:
        if settings.warehouse.stat().st_size >= HEADER_BYTES:
            return
    except FileNotFoundError:
        pass
    folder = settings.warehouse.with_name("dbt") / f"{settings.warehouse.name}.unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    new = settings.model_copy(update={"warehouse": folder / settings.warehouse.name})
    try:
        duckdb.connect(str(new.warehouse), config={"storage_compatibility_version": STORAGE_FORMAT}).close()
        try:
            update_schema(new)
        except DbtError as error:
            # After a failed write, dbt opens the file again and reports only that it is too short.
            if TOO_SHORT in str(error):
                raise explained(os.strerror(errno.EIO), new.warehouse) or error from error
            raise
        # DuckDB would replay the WAL of a deleted warehouse into the new one.
        settings.warehouse.with_name(f"{settings.warehouse.name}.wal").unlink(missing_ok=True)
        new.warehouse.replace(settings.warehouse)
        index = LedgerIndex(settings.warehouse, settings.limits)
        index.create((), taken_at=time.time())
        index.confirm()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def needs_upgrade(settings: Settings, warehouse: duckdb.DuckDBPyConnection) -> bool:
    """Whether an older Tallymark wrote the warehouse, so that ``update_schema`` must run.

    Raises:
        WarehouseError: if a newer Tallymark wrote it.
    """
    known = warehouse.execute(
        "from duckdb_tables() where schema_name = 'raw' and table_name = 'schema_versions'"
    ).fetchall()
    # Read the result to its end, because nothing else can be read while it is open.
    [(version,)] = warehouse.execute("select max(version) from raw.schema_versions").fetchall() if known else [(0,)]
    if version > SCHEMA_VERSION:
        raise WarehouseError(
            f"The warehouse {settings.warehouse} has schema version {version}, but this Tallymark knows versions up to "
            f"{SCHEMA_VERSION}. Install the newer Tallymark that wrote it. Nothing was changed."
        )
    return version < SCHEMA_VERSION
