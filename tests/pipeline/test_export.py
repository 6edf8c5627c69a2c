"""The export: 50 rows per file, and each detection exactly once, even after crashes."""

import csv
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from support.loading import GOOD, put
from support.many_detections import make
from support.streams import exported
from tallymark.pipeline import export
from tallymark.pipeline.build import build_models
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect
from tallymark.warehouse.errors import WarehouseError
from tallymark.warehouse.ledger_index import LedgerIndex


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb")


@pytest.fixture
def bucket(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


def sizes(out: Path) -> list[int]:
    return [len(path.read_text().splitlines()) - 1 for path in sorted((out / "output/detections").glob("*"))]


def test_rows_are_split_into_files(settings, bucket):
    cuts = {0: [], 1: [1], 49: [49], 50: [50], 51: [50, 1], 100: [50, 50], 101: [50, 50, 1]}
    expected = []
    for chunk_seq, (count, files) in enumerate(cuts.items(), start=1):
        make(settings, count, chunk_seq)
        exported_now = export.export_detections(settings, bucket)
        assert exported_now == {"detections": count, "files": len(files), "held": 0, "open_issues": 0}
        expected += files
        assert sizes(bucket.root) == expected
    rows = [f"C{n}" for count in (1, 49, 50, 51, 100, 101) for n in range(1, count + 1)]
    assert [customer for _, _, customer, _ in exported(bucket.root)] == rows
    with connect(settings, read_only=True) as warehouse:
        numbered = "select file_number, count(*) from detections group by 1 order by 1"
        assert warehouse.execute(numbered).fetchall() == list(enumerate(expected, start=1))


@pytest.mark.parametrize(
    ("time_zone", "shown"),
    [("Asia/Kolkata", "2026-01-01T17:30:00.000+05:30"), ("UTC", "2026-01-01T12:00:00.000+00:00")],
)
def test_columns_and_time_zone(settings, bucket, time_zone, shown):
    make(settings, 1)
    export.export_detections(settings.model_copy(update={"time_zone": time_zone}), bucket)
    with (bucket.root / "output/detections/detections-00000001.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert header == ["YStartTime", "detectionTime", "patternId", "ActionType", "customerName", "MerchantId"]
    assert row == [shown, shown, "PatId2", "CHILD", "C1", "M1"]


def test_log_shows_rows_per_file(settings, bucket, caplog):
    caplog.set_level("INFO")
    make(settings, 51)
    export.export_detections(settings, bucket)
    logged = [text.removeprefix("put output/") for text in caplog.messages if text.startswith("put ")]
    assert logged == [
        "manifests/manifest-00000001.json",
        "detections/detections-00000001.csv (50 rows)",
        "detections/detections-00000002.csv (1 row)",
        "manifests/latest.json",
    ]


def test_untested_detections_are_not_exported(settings, bucket):
    make(settings, 1)
    with connect(settings) as warehouse:
        warehouse.execute("delete from output.passed_builds")
    with pytest.raises(RuntimeError, match="models ran since the last dbt build that passed"):
        export.export_detections(settings, bucket)
    assert sizes(bucket.root) == []


class Crash(Exception):
    pass


@pytest.mark.parametrize("crash_at", ["plan", "first put", "second put", "after second put"])
def test_a_crash_changes_nothing(settings, bucket, monkeypatch, crash_at):
    """The files are those of an undisturbed run, although the time zone changes before the second attempt."""
    make(settings, 101)
    with monkeypatch.context() as broken:
        puts = []

        def put_new(self, key, body):
            puts.append(key)
            if crash_at == "plan" or (crash_at, len(puts)) in {("first put", 1), ("second put", 2)}:
                raise Crash
            FolderStore.__dict__["_put_really"](self, key, body)
            if crash_at == "after second put" and len(puts) == 2:
                raise Crash

        broken.setattr(FolderStore, "_put_really", FolderStore.put_new, raising=False)
        broken.setattr(FolderStore, "put_new", put_new)
        with pytest.raises(Crash):
            export.export_detections(settings, bucket)
    make(settings, 3, chunk_seq=2)
    export.export_detections(settings.model_copy(update={"time_zone": "UTC"}), bucket)
    assert sizes(bucket.root) == [50, 50, 1, 3]
    assert [row[2] for row in exported(bucket.root)] == [f"C{n}" for n in range(1, 102)] + ["C1", "C2", "C3"]
    for number, offset in enumerate(["+05:30"] * 3 + ["+00:00"], start=1):
        first = (bucket.root / f"output/detections/detections-{number:08d}.csv").read_text().splitlines()[1]
        assert first.split(",")[0].endswith(offset)


def test_file_with_other_content_is_never_overwritten(settings, bucket):
    path = bucket.root / "output/detections/detections-00000001.csv"
    path.parent.mkdir(parents=True)
    path.write_text("somebody else's\n")
    make(settings, 1)
    for _ in range(2):
        with pytest.raises(FileExistsError, match=r"00000001\.csv already exists with different content"):
            export.export_detections(settings, bucket)
    assert path.read_text() == "somebody else's\n"


def test_remainder_can_be_held_back(settings, bucket):
    patient = settings.model_copy(update={"hold_remainder_seconds": 3600})
    now = export.utc_now()
    make(settings, 51, detected_at=now)
    assert export.export_detections(patient, bucket) == {"detections": 50, "files": 1, "held": 1, "open_issues": 0}
    assert not LedgerIndex(patient.warehouse, patient.limits).has_unfinished_work()
    make(settings, 49, chunk_seq=2, detected_at=now)
    assert export.export_detections(patient, bucket) == {"detections": 50, "files": 1, "held": 0, "open_issues": 0}
    make(settings, 2, chunk_seq=3, detected_at=now - timedelta(seconds=3601))
    assert export.export_detections(patient, bucket) == {"detections": 2, "files": 1, "held": 0, "open_issues": 0}
    assert sizes(bucket.root) == [50, 50, 2]
    make(settings, 1, chunk_seq=4, detected_at=now)
    export.export_detections(patient, bucket)
    assert not LedgerIndex(patient.warehouse, patient.limits).has_unfinished_work()
    LedgerIndex(patient.warehouse, patient.limits).finish(held_until=datetime.now().astimezone() - timedelta(seconds=1))
    assert LedgerIndex(patient.warehouse, patient.limits).has_unfinished_work()


def test_second_warehouse_exports_nothing(settings, bucket, tmp_path):
    """For example an empty one on a second machine, whether or not it has loaded the same chunks."""
    make(settings, 1)
    export.export_detections(settings, bucket)
    other = Settings(warehouse=tmp_path / "other.duckdb")
    for count in (0, 1):
        make(other, count)
        with pytest.raises(WarehouseError, match=r"other\.duckdb has exported nothing, but the bucket holds manifests"):
            export.export_detections(other, bucket)
    put(bucket, "chunk_1", GOOD)
    third = Settings(warehouse=tmp_path / "third.duckdb")
    with pytest.raises(WarehouseError, match="has exported nothing"):
        load_chunks(third, bucket)
    assert sizes(bucket.root) == [1]


def test_chunks_loaded_after_build_are_unfinished_work(settings, bucket):
    index = LedgerIndex(settings.warehouse, settings.limits)
    put(bucket, "chunk_1", GOOD)
    load_chunks(settings, bucket)
    build_models(settings)
    put(bucket, "chunk_2", GOOD)
    load_chunks(settings, bucket)
    export.export_detections(settings, bucket)
    assert index.has_unfinished_work()
    build_models(settings)
    export.export_detections(settings, bucket)
    assert not index.has_unfinished_work()
