"""Report a run after its export: in its log, on the Detections page, by alerts and to other DAGs."""

import logging
import textwrap
from dataclasses import dataclass
from datetime import datetime

import duckdb

from tallymark import machine
from tallymark.patterns import explain_evidence
from tallymark.publish import alerts, snapshot
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.warehouse.connection import as_utc, connect, run_sql

log = logging.getLogger(__name__)

MAX_LINES = 200
LINE_WIDTH = 90
PUT_FILES = """
    select file_key, row_count
    from output.files
    where file_number is not null and put_at >= $since
    order by file_number
"""


@dataclass(frozen=True)
class Files:
    """Keys of the detection files that a run put, and the number of detections in them."""

    keys: list[str]
    detections: int


def report_run(
    warehouse: duckdb.DuckDBPyConnection, settings: Settings, store: Store, send: alerts.Send, since: datetime
) -> Files:
    """Log the run's detections, publish the snapshot and process alerts; returns the files that the run put.

    Errors are logged and never fail the run, because its detections are already exported.

    Args:
        since: start of the run, time zone aware. Files that an earlier, failed try put are included.
    """
    try:
        put = warehouse.execute(PUT_FILES, {"since": as_utc(since)}).fetchall()
        _log_detections(warehouse, since)
        conditions = alerts.conditions(settings, warehouse)
        snapshot.publish(warehouse, store, settings.output_prefix, settings.time_zone)
    except Exception:
        log.exception("Failed to report this run")
        return Files([], 0)
    alerts.Alerts(settings, send).after_export(conditions)
    return Files([key for key, _ in put], sum(rows for _, rows in put))


def explain_failure(error: BaseException | None) -> None:
    """Log what happened and what to do as the last lines of a failed try's log, after all tracebacks.

    The lines are short enough for Airflow's UI to show in full. They come after the end of the folded group in which
    Airflow logs callbacks.
    """
    log.info("::endgroup::")
    text = machine.message(error) if error else "The task was killed or timed out."
    for line in text.splitlines():
        for part in textwrap.wrap(line, LINE_WIDTH) or [""]:
            log.error(part)


def report_dry_run(settings: Settings, since: datetime) -> None:
    """Log the detections of a dry run, which exports nothing."""
    with connect(settings, read_only=True) as warehouse:
        _log_detections(warehouse, since, with_held=True)


def _log_detections(warehouse: duckdb.DuckDBPyConnection, since: datetime, with_held: bool = False) -> None:
    shown = {"since": as_utc(since), "with_held": with_held, "limit": MAX_LINES + 1}
    found = run_sql(warehouse, "publish/run_detections", **shown)
    columns = [column[0] for column in found.description]
    rows = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
    if not rows:
        log.info("No new detections.")
        return
    log.info("%6s  %-8s %-11s %-16s %-16s %s", "chunk", "pattern", "action", "merchant", "customer", "evidence")
    for row in rows[:MAX_LINES]:
        named = [row[name] for name in ("chunk_seq", "pattern_id", "action_type", "merchant", "customer")]
        log.info("%6d  %-8s %-11s %-16s %-16s %s", *named, explain_evidence(row))
    if len(rows) > MAX_LINES:
        log.info("... and more. The Detections page lists all of them.")
