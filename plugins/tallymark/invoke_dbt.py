"""dbt inside this process; a command line of its own takes seconds longer."""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from tallymark.settings import DBT_PROJECT, Settings


class DbtError(RuntimeError):
    """dbt cannot read the project, or cannot set up the warehouse."""


def create_raw_tables(settings: Settings) -> None:
    """Create the tables that the load and the export write, in a new warehouse."""
    result = invoke(settings, ["run-operation", "create_raw_tables"])
    if not result.success:
        raise DbtError(f"The warehouse {settings.warehouse} could not be set up: {result.exception}")


def parse(settings: Settings) -> Any:
    """The parsed project, kept for this process: parsing takes longer than a build of one chunk."""
    return _parse(json.dumps(settings.vars, sort_keys=True), settings.warehouse)


@lru_cache(maxsize=8)
def _parse(variables: str, warehouse: Path) -> Any:
    result = invoke(Settings(vars=json.loads(variables), warehouse=warehouse), ["parse"])
    if not result.success:
        raise DbtError(f"dbt cannot read the project: {result.exception}")
    return result.result


def invoke(settings: Settings, arguments: list[str], manifest: Any = None) -> Any:
    """Run a dbt command and close the warehouse that its adapter would keep open; returns a dbtRunnerResult."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    os.environ["TALLYMARK_WAREHOUSE"] = str(settings.warehouse.absolute())
    working_folder = settings.warehouse.absolute().parent / "dbt"
    options = [
        *("--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)),
        *("--target-path", str(working_folder), "--log-path", str(working_folder)),
        *("--vars", json.dumps(settings.vars), "--log-level", "none"),
        *("--no-send-anonymous-usage-stats", "--no-write-json"),
    ]
    try:
        return dbtRunner(manifest=manifest).invoke([*arguments, *options])
    finally:
        DuckDBConnectionManager.close_all_connections()
