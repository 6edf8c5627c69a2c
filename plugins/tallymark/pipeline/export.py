"""Export the detections of a build that passed its tests to files in the bucket."""

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

NEXT_RUN = "The next run builds the models again and exports the detections held back until then."


class ExportError(UserError, RuntimeError):
    """There is no proof that the last build passed all sanity tests. Nothing was exported."""


def export_detections(settings: Settings, store: Store) -> dict[str, int]:
    """Release the detections of the last build, plan files for them, and put all planned files into the bucket.

    Returns:
        The number of ``detections`` and of ``files`` planned, of detections ``held`` back to fill a file, and of
        ``open_issues``.

    Raises:
        ExportError: if models ran since the last build that passed its sanity tests, or if that build did not run all
            sanity tests.
        FileExistsError: if a file is already in the bucket with other content.
        WarehouseError: as in ``connect``, or if another warehouse has exported to this bucket.
    """
    with connect(settings) as warehouse:
        return _export(warehouse, settings, store)


def export_and_report(settings: Settings, store: Store, send: Send, since: datetime) -> tuple[dict[str, int], Files]:
    """Export the detections and report the run, over one connection to the warehouse.

    Args:
        since: start of the run, time zone aware.

    Returns:
        The counts of ``export_detections``, and the files that the run put.

    Raises:
        ExportError, FileExistsError, WarehouseError: as in ``export_detections``.
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
        is_released = release(warehouse, chunk_before)
        files, detections = plan_detections(warehouse, settings, files_before)
        if is_released or files:
            _plan_manifest(settings, warehouse, chunk_before, files_before)
    put_planned(store, warehouse)
    held = without_file(warehouse)
    run_sql(warehouse, "intake/open_issues")
    (open_issues,) = fetch_row(warehouse, "select count(*) from open_issues(?)", [utc_now()])
    index = LedgerIndex(settings.warehouse, settings.limits)
    if _has_unbuilt_chunks(warehouse):
        index.begin()
    elif held:
        hold = timedelta(seconds=settings.hold_remainder_seconds)
        index.finish(held_until=held[0].detected_at.replace(tzinfo=UTC) + hold)
    else:
        index.finish()
    return {"detections": detections, "files": files, "held": len(held), "open_issues": open_issues}


def release(warehouse: duckdb.DuckDBPyConnection, chunk_before: int) -> bool:
    """Make the chunks and detections of the last build final; returns whether there were any new chunks.

    Args:
        chunk_before: the last ``chunk_seq`` that is already final; 0 if there is none.

    Raises:
        ExportError: as in ``export_detections``.
    """
    passed = warehouse.execute("select chunk_seq, sanity_tests from output.passed_builds").fetchone()
    if passed is None:
        raise ExportError(
            "Nothing is exported: models ran since the last dbt build that passed its tests, or no build has passed "
            f"yet. {NEXT_RUN}"
        )
    last, passed_tests = passed
    if missing := sorted(sanity_tests() - set(passed_tests)):
        raise ExportError(
            "Nothing is exported: the last dbt build did not run all sanity tests of the project; these are missing: "
            f"{', '.join(missing)}. {NEXT_RUN}"
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
    """Whether chunks were loaded after the last build, for example by another run."""
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
