"""``dbt build`` inside this process: models and sanity tests."""

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
# An ephemeral model is compiled with those that read it; as a node of its own it would only be compiled once more.
# Without --indirect-selection, dbt would leave out the tests that read one, too.
BUILD = [
    *("build", "--exclude-resource-type", "unit_test", "--indirect-selection", "empty"),
    *("--exclude", "tag:audit", "config.materialized:ephemeral"),
]


class BuildError(UserError, RuntimeError):
    """A model or a sanity test failed or did not run; nothing may be exported."""


def build_models(settings: Settings, full_refresh: bool = False, store: Store | None = None) -> dict[str, int]:
    """Bring models up to the last chunk in the ledger, test them, and record which sanity tests passed.

    Args:
        store: the bucket, if rows travel to Spark through it.

    Returns:
        How many ``models`` were run and ``tests`` passed, and how many ``detections`` the batch made.

    Raises:
        BuildError: naming each model or test that failed or did not run, with up to ten of the rows a test found.
        WarehouseError: when the warehouse is open elsewhere or broken, or the machine failed, as with a full disk.
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
        here = {name for (name,) in warehouse.execute("select table_name from duckdb_tables()").fetchall()}
        rows.update(
            (name, fetch_row(warehouse, "select count(*) from query_table(?)", [name])[0])
            for name in _names(nodes, "model")
            if name in here
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
            "Nothing is exported, because dbt build failed. What is held back goes out with the first run that "
            "passes. If state was built from wrong rows, tallymark build --full-refresh makes it anew.\n"
            + ("\n".join(_failure(lake, node) for node in failed) or str(result.exception))
        )
    if missing:
        raise BuildError(
            f"Nothing is exported, because dbt build did not run everything: {', '.join(missing)}. Each model and "
            "sanity test in dbt_project must run, and each sanity test must be enabled and have the severity error."
        )
    models, tests = (len(_names(nodes, kind)) for kind in PASSED)
    log.info("dbt build: models built: %d; sanity tests passed: %d of %d", models, tests, tests)
    return {"models": models, "tests": tests, "detections": rows["batch_detections"]}


def not_passed(manifest: Any, nodes: Iterable[Any]) -> list[str]:
    """What a build must run and did not, or what did not pass, such as ``test files_are_in_order (skipped)``.

    It must run all models but ephemeral ones, and all tests but those of the audit.

    Args:
        manifest: the parsed project.
        nodes: the results of the build.
    """
    wanted = [
        node
        for node in manifest.nodes.values()
        if node.resource_type in PASSED and "audit" not in node.tags and not node.is_ephemeral_model
    ]
    statuses = {node.node.unique_id: node.status for node in nodes}
    found = [(node.resource_type, node.name, statuses.get(node.unique_id, DID_NOT_RUN)) for node in wanted]
    # A test that is disabled is not in the manifest.
    found += [("test", name, DID_NOT_RUN) for name in sanity_tests() - {node.name for node in wanted}]
    return [f"{kind} {name} ({status})" for kind, name, status in sorted(found) if status != PASSED[kind]]


def _names(nodes: Iterable[Any], kind: str) -> list[str]:
    return [node.node.name for node in nodes if node.node.resource_type == kind]


def _log_nodes(nodes: Iterable[Any], rows: dict[str, int]) -> None:
    """A line for each model and test: how it ended, seconds, and rows in the table or rows that failed the test."""
    for node in nodes:
        name = node.node.name
        level = logging.INFO if node.status in GOOD else logging.ERROR
        count = rows.get(name, node.failures)
        shown = "" if count is None else f"{count:,} rows"
        log.log(level, "%-8s %6.2f s %14s  %s", node.status, node.execution_time, shown, name)


def _failure(lake: Lake, node: Any) -> str:
    return f"{node.node.resource_type} {node.node.name}: {node.message}{failing_rows(lake, node)}"


def failing_rows(lake: Lake, node: Any) -> str:
    """Up to ten of the rows that a failing dbt test found, a line each; of anything else, nothing."""
    if node.node.resource_type != "test" or not node.failures:
        return ""
    return "".join(f"\n    {row}" for row in lake.failing_rows(node.node, 10))
