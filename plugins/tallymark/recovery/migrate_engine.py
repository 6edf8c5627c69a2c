"""Raw rows and state moved from the warehouse to Spark, or back: docs/spark.md."""

import shutil

from tallymark.audit import audit
from tallymark.errors import UserError
from tallymark.lake.in_warehouse import InWarehouse
from tallymark.lake.on_spark import OnSpark
from tallymark.pipeline.build import build_models
from tallymark.progress import Show, ignore
from tallymark.recovery.replacement import replacement
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.warehouse.connection import connect, fetch_row


class MigrationError(UserError, RuntimeError):
    """The rows cannot be moved; nothing was changed."""


def migrate_engine(settings: Settings, store: Store, engine: str, show: Show = ignore) -> dict[str, int]:
    """Move raw rows to another engine, make state anew there, audit all of it, and only then switch the warehouse.

    The present warehouse is kept as ``<name>.before_migration``. Until the switch, both sides stay as they were.

    Args:
        settings: with the engine that holds the rows, if that is not DuckDB.
        engine: duckdb, spark or databricks.

    Returns:
        How many ``rows`` of transactions are there now, and how many ``audit_tests`` passed.

    Raises:
        MigrationError: when the rows are there already, or on another engine than both.
        AuditError: when what was exported does not follow from the rows.
        BuildError, LakeError, WarehouseError: as in each build.
    """
    if not settings.warehouse.exists():
        raise MigrationError(f"There is no warehouse {settings.warehouse}. Set TALLYMARK_ENGINE={engine} and start")
    with replacement(settings, "migration") as (new, present):
        if present is None:
            raise MigrationError(f"The warehouse {settings.warehouse} cannot be read: make rebuild")
        (schema,) = fetch_row(present, "select max(schema_name) from lake.about")
        _must_be_possible(settings, engine, schema)
        present.execute("checkpoint")
        show(0, 3, "Moving raw rows")
        shutil.copyfile(settings.warehouse, new.warehouse)
        moved = new.model_copy(update={"engine": engine})
        if schema:
            with connect(new) as warehouse:
                OnSpark(new, store).take_rows_back(warehouse)
        else:
            InWarehouse(new).drop_models()
        show(1, 3, "Building state")
        build_models(moved, full_refresh=True, store=store)
        show(2, 3, "Auditing")
        tests = audit(moved, store)["tests"]
        with connect(moved, read_only=True) as warehouse:
            rows = fetch_row(warehouse, "select coalesce(sum(rows_accepted), 0)::bigint from raw.chunks")[0]
    return {"rows": rows, "audit_tests": tests}


def _must_be_possible(settings: Settings, engine: str, schema: str | None) -> None:
    if schema is None and engine == "duckdb":
        raise MigrationError(f"The warehouse {settings.warehouse} holds its raw rows itself already")
    if schema and engine != "duckdb":
        raise MigrationError(
            f"The raw rows are on Spark already, in the schema {schema}. To move them to another Spark, move them to "
            "duckdb first, and from there to the other one"
        )
    if schema and settings.engine == "duckdb":
        raise MigrationError(
            f"The raw rows are on Spark, in the schema {schema}. Set TALLYMARK_ENGINE to the engine that holds them "
            "until they are moved"
        )
