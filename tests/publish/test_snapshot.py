"""The snapshot: what the page shows, published after the detections are out and never in their way."""

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from support.many_detections import make_warehouse
from tallymark.publish import snapshot
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect


class WatchedStore(FolderStore):
    """Remembers what was put, and does something else first where a test wants it."""

    def __init__(self, root: Path, before=lambda key: None):
        super().__init__(root)
        object.__setattr__(self, "puts", {})
        object.__setattr__(self, "before", before)

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
            "nearest": "select unnest(nearest, recursive := true) from current",
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
    detections = in_warehouse(settings, "from detections order by detection_id")
    assert len(detections) == 3
    assert published(tmp_path, "detections") == detections
    ledger = published(tmp_path, "ledger")
    assert [row[:14] for row in ledger] == in_warehouse(settings, "from raw.chunks order by chunk_seq")
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


def test_who_is_nearest_to_a_detection(settings, tmp_path):
    snapshot.publish(settings, FolderStore(tmp_path))
    nearest = [(row[0], row[1], row[2], row[4]) for row in published(tmp_path, "nearest")]
    words = "{} transactions (at least 5 wanted), Rs {} on average (below 23 wanted)"
    assert ("M2", "PatId2", "=1+1", words.format(4, "22.00")) in nearest
    assert ("M1", "PatId2", "C4", words.format(5, "30.00")) in nearest
    made = {row[:3] for row in in_warehouse(settings, "select merchant, pattern_id, customer from detections")}
    assert made and not made & {row[:3] for row in nearest}


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
