"""Move raw rows and state from the warehouse to Spark, or back: docs/spark.md."""

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
    """The rows cannot be moved. Nothing was changed."""


def migrate_engine(settings: Settings, store: Store, engine: str, show: Show = ignore) -> dict[str, int]:
    """Move the raw rows to another engine, recompute the state there, audit it, and then switch the warehouse.

    The current warehouse is kept as ``<name>.before_migration``. Nothing is changed before the switch.

    Args:
        settings: settings of the engine that holds the rows, if it is not DuckDB.
        engine: the target engine: duckdb, spark or databricks.

    Returns:
        The number of transaction ``rows`` on the target engine, and of ``audit_tests`` that passed.

    Raises:
        MigrationError: if the rows are already there, or if ``settings`` do not name the engine that holds them.
        AuditError: if the exported detections do not follow from the rows.
        BuildError, LakeError, WarehouseError: as in every build.
    """
    if not settings.warehouse.exists():
        raise MigrationError(
            f"There is no warehouse {settings.warehouse}, so there is nothing to move. Set TALLYMARK_ENGINE={engine} "
            "and start the pipeline."
        )
    with replacement(settings, "migration") as (new, current):
        if current is None:
            raise MigrationError(
                f"The warehouse cannot be read: {settings.warehouse}. Rebuild it from the bucket with: make rebuild"
            )
        (schema,) = fetch_row(current, "select max(schema_name) from lake.about")
        _must_be_possible(settings, engine, schema)
        current.execute("checkpoint")
        show(0, 3, "Moving raw rows")
        shutil.copyfile(settings.warehouse, new.warehouse)
        moved = new.model_copy(update={"engine": engine})
        if schema:
            with connect(new) as warehouse:
                OnSpark(new, store).detach(warehouse)
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
        raise MigrationError(
            f"The raw rows are already in the warehouse {settings.warehouse}. There is nothing to move."
        )
    if schema and engine != "duckdb":
        raise MigrationError(
            f"The raw rows are already on Spark, in the schema {schema}. To move them to another Spark, move them to "
            "duckdb first, and from there to the other Spark."
        )
    if schema and settings.engine == "duckdb":
        raise MigrationError(
            f"The raw rows are on Spark, in the schema {schema}. Set TALLYMARK_ENGINE to the engine that holds them, "
            "and change it after the migration."
        )
