"""Run ``dbt build`` in this process: models and sanity tests."""

import logging
from collections.abc import Iterable
from typing import Any

from tallymark.errors import UserError
from tallymark.lake import Lake, open_lake
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.warehouse.connection import fetch_row, utc_now
from tallymark.warehouse.errors import errors_explained, explained, must_have_room
from tallymark.warehouse.invoke_dbt import sanity_tests

log = logging.getLogger(__name__)

PASSED = {"model": "success", "test": "pass"}
GOOD = (*PASSED.values(), "skipped")
DID_NOT_RUN = "did not run"
# Ephemeral models are compiled into the models that read them; as separate nodes they would be compiled twice.
# Without --indirect-selection empty, excluding them would also exclude the tests that read them.
BUILD = [
    *("build", "--exclude-resource-type", "unit_test", "--indirect-selection", "empty"),
    *("--exclude", "tag:audit", "config.materialized:ephemeral"),
]


class BuildError(UserError, RuntimeError):
    """A model or sanity test failed or did not run. Nothing may be exported."""


def build_models(settings: Settings, full_refresh: bool = False, store: Store | None = None) -> dict[str, int]:
    """Build the models up to the last chunk in the ledger, test them, and record the sanity tests that passed.

    Args:
        store: the bucket; needed if rows are staged there on their way to Spark.

    Returns:
        The number of ``models`` built, of ``tests`` passed, and of ``detections`` in the batch.

    Raises:
        BuildError: naming each model or test that failed or did not run, with up to ten failing rows per test.
        WarehouseError: if the warehouse is open elsewhere or broken, or the machine failed, as with a full disk.
    """
    rows: dict[str, int] = {}
    missing: list[str] = []

    def record(nodes: Iterable[Any], warehouse: Any) -> None:
        missing.extend(not_passed(lake.manifest(), nodes))
        if missing:
            return
        warehouse.execute(
            "insert into output.passed_builds by name "
            "select max(chunk_seq) as chunk_seq, ? as passed_at, ?::varchar[] as sanity_tests from batch_chunks",
            [utc_now(), sorted(_names(nodes, "test"))],
        )
        tables = {name for (name,) in warehouse.execute("select table_name from duckdb_tables()").fetchall()}
        rows.update(
            (name, fetch_row(warehouse, "select count(*) from query_table(?)", [name])[0])
            for name in _names(nodes, "model")
            if name in tables
        )

    with errors_explained(settings.warehouse):
        must_have_room(settings.warehouse, settings.min_free_bytes)
        lake = open_lake(settings, store)
        result, nodes = lake.build(BUILD, full_refresh, record)
    _log_nodes(nodes, rows)
    if not result.success:
        failed = [node for node in nodes if node.status not in GOOD]
        errors = [str(node.message) for node in failed if node.status == "error"] or [str(result.exception)]
        if found := explained("\n".join(errors), settings.warehouse):
            raise found from result.exception
        raise BuildError(
            "Nothing is exported: dbt build failed. The first run that passes exports the detections held back until "
            "then. If the state was built from wrong rows, recompute it with tallymark build --full-refresh.\n"
            + ("\n".join(_failure(lake, node) for node in failed) or str(result.exception))
        )
    if missing:
        raise BuildError(
            f"Nothing is exported. These models and tests did not run or did not pass: {', '.join(missing)}. Every "
            "model and sanity test in dbt_project must run, and every sanity test must be enabled with severity error."
        )
    models, tests = (len(_names(nodes, kind)) for kind in PASSED)
    log.info("dbt build: models built: %d; sanity tests passed: %d of %d", models, tests, tests)
    return {"models": models, "tests": tests, "detections": rows["batch_detections"]}


def not_passed(manifest: Any, nodes: Iterable[Any]) -> list[str]:
    """Models and tests that a build did not run or pass, such as ``test files_are_in_order (skipped)``.

    A build must run all models except ephemeral ones, and all tests except those of the audit.

    Args:
        manifest: the parsed project.
        nodes: the build's results.
    """
    wanted = [
        node
        for node in manifest.nodes.values()
        if node.resource_type in PASSED and "audit" not in node.tags and not node.is_ephemeral_model
    ]
    statuses = {node.node.unique_id: node.status for node in nodes}
    found = [(node.resource_type, node.name, statuses.get(node.unique_id, DID_NOT_RUN)) for node in wanted]
    # Disabled tests are not in the manifest.
    found += [("test", name, DID_NOT_RUN) for name in sanity_tests() - {node.name for node in wanted}]
    return [f"{kind} {name} ({status})" for kind, name, status in sorted(found) if status != PASSED[kind]]


def _names(nodes: Iterable[Any], kind: str) -> list[str]:
    return [node.node.name for node in nodes if node.node.resource_type == kind]


def _log_nodes(nodes: Iterable[Any], rows: dict[str, int]) -> None:
    """Log a line per model and test: status, seconds, and rows in the table or rows that failed the test."""
    for node in nodes:
        name = node.node.name
        level = logging.INFO if node.status in GOOD else logging.ERROR
        count = rows.get(name, node.failures)
        shown = "" if count is None else f"{count:,} {'row' if count == 1 else 'rows'}"
        log.log(level, "%-8s %6.2f s %14s  %s", node.status, node.execution_time, shown, name)


def _failure(lake: Lake, node: Any) -> str:
    return f"{node.node.resource_type} {node.node.name}: {node.message}{failing_rows(lake, node)}"


def failing_rows(lake: Lake, node: Any) -> str:
    """Up to ten rows that failed a dbt test, one per line; empty for other nodes."""
    if node.node.resource_type != "test" or not node.failures:
        return ""
    return "".join(f"\n    {row}" for row in lake.failing_rows(node.node, 10))
