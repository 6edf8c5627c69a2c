"""From the detections of a build that passed its tests to files in the bucket."""

from datetime import UTC, datetime, timedelta

import duckdb

from tallymark.errors import UserError
from tallymark.outbox import manifest
from tallymark.outbox.detections import plan_detections, without_file
from tallymark.outbox.planned_files import plan, put_planned, replan
from tallymark.publish.alerts import Send
from tallymark.publish.report import Files, report_run
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.warehouse.connection import connect, fetch_row, run_sql, transaction, utc_now
from tallymark.warehouse.invoke_dbt import sanity_tests
from tallymark.warehouse.ledger_index import LedgerIndex


class ExportError(UserError, RuntimeError):
    """There is no proof that the last build passed all sanity tests; nothing was exported."""


def export_detections(settings: Settings, store: Store) -> dict[str, int]:
    """Plan files for the detections that the last build made, and put all files that are not out yet.

    Returns:
        How many ``detections`` were given to how many ``files``, how many are ``held`` back, and how many refusals are
        ``open_issues``.

    Raises:
        ExportError: when models ran since the last build that passed its sanity tests, or when it lacks one of them.
        FileExistsError: when a file is in the bucket already with other content.
        WarehouseError: as ``connect`` does, and when another warehouse exported before.
    """
    with connect(settings) as warehouse:
        return _export(warehouse, settings, store)


def export_and_report(settings: Settings, store: Store, send: Send, since: datetime) -> tuple[dict[str, int], Files]:
    """Export, and report what the run did, over one connection to the warehouse.

    Returns:
        What ``export_detections`` returns, and the files that the run put.

    Raises:
        What ``export_detections`` raises.
    """
    with connect(settings) as warehouse:
        return _export(warehouse, settings, store), report_run(warehouse, settings, store, send, since)


def _export(warehouse: duckdb.DuckDBPyConnection, settings: Settings, store: Store) -> dict[str, int]:
    files_before, chunk_before = fetch_row(
        warehouse,
        """
        select
            (select coalesce(max(file_number), 0) from output.files),
            (select coalesce(max(chunk_seq), 0) from output.releases)
        """,
    )
    if chunk_before == 0:
        manifest.must_be_none(store, settings.output_prefix, settings.warehouse)
    with transaction(warehouse):
        is_news = release(warehouse, chunk_before)
        files, detections = plan_detections(warehouse, settings, files_before)
        if is_news or files:
            _plan_manifest(settings, warehouse, chunk_before, files_before)
    put_planned(store, warehouse)
    waiting = without_file(warehouse)
    run_sql(warehouse, "intake/open_issues")
    (open_issues,) = fetch_row(warehouse, "select count(*) from open_issues(?)", [utc_now()])
    index = LedgerIndex(settings.warehouse, settings.limits)
    if _has_unbuilt_chunks(warehouse):
        index.begin()
    elif waiting:
        hold = timedelta(seconds=settings.hold_remainder_seconds)
        index.finish(held_until=waiting[0].detected_at.replace(tzinfo=UTC) + hold)
    else:
        index.finish()
    return {"detections": detections, "files": files, "held": len(waiting), "open_issues": open_issues}


def release(warehouse: duckdb.DuckDBPyConnection, chunk_before: int) -> bool:
    """Make what the last build found in its batch final; returns whether it was not before.

    Args:
        chunk_before: the last chunk_seq that is final already.

    Raises:
        ExportError: as ``export_detections`` does.
    """
    passed = warehouse.execute("select chunk_seq, sanity_tests from output.passed_builds").fetchone()
    if passed is None:
        raise ExportError(
            "Nothing is exported: models ran since the last dbt build that passed its tests, or there was none. "
            "The next run builds and exports what is held back."
        )
    last, passed_tests = passed
    if lacking := sorted(sanity_tests() - set(passed_tests)):
        raise ExportError(
            f"Nothing is exported: the last dbt build passed without the sanity tests {', '.join(lacking)}, which the "
            "project has. The next run builds and exports what is held back."
        )
    if last is None or last <= chunk_before:
        return False
    chunks = {"before": chunk_before, "last": last}
    warehouse.execute(
        """
        insert into detections by name
        select * from batch_detections where chunk_seq > $before and chunk_seq <= $last order by detection_id
        """,
        chunks,
    )
    warehouse.execute(
        """
        insert into chunk_thresholds by name
        select * from batch_thresholds where chunk_seq > $before and chunk_seq <= $last
        """,
        chunks,
    )
    warehouse.execute("insert into output.releases values (?, ?)", [last, utc_now()])
    return True


def _has_unbuilt_chunks(warehouse: duckdb.DuckDBPyConnection) -> bool:
    """Whether chunks were loaded after the last build, as by another run, or the build ran on another machine."""
    (found,) = fetch_row(
        warehouse,
        """
        select count(*)
        from raw.chunks
        where state = 'accepted' and chunk_seq > (select coalesce(max(chunk_seq), 0) from output.releases)
        """,
    )
    return found > 0


def _plan_manifest(
    settings: Settings, warehouse: duckdb.DuckDBPyConnection, chunk_before: int, files_before: int
) -> None:
    number, body, latest = manifest.compose(warehouse, settings.time_zone, chunk_before, files_before)
    plan(warehouse, manifest.manifest_key(settings.output_prefix, number), body, manifest_number=number)
    replan(warehouse, manifest.latest_key(settings.output_prefix), latest)
