"""``dbt build`` inside this process: models and sanity tests."""

import json
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from tallymark.settings import DBT_PROJECT, Settings

log = logging.getLogger(__name__)


class BuildError(RuntimeError):
    """A model or a sanity test failed; nothing may be exported."""


def build(settings: Settings, full_refresh: bool = False) -> None:
    """Bring models up to the last chunk in the ledger and test them.

    Raises:
        BuildError: naming each model or test that failed, with up to ten of the rows a test found.
    """
    arguments = ["build", "--exclude-resource-type", "unit_test", "--exclude", "tag:audit"]
    result = _dbt(settings, arguments + ["--full-refresh"] * full_refresh, parse(settings))
    failed = []
    for node in result.result or []:
        level = logging.INFO if node.status in ("success", "pass", "skipped") else logging.ERROR
        log.log(level, "%-8s %6.2f s  %s", node.status, node.execution_time, node.node.name)
        if level == logging.ERROR:
            failed.append(f"{node.node.resource_type} {node.node.name}: {node.message}{_rows(settings, node)}")
    if not result.success:
        raise BuildError(
            "Nothing is exported, because dbt build failed. What is held back goes out with the first run "
            "that passes.\n" + ("\n".join(failed) or str(result.exception))
        )


def create_raw_tables(settings: Settings) -> None:
    """Create the tables that the load and the export write, in a new warehouse."""
    result = _dbt(settings, ["run-operation", "create_raw_tables"], None)
    if not result.success:
        raise BuildError(f"The warehouse {settings.warehouse} could not be set up: {result.exception}")


def _rows(settings: Settings, node: Any) -> str:
    if node.node.resource_type != "test" or not node.failures:
        return ""
    import duckdb

    with duckdb.connect(str(settings.warehouse), read_only=True) as warehouse:
        rows = warehouse.execute(f"select * from ({node.node.compiled_code}) limit 10")
        names = [column[0] for column in rows.description]
        return "".join(f"\n    {dict(zip(names, row, strict=True))}" for row in rows.fetchall())


def parse(settings: Settings) -> Any:
    """The parsed project, kept for this process: parsing takes longer than a build of one chunk."""
    return _parse(json.dumps(settings.vars, sort_keys=True), settings.warehouse)


@lru_cache(maxsize=8)
def _parse(variables: str, warehouse: Path) -> Any:
    result = _dbt(Settings(vars=json.loads(variables), warehouse=warehouse), ["parse"], None)
    if not result.success:
        raise BuildError(f"dbt cannot read the project: {result.exception}")
    return result.result


def _dbt(settings: Settings, arguments: list[str], manifest: Any) -> Any:
    """Invoke dbt, and close the warehouse that its adapter would keep open."""
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
