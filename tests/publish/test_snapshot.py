"""The snapshot: what the page shows, published after the detections are out and never in their way."""

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from support.many_detections import make_warehouse
from support.oracle import Row
from support.streams import write_chunk, write_importance
from tallymark.intake.listing import waiting_chunks
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.publish import snapshot
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect


class WatchedStore(FolderStore):
    """Remembers what was put, and does something else first where a test wants it."""

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


def published(root: Path, kind: str) -> list[tuple]:
    """All rows of a kind, from the parts and from the current object."""
    with duckdb.connect() as reader:
        reader.execute("create table current as from read_parquet(?)", [str(root / "output/snapshot/current.parquet")])
        parts = reader.execute("select unnest(parts) as part from current").fetchall()
        rows = []
        for (part,) in parts:
            if f"/{kind}-" in part:
                rows += reader.execute("from read_parquet(?)", [str(root / part)]).fetchall()
        current = {
            "ledger": "select unnest(ledger, recursive := true) from current",
            "detections": "select unnest(detections, recursive := true) from current",
        }
        return rows + reader.execute(current[kind]).fetchall()


def in_warehouse(settings: Settings, query: str) -> list[tuple]:
    with connect(settings, read_only=True) as warehouse:
        return warehouse.execute(query).fetchall()


def test_it_holds_all_detections_and_the_whole_ledger(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 2)
    store = WatchedStore(tmp_path)
    assert snapshot.publish(settings, store)
    assert [key.partition("-00")[0] for key in store.puts] == [
        "output/snapshot/ledger",
        "output/snapshot/detections",
        "output/snapshot/current.parquet",
    ]
    with_thresholds = "from detections join chunk_thresholds using (chunk_seq) order by detection_id"
    detections = in_warehouse(settings, with_thresholds)
    assert len(detections) == 3
    assert published(tmp_path, "detections") == detections
    ledger = published(tmp_path, "ledger")
    assert [row[:16] for row in ledger] == in_warehouse(settings, "from raw.chunks order by chunk_seq")
    assert [(row[5], row[-1]) for row in ledger] == [
        ("accepted", "output/rejected/chunk_1.csv"),
        ("accepted", None),
        ("rejected", "output/rejected/chunk_3.csv"),
    ]
    assert [row[-2] for row in ledger] == [
        "line 40: amount is not a number",
        None,
        "header lacks gender, amount; the first line is: 'customer,merchant'",
    ]


def test_a_part_is_put_once(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 1)
    snapshot.publish(settings, FolderStore(tmp_path))
    again = WatchedStore(tmp_path)
    assert snapshot.publish(settings, again)
    assert list(again.puts) == ["output/snapshot/current.parquet"]
    assert len(published(tmp_path, "detections")) == 3


def test_what_is_not_final_is_in_no_part(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 1)
    with connect(settings) as warehouse:
        warehouse.execute("update detections set file_number = null where detection_id = 3")
        warehouse.execute("update output.files set last_detection_id = 2 where file_number = 1")
    store = WatchedStore(tmp_path)
    assert snapshot.publish(settings, store)
    assert [key.partition("-00")[0] for key in store.puts] == [
        "output/snapshot/detections",
        "output/snapshot/detections",
        "output/snapshot/current.parquet",
    ]
    assert len(published(tmp_path, "detections")) == 3


def test_an_outage_delays_and_breaks_nothing(settings, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 1)
    back = threading.Event()

    def refuse(key):
        raise OSError("S3 is away")

    assert not snapshot.publish(settings, WatchedStore(tmp_path, refuse))
    with monkeypatch.context() as impatient:
        impatient.setattr(snapshot, "PUT_SECONDS", 0.2)
        assert not snapshot.publish(settings, WatchedStore(tmp_path, lambda key: back.wait(600)))
    assert caplog.text.count("snapshot was not published") == 2
    store = WatchedStore(tmp_path)
    assert snapshot.publish(settings, store)
    assert len(store.puts) == 2 + 3 + 1, "the rejected chunk at the end is in no release yet"
    back.set()


def test_the_warehouse_is_free_while_s3_is_waited_for(settings, tmp_path):
    open_it = [sys.executable, "-c", f"import duckdb; duckdb.connect({str(settings.warehouse)!r})"]
    store = WatchedStore(tmp_path, lambda key: subprocess.run(open_it, check=True, timeout=600))
    assert snapshot.publish(settings, store)


def nearest(root: Path) -> list[tuple]:
    """Chunk, pattern and customer of whoever is near, in their order."""
    with duckdb.connect() as reader:
        reader.execute("create table current as from read_parquet(?)", [str(root / "output/snapshot/current.parquet")])
        reader.execute("create table near as select unnest(nearest, recursive := true) from current")
        return reader.execute(
            "select chunk_seq, pattern_id, customer from near order by pattern_id, distance, customer"
        ).fetchall()


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_who_is_nearest_to_a_detection(tmp_path, batch):
    """Stays so until a batch evaluates the customer again, however chunks are batched.

    Inactive is near in chunk 1 and does not come back; Detected has a detection in chunk 2; Dear pays too much in
    chunk 3. In UPGRADE, the rank of Light depends on all others of the merchant.
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
        assert snapshot.publish(settings, store)
    made = in_warehouse(settings, "select chunk_seq, pattern_id, customer from detections")
    assert made == [(2, "PatId2", "Detected")]
    assert nearest(tmp_path) == [
        (3, "PatId1", "Light"),
        (3, "PatId1", "Inactive"),
        (3, "PatId1", "Detected"),
        (1, "PatId2", "Inactive"),
        (1, "PatId2", "Light"),
    ]


def test_the_cost_follows_what_is_new(tmp_path):
    """With 100,000 detections as with three: no part is put again, and what is put stays small."""
    settings = make_warehouse(tmp_path, detections=100_000, chunks=12_000)
    store = WatchedStore(tmp_path)
    assert snapshot.publish(settings, store)
    assert len(store.puts) == 20 + 2 + 1
    store = WatchedStore(tmp_path)
    assert snapshot.publish(settings, store)
    assert list(store.puts) == ["output/snapshot/current.parquet"]
    assert store.puts["output/snapshot/current.parquet"] < 500_000
