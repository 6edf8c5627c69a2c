"""The audit: recompute everything from the raw rows, and compare it with the warehouse and the bucket."""

import csv
import hashlib
import io
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import duckdb

from tallymark.lake import Lake, open_lake
from tallymark.outbox.detections import is_detection_key
from tallymark.outbox.safe_csv import restored
from tallymark.pipeline.build import failing_rows
from tallymark.settings import Settings
from tallymark.store import ObjectChangedError, Store, StoredObject
from tallymark.warehouse.connection import connect, fetch_row

log = logging.getLogger(__name__)
DIFFERENCES_SHOWN = 50


class AuditError(RuntimeError):
    """The audit found differences."""


def audit(settings: Settings, store: Store) -> dict[str, int]:
    """Compare the warehouse and the bucket with the raw rows. Changes nothing.

    The dbt tests tagged ``audit`` recompute state and detections in SQL; this module compares the files. The cost grows
    with the history.

    Returns:
        The number of SQL ``tests`` run, and of ``detection_files`` and ``other_files`` (manifests, rejected rows)
        compared.

    Raises:
        AuditError: listing the differences, with up to ten rows per dbt test.
        WarehouseError: if the warehouse is open elsewhere or cannot be read.
    """
    listed = {stored.key: stored for stored in store.list(settings.output_prefix)}
    found: list[str] = []
    tests, put = 0, []
    if settings.warehouse.exists():
        with connect(settings, read_only=True) as warehouse:
            is_built = warehouse.execute("from duckdb_tables() where table_name = 'batch_detections'").fetchone()
            kept = warehouse.execute(
                "select file_key, put_at is not null, file_number is not null from output.files order by file_key"
            ).fetchall()
            put = [is_detections for _, is_put, is_detections in kept if is_put]
            for key in (key for key, is_put, _ in kept if is_put):
                found += _file_differences(store, warehouse, key, listed.get(key))
        known = {key for key, *_ in kept}
        if is_built:
            failed, tests = _failed_tests(open_lake(settings, store))
            found += failed
    else:
        known = set()
    found += [
        f"{key}: is in the bucket, but the warehouse {settings.warehouse} never wrote it"
        for key in sorted(listed.keys() - known)
        if is_detection_key(settings.output_prefix, key)
    ]
    if found:
        shown = found[:DIFFERENCES_SHOWN] + ["..."] * (len(found) > DIFFERENCES_SHOWN)
        count = f"{len(found)} {'difference' if len(found) == 1 else 'differences'}"
        raise AuditError(f"The audit found {count}:\n" + "\n".join(shown))
    done = {"tests": tests, "detection_files": sum(put), "other_files": len(put) - sum(put)}
    if any(done.values()):
        log.info(
            "The audit found no differences. SQL tests passed: %(tests)d; detection files compared: "
            "%(detection_files)d; other files compared: %(other_files)d",
            done,
        )
    else:
        log.info("Nothing to audit: no run has built or exported anything yet")
    return done


def _failed_tests(lake: Lake) -> tuple[list[str], int]:
    result, nodes = lake.audit()
    nodes = [node for node in nodes if node.node.resource_type == "test"]
    failed = [f"{node.node.name}: {node.message}{failing_rows(lake, node)}" for node in nodes if node.status != "pass"]
    if not result.success and not failed:
        return [f"dbt failed to run the audit tests: {result.exception}"], len(nodes)
    project = lake.manifest()
    wanted = {node.name for node in project.nodes.values() if node.resource_type == "test" and "audit" in node.tags}
    failed += [f"{name}: did not run" for name in sorted(wanted - {node.node.name for node in nodes})]
    return failed, len(nodes)


def _file_differences(
    store: Store, warehouse: duckdb.DuckDBPyConnection, key: str, stored: StoredObject | None
) -> Iterator[str]:
    if stored is None:
        yield f"{key}: is no longer in the bucket"
        return
    try:
        body = store.get(stored)
    except ObjectChangedError as error:
        yield f"{key}: {error}"
        return
    sha256, number, first, last = fetch_row(
        warehouse,
        "select sha256, file_number, first_detection_id, last_detection_id from output.files where file_key = ?",
        [key],
    )
    if hashlib.sha256(body).hexdigest() != sha256:
        yield f"{key}: was changed after it was exported"
    if number is not None:
        in_file = _rows_in_file(body)
        in_warehouse = _rows_in_warehouse(warehouse, first, last)
        yield from (f"{key}: only in the file: {row}" for row in in_file if row not in in_warehouse)
        yield from (f"{key}: only in the warehouse: {row}" for row in in_warehouse if row not in in_file)


def _rows_in_file(body: bytes) -> list[tuple[str, ...]]:
    _, *rows = csv.reader(io.StringIO(body.decode(errors="replace"), newline=""))
    return [(*map(_in_utc, row[:2]), *map(restored, row[2:])) for row in rows]


def _rows_in_warehouse(warehouse: duckdb.DuckDBPyConnection, first: int, last: int) -> list[tuple[str, ...]]:
    rows = warehouse.execute(
        """
        select y_started_at, detected_at, pattern_id, action_type, customer, merchant
        from detections
        where detection_id between ? and ?
        order by detection_id
        """,
        [first, last],
    ).fetchall()
    return [(*(moment.isoformat(timespec="milliseconds") for moment in row[:2]), *row[2:]) for row in rows]


def _in_utc(text: str) -> str:
    """Convert a time with an offset to UTC without an offset; return text that is not a time unchanged."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    except ValueError:
        return text
