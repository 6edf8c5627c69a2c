"""The snapshot: a copy of the results in the bucket for the Detections page, which never opens the warehouse.

Final chunks and detections go into sealed parts: Parquet files of ``ROWS_PER_PART`` rows that never change.
``current.duckdb`` lists the parts and holds all other rows as plain tables; each run replaces it as a whole. The cost
of publishing therefore depends on the new rows only, and a reader never sees a mix of two runs.
"""

import hashlib
import logging
import tempfile
import threading
from pathlib import Path

import duckdb

from tallymark.patterns import patterns
from tallymark.store import Store
from tallymark.warehouse.connection import run_sql, transaction, utc_now

log = logging.getLogger(__name__)

ROWS_PER_PART = 5_000
MAX_REJECTED_ROWS = 500
PUT_SECONDS = 10
SEALED = {
    "chunks": "from chunk_rows where chunk_seq > $first and chunk_seq <= $last order by chunk_seq",
    "detections": "from detection_rows where detection_id > $first and detection_id <= $last order by detection_id",
}
# Small blocks, because most tables have few rows. No WAL, because an incomplete file is never put.
ATTACH = "attach $path as published (block_size 16384, storage_version 'v1.4.0', recovery_mode no_wal_writes)"


def current_key(output_prefix: str) -> str:
    """Key of ``current.duckdb``, which each run replaces."""
    return f"{output_prefix}snapshot/current.duckdb"


def publish(warehouse: duckdb.DuckDBPyConnection, store: Store, output_prefix: str, time_zone: str) -> bool:
    """Replace the snapshot; returns whether that worked.

    Errors are logged and never raised, because the detections are already exported. An S3 outage delays the run by
    ``PUT_SECONDS`` at most; the next run publishes the missing rows.

    Args:
        time_zone: time zone in which the page shows times.
    """
    try:
        variables = {
            "published_at": utc_now(),
            "time_zone": time_zone,
            "rejected": MAX_REJECTED_ROWS,
            "depend_on_other_customers": [pattern.id for pattern in patterns() if pattern.depends_on_other_customers],
        }
        warehouse.execute("set variable snapshot = $variables", {"variables": variables})
        run_sql(warehouse, "intake/open_issues")
        run_sql(warehouse, "publish/landing_to_file")
        with transaction(warehouse):
            run_sql(warehouse, "publish/snapshot")
            _refresh_nearest(warehouse)
            objects = _seal(warehouse, f"{output_prefix}snapshot/")
        _put_in_time(store, objects | {current_key(output_prefix): _current(warehouse)})
        if objects:
            warehouse.execute("update snapshot.parts set is_put = true")
    except Exception:
        log.exception("Failed to publish the snapshot. The Detections page is out of date; nothing else is affected.")
        return False
    return True


def _seal(warehouse: duckdb.DuckDBPyConnection, prefix: str) -> dict[str, bytes]:
    """Seal rows that no longer change; returns the content of the new parts by key."""
    objects = {}
    for kind, first, final in warehouse.execute("select kind, sealed, final from sealing order by kind").fetchall():
        for last in range(first + ROWS_PER_PART, final + 1, ROWS_PER_PART):
            rows = warehouse.sql(SEALED[kind], params={"first": last - ROWS_PER_PART, "last": last})
            body = _as_parquet(rows)
            key = f"{prefix}{kind}-{last:010d}-{hashlib.sha256(body).hexdigest()[:12]}.parquet"
            warehouse.execute("insert into snapshot.parts values (?, ?, ?, false)", [kind, last, key])
            objects[key] = body
    return objects


def _refresh_nearest(warehouse: duckdb.DuckDBPyConnection) -> None:
    """Replace the nearest candidates that the last batch evaluated; drop all if the patterns' columns changed."""
    columns = "select list(column_name order by column_name) from duckdb_columns() where table_name = $name"
    kept, evaluated = (
        warehouse.execute(columns, {"name": name}).fetchone() for name in ("nearest", "batch_candidates")
    )
    if kept != evaluated:
        warehouse.execute("create or replace table snapshot.nearest as from batch_candidates where false")
    run_sql(warehouse, "publish/snapshot_nearest")


def _as_parquet(rows: duckdb.DuckDBPyRelation) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        rows.write_parquet(str(path), compression="zstd")
        return path.read_bytes()


def _current(warehouse: duckdb.DuckDBPyConnection) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "current.duckdb"
        warehouse.execute(ATTACH, {"path": str(path)})
        try:
            with transaction(warehouse):
                run_sql(warehouse, "publish/snapshot_current")
        finally:
            warehouse.execute("detach published")
        return path.read_bytes()


def _put_in_time(store: Store, objects: dict[str, bytes]) -> None:
    """Put objects in their order.

    Raises:
        TimeoutError: if that takes longer than ``PUT_SECONDS``. It continues in the background until the process ends.
    """
    failed: list[Exception] = []

    def put() -> None:
        try:
            for key, body in objects.items():
                store.put(key, body)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    thread.join(PUT_SECONDS)
    if failed:
        raise failed[0]
    if thread.is_alive():
        raise TimeoutError(f"S3 did not store the snapshot within {PUT_SECONDS} s")
