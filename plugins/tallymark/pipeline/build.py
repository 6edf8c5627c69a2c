"""``dbt build`` inside this process: models and sanity tests."""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tallymark.errors import UserError
from tallymark.settings import Settings
from tallymark.warehouse.connection import broken, connect, shows_a_broken_file, utc_now
from tallymark.warehouse.invoke_dbt import invoke, parse

log = logging.getLogger(__name__)

GOOD = ("success", "pass", "skipped")
# An ephemeral model is compiled with those that read it; as a node of its own it would only be compiled once more. dbt
# also leaves out each test that reads one itself: the sanity tests read tables and sources.
BUILD = [
    *("build", "--exclude-resource-type", "unit_test"),
    *("--exclude", "tag:audit", "config.materialized:ephemeral"),
]


class BuildError(UserError, RuntimeError):
    """A model or a sanity test failed; nothing may be exported."""


def build_models(settings: Settings, full_refresh: bool = False) -> dict[str, int]:
    """Bring models up to the last chunk in the ledger and test them.

    Returns:
        How many ``models`` were run and ``tests`` passed, and how many ``detections`` the batch made.

    Raises:
        BuildError: naming each model or test that failed, with up to ten of the rows a test found.
    """
    rows: dict[str, int] = {}

    def passed(nodes: Iterable[Any], warehouse: Any) -> None:
        warehouse.execute("insert into output.passed_builds select max(chunk_seq), ? from batch_chunks", [utc_now()])
        tables = [node.node.name for node in nodes if node.node.resource_type == "model"]
        rows.update(
            (name, warehouse.execute("select count(*) from query_table(?)", [name]).fetchone()[0]) for name in tables
        )

    result = invoke(settings, [*BUILD, *["--full-refresh"] * full_refresh], parse(settings), and_then=passed)
    failed = [
        f"{node.node.resource_type} {node.node.name}: {node.message}{failing_rows(settings, node)}"
        for node in result.result or []
        if node.status not in GOOD
    ]
    if not result.success:
        _log_nodes(result.result or [], {})
        if shows_a_broken_file("\n".join(failed) or str(result.exception)):
            raise broken(settings, result.exception or failed[0])
        raise BuildError(
            "Nothing is exported, because dbt build failed. What is held back goes out with the first run that "
            "passes. If state was built from wrong rows, dbt build --full-refresh makes it anew.\n"
            + ("\n".join(failed) or str(result.exception))
        )
    _log_nodes(result.result, rows)
    kinds = Counter(node.node.resource_type for node in result.result)
    return {"models": kinds["model"], "tests": kinds["test"], "detections": rows["batch_detections"]}


def _log_nodes(nodes: Iterable[Any], rows: dict[str, int]) -> None:
    """A line for each model and test: how it ended, seconds, and rows in the table or rows that failed the test."""
    for node in nodes:
        name = node.node.name
        level = logging.INFO if node.status in GOOD else logging.ERROR
        count = rows.get(name, node.failures)
        shown = "" if count is None else f"{count:,} rows"
        log.log(level, "%-8s %6.2f s %14s  %s", node.status, node.execution_time, shown, name)


def failing_rows(settings: Settings, node: Any) -> str:
    """Up to ten of the rows that a failing dbt test found, a line each; of anything else, nothing."""
    if node.node.resource_type != "test" or not node.failures:
        return ""
    with connect(settings, read_only=True) as warehouse:
        rows = warehouse.sql(node.node.compiled_code).limit(10)
        return "".join(f"\n    {dict(zip(rows.columns, row, strict=True))}" for row in rows.fetchall())
