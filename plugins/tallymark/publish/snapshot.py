"""What the page shows: a copy of the results in the bucket, so that nobody needs to open the warehouse to look.

Chunks and detections that are final go into sealed parts, Parquet files of ``ROWS_PER_PART`` rows that never change.
``current.parquet`` names the parts and holds the rest; it is replaced as a whole. So the cost of publishing follows
what is new, and a reader sees the state after one run, never a mixture.
"""

import hashlib
import logging
import tempfile
import threading
from pathlib import Path

import duckdb

from tallymark.patterns import patterns
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.warehouse.connection import connect, read_sql, run_sql, transaction, utc_now

log = logging.getLogger(__name__)

ROWS_PER_PART = 5_000
NEAREST_SHOWN = 5
# More than are shown, so that others follow when some are detected.
NEAREST_KEPT = 20
MAX_MERCHANTS = 5_000
MAX_REJECTED_ROWS = 500
PUT_SECONDS = 10


def current_key(settings: Settings) -> str:
    """The object that is replaced by each run."""
    return f"{settings.output_prefix}snapshot/current.parquet"


def publish(settings: Settings, store: Store) -> bool:
    """Replace the snapshot; returns whether that worked.

    A failure is logged and never raised, as the detections are out by then. An outage of S3 takes ``PUT_SECONDS``
    at most; the next run publishes what is missing.
    """
    try:
        with connect(settings) as warehouse:
            objects = _prepare(settings, warehouse)
        _put_in_time(store, objects)
        if len(objects) > 1:
            with connect(settings) as warehouse:
                warehouse.execute("update snapshot.parts set is_put = true")
    except Exception:
        log.exception(
            "The snapshot was not published, so the page on detections is behind. Nothing else depends on it."
        )
        return False
    return True


def _prepare(settings: Settings, warehouse: duckdb.DuckDBPyConnection) -> dict[str, bytes]:
    """The objects to put by their keys: newly sealed parts, and the current one at last."""
    objects = {}
    with transaction(warehouse):
        run_sql(warehouse, "publish/snapshot_tables")
        run_sql(warehouse, "intake/open_issues")
        _refresh_nearest(warehouse)
        sealed = dict(warehouse.execute("select kind, max(last_id) from snapshot.parts group by kind").fetchall())
        final = run_sql(warehouse, "publish/snapshot_final").fetchone()
        final_ids = dict(zip(("ledger", "detections"), final, strict=True))
        for kind in ("ledger", "detections"):
            first = sealed.get(kind, 0)
            while first + ROWS_PER_PART <= final_ids[kind]:
                last = first + ROWS_PER_PART
                run_sql(warehouse, f"publish/snapshot_{kind}", first=first, last=last)
                body = _parquet(warehouse.table(f"{kind}_rows"))
                digest = hashlib.sha256(body).hexdigest()[:12]
                key = f"{settings.output_prefix}snapshot/{kind}-{last:010d}-{digest}.parquet"
                warehouse.execute("insert into snapshot.parts values (?, ?, ?, false)", [kind, last, key])
                objects[key] = body
                first = last
            run_sql(warehouse, f"publish/snapshot_{kind}", first=first, last=2**62)
        parameters = {"published_at": utc_now(), "time_zone": settings.time_zone}
        limits = {"merchants": MAX_MERCHANTS, "nearest": NEAREST_SHOWN, "rejected_rows": MAX_REJECTED_ROWS}
        query = read_sql("publish/snapshot_current")
        objects[current_key(settings)] = _parquet(warehouse.sql(query, params=parameters | limits))
    return objects


def _refresh_nearest(warehouse: duckdb.DuckDBPyConnection) -> None:
    """Replace what the last batch evaluated; forget all when the patterns have other columns than before."""
    columns = "select list(column_name order by column_name) from duckdb_columns() where table_name = $name"
    kept, evaluated = (
        warehouse.execute(columns, {"name": name}).fetchone() for name in ("nearest", "batch_candidates")
    )
    if kept != evaluated:
        warehouse.execute("create or replace table snapshot.nearest as from batch_candidates where false")
    ids = [pattern.id for pattern in patterns() if pattern.depends_on_other_customers]
    run_sql(warehouse, "publish/snapshot_nearest", depend_on_other_customers=ids, kept=NEAREST_KEPT)
    warehouse.execute("delete from snapshot.nearest where merchant in (select merchant from batch_merchants)")
    warehouse.execute("insert into snapshot.nearest by name from nearest_now")


def _parquet(rows: duckdb.DuckDBPyRelation) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        rows.write_parquet(str(path), compression="zstd")
        return path.read_bytes()


def _put_in_time(store: Store, objects: dict[str, bytes]) -> None:
    """Put objects in their order.

    Raises:
        TimeoutError: when that takes longer than ``PUT_SECONDS``; it ends with the process then.
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
        raise TimeoutError(f"S3 did not take it within {PUT_SECONDS} s")
