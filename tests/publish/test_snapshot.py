"""The snapshot that the Detections page reads: it is published after the export and never blocks it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from support.many_detections import make_warehouse
from support.oracle import Row
from support.site import publish
from support.streams import write_chunk, write_importance
from tallymark.intake.listing import waiting_chunks
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.publish import snapshot
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect, run_sql


class WatchedStore(FolderStore):
    """Records each put and its size, and calls ``before`` first."""

    def __init__(self, root: Path, before=lambda key: None):
        super().__init__(root)
        self.puts = {}
        self.before = before

    def put(self, key: str, body: bytes) -> None:
        self.before(key)
        self.puts[key] = len(body)
        super().put(key, body)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_warehouse(tmp_path)


@contextmanager
def opened(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """``current.duckdb``, opened as any reader with DuckDB can."""
    with duckdb.connect(str(root / "output/snapshot/current.duckdb"), read_only=True) as current:
        yield current


def published(root: Path, kind: str) -> list[tuple]:
    """All rows of chunks or detections, from the parts and from ``current.duckdb``."""
    with opened(root) as current:
        parts = current.execute("select key from parts where kind = ?", [kind]).fetchall()
        rows = [row for (key,) in parts for row in current.read_parquet(str(root / key)).fetchall()]
        return rows + current.table(kind).fetchall()


def in_warehouse(settings: Settings, query: str) -> list[tuple]:
    with connect(settings, read_only=True) as warehouse:
        return warehouse.execute(query).fetchall()


def test_snapshot_holds_all_detections_and_the_ledger(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 2)
    store = WatchedStore(tmp_path)
    publish(settings, store)
    assert [key.partition("-00")[0] for key in store.puts] == [
        "output/snapshot/chunks",
        "output/snapshot/detections",
        "output/snapshot/current.duckdb",
    ]
    with_thresholds = "from detections join chunk_thresholds using (chunk_seq) order by detection_id"
    detections = in_warehouse(settings, with_thresholds)
    assert len(detections) == 3
    assert published(tmp_path, "detections") == detections
    chunks = published(tmp_path, "chunks")
    assert [row[:15] for row in chunks] == in_warehouse(
        settings, "select * exclude (reason) from raw.chunks order by chunk_seq"
    )
    assert [(row[5], row[-1]) for row in chunks] == [
        ("accepted", "output/rejected/chunk_1.csv"),
        ("accepted", None),
        ("rejected", "output/rejected/chunk_3.csv"),
    ]
    assert [row[-2] for row in chunks] == [
        "line 40: amount is not a number",
        None,
        "header lacks gender, amount; the first line is: 'customer,merchant'",
    ]


def test_a_part_is_put_once(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 1)
    publish(settings, FolderStore(tmp_path))
    again = WatchedStore(tmp_path)
    publish(settings, again)
    assert list(again.puts) == ["output/snapshot/current.duckdb"]
    assert len(published(tmp_path, "detections")) == 3


def test_parts_hold_only_final_rows(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 1)
    with connect(settings) as warehouse:
        warehouse.execute("update detections set file_number = null where detection_id = 3")
        warehouse.execute("update output.files set last_detection_id = 2 where file_number = 1")
    store = WatchedStore(tmp_path)
    publish(settings, store)
    assert [key.partition("-00")[0] for key in store.puts] == [
        "output/snapshot/detections",
        "output/snapshot/detections",
        "output/snapshot/current.duckdb",
    ]
    assert len(published(tmp_path, "detections")) == 3


def test_outage_only_delays_the_snapshot(settings, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 1)
    back = threading.Event()

    def fail(key):
        raise OSError("S3 is unreachable")

    with connect(settings) as warehouse:
        assert not snapshot.publish(warehouse, WatchedStore(tmp_path, fail), "output/", "UTC")
        with monkeypatch.context() as impatient:
            impatient.setattr(snapshot, "PUT_SECONDS", 0.2)
            assert not snapshot.publish(warehouse, WatchedStore(tmp_path, lambda key: back.wait(600)), "output/", "UTC")
    assert caplog.text.count("Failed to publish the snapshot") == 2
    store = WatchedStore(tmp_path)
    publish(settings, store)
    assert len(store.puts) == 2 + 3 + 1, "the rejected chunk at the end is not released yet"
    back.set()


def nearest(root: Path) -> list[tuple]:
    """Chunk, pattern and customer of the nearest candidates, in order."""
    with opened(root) as current:
        return current.execute(
            "select chunk_seq, pattern_id, customer from nearest order by pattern_id, distance, customer"
        ).fetchall()


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_nearest_candidates(tmp_path, batch):
    """A candidate stays until a batch evaluates it again, however chunks are batched.

    Inactive is a candidate in chunk 1 and buys nothing later; Detected has a detection in chunk 2; Dear pays too much
    in chunk 3. In UPGRADE, the rank of Light depends on all other customers of the merchant.
    """
    vars = {"child_min_transactions": 8, "upgrade_min_merchant_transactions": 20, "upgrade_top_percent": 20}
    settings, store = Settings(warehouse=tmp_path / "warehouse.duckdb", vars=vars), FolderStore(tmp_path)
    chunks = [
        [("Inactive", 7, "1"), ("Detected", 6, "1"), ("Dear", 5, "1"), ("Light", 4, "1"), ("Far", 3, "1")],
        [("Detected", 2, "1")],
        [("Dear", 1, "500")],
    ]
    for number, rows in enumerate(chunks, start=1):
        bought = [Row(name, "M", "F", amount) for name, count, amount in rows for _ in range(count)]
        write_chunk(tmp_path, f"chunk_{number}", bought)
    write_importance(tmp_path, [("Inactive", "M", "7"), ("Detected", "M", "9"), ("Light", "M", "1")])
    while waiting_chunks(settings, store.list("input/")):
        load_chunks(settings, store, max_chunks=batch)
        build_models(settings)
        export_detections(settings, store)
        publish(settings, store)
    made = in_warehouse(settings, "select chunk_seq, pattern_id, customer from detections")
    assert made == [(2, "PatId2", "Detected")]
    assert nearest(tmp_path) == [
        (3, "PatId1", "Light"),
        (3, "PatId1", "Inactive"),
        (3, "PatId1", "Detected"),
        (1, "PatId2", "Inactive"),
        (1, "PatId2", "Light"),
    ]


def test_publishing_cost_depends_on_new_rows(tmp_path):
    """Even with 100,000 detections, no part is put again, and ``current.duckdb`` stays small."""
    settings = make_warehouse(tmp_path, detections=100_000, chunks=12_000)
    store = WatchedStore(tmp_path)
    publish(settings, store)
    assert len(store.puts) == 20 + 2 + 1
    store = WatchedStore(tmp_path)
    publish(settings, store)
    assert list(store.puts) == ["output/snapshot/current.duckdb"]
    assert store.puts["output/snapshot/current.duckdb"] < 500_000


def test_landing_to_file_time(settings):
    with connect(settings) as warehouse:
        warehouse.execute("update raw.chunks set landed_at = '2026-01-01 12:00:00'")
        warehouse.execute("update output.files set put_at = '2026-01-01 12:00:05' where file_number is not null")
        warehouse.execute("update output.releases set released_at = '2026-01-01 12:00:03'")
        run_sql(warehouse, "publish/landing_to_file")
        found = warehouse.execute("select chunk_seq, detections, seconds from landing_to_file order by 1").fetchall()
    assert found == [(1, 3, 5), (2, 0, 3), (3, 0, None)]
