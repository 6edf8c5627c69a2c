"""A warehouse with many detections, generated with SQL, as the pipeline would have after months."""

import atexit
import shutil
import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path

from support.oracle import Row
from support.streams import write_chunk, write_importance
from tallymark.local.replay import replay
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect
from tallymark.warehouse.invoke_dbt import sanity_tests

MERCHANTS = 50
THRESHOLDS = {
    "child_min_transactions": 5,
    "dei_min_female_customers": 2,
    "upgrade_min_merchant_transactions": 20,
    "upgrade_top_percent": 20,
    "upgrade_bottom_percent": 20,
}
ODD_CUSTOMER = "<script>alert('x')</script>"


NOON = datetime(2026, 1, 1, 12)


def make_warehouse(folder: Path, detections: int = 0, chunks: int = 0) -> Settings:
    """Create a warehouse with a detection of each pattern, rejected rows and a rejected chunk.

    Args:
        detections: number of detections to add with SQL.
        chunks: number of chunks to add with SQL.
    """
    shutil.copytree(_small_warehouse(), folder, dirs_exist_ok=True)
    settings = Settings(warehouse=folder / "warehouse.duckdb", vars=THRESHOLDS)
    if chunks or detections:
        _add(settings, detections, chunks)
    return settings


@cache
def _small_warehouse() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    rows = [Row(ODD_CUSTOMER, "M1", "F", "4.55")] * 6
    rows += [Row(f"C{n}", "M1", "FFMMMMM"[n], "30") for n in range(7) for _ in range(n + 1)]
    rows += [Row("=1+1", "M2", "M", "22")] * 4
    write_chunk(folder, "chunk_1", [*rows, Row("C1", "M1", "F", "a lot"), Row("", "M1", "F", "1")])
    write_chunk(folder, "chunk_2", [])
    (folder / "input/transactions/chunk_3").write_text("customer,merchant\nC1,M1\n")
    write_importance(folder, [(f"C{n}", "M1", str(9 - n)) for n in range(7)])
    replay(folder, folder, vars=THRESHOLDS)
    return folder


def _add(settings: Settings, detections: int, chunks: int) -> None:
    with connect(settings) as warehouse:
        warehouse.execute(
            """
            insert into raw.chunks by name
            select
                4 + n as chunk_seq, 'input/transactions/chunk_' || chunk_seq as chunk_key, md5(n::varchar) as etag,
                1 as content_bytes, etag as content_sha256, 'accepted' as state, 10000 as rows_in_file,
                10000 as rows_accepted, 0 as rows_rejected, 1 as importance_version,
                timestamp '2026-01-01' + to_minutes(n) as landed_at,
                landed_at + interval 1 second as y_started_at, landed_at + interval 2 seconds as loaded_at
            from range(?) as numbers (n)
            """,
            [chunks],
        )
        made = {"detections": detections, "chunks": chunks, "merchants": MERCHANTS}
        warehouse.execute(
            """
            insert into detections by name
            select
                n + (select max(detection_id) from detections) + 1 as detection_id,
                'PatId2' as pattern_id, 'CHILD' as action_type,
                'C' || (n // $merchants) as customer, 'M' || (n % $merchants) as merchant,
                4 + n * $chunks // $detections as chunk_seq,
                timestamp '2026-01-01 00:00:01' + to_minutes(n * $chunks // $detections) as y_started_at,
                timestamp '2026-01-01 00:00:03' + to_minutes(n * $chunks // $detections) as detected_at,
                1 + (n + (select max(detection_id) from detections)) // 50 as file_number,
                80 + n % 50 as customer_transactions, 80 * 21.5 as customer_amount, 21.5 as average_amount
            from range($detections) as numbers (n)
            """,
            made,
        )
        warehouse.execute(
            """
            insert into output.files by name
            select
                format('output/detections/detections-{:08d}.csv', file_number) as file_key, file_number,
                count(*) as row_count, min(detection_id) as first_detection_id,
                max(detection_id) as last_detection_id, max(detected_at) + interval 1 second as put_at
            from detections
            where file_number > (select max(file_number) from output.files)
            group by file_number
            """
        )
        warehouse.execute("insert into output.releases select max(chunk_seq), now() from raw.chunks")


def make(settings: Settings, count: int, chunk_seq: int = 1, detected_at: datetime = NOON) -> None:
    """Pretend that a passed build made ``count`` more detections in a chunk."""
    with connect(settings) as warehouse:
        # Views, because a table would make the audit assume that the models were built.
        warehouse.execute("create view if not exists batch_thresholds as select 1 as chunk_seq where false")
        warehouse.execute("delete from output.passed_builds")
        passed = [chunk_seq, NOON, sorted(sanity_tests())]
        warehouse.execute("insert into output.passed_builds values (?, ?, ?)", passed)
        warehouse.execute("create table if not exists made as from (select * exclude (file_number) from detections)")
        warehouse.execute("create view if not exists batch_detections as from made")
        warehouse.execute(
            "insert into made by name select (select coalesce(max(detection_id), 0) from made) + n as detection_id, "
            "'PatId2' as pattern_id, 'CHILD' as action_type, 'C' || n as customer, 'M' || ? as merchant, "
            "? as chunk_seq, ? as y_started_at, ? as detected_at from range(1, ? + 1) as numbers (n)",
            [chunk_seq, chunk_seq, NOON, detected_at, count],
        )
