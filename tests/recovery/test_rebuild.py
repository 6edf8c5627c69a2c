"""Manifests in the bucket: the rebuild of a lost warehouse, and verification of the detection files."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from support.four_chunks import VARS, rows_of, settings
from support.oracle import Row
from support.streams import detected, write_chunk, write_importance
from tallymark.audit import AuditError, audit
from tallymark.local.replay import replay
from tallymark.outbox.manifest import ManifestError, latest
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.recovery.rebuild import RebuildError, rebuild
from tallymark.recovery.verify import verify
from tallymark.store.folder import FolderStore
from tallymark.warehouse.errors import WarehouseError

TABLES = [
    "raw.transactions",
    "raw.rejected_rows",
    "raw.customer_importance",
    "merchants",
    "merchant_customers",
    "customer_weights",
    "chunk_thresholds",
    "detections",
    "(select * exclude (planned_at, put_at, body) from output.files)",
    "raw.chunks",
]


@pytest.fixture(scope="module")
def processed(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("processed")
    write_importance(data, [(f"U{index}", "M3", str(9 - index)) for index in range(8)])
    for number in range(1, 5):
        write_chunk(data, f"chunk_{number}", rows_of(number))
    (data / "input/transactions/chunk_2x").write_text("no header\n")
    for packed in (data / "input/transactions/chunk_3", *(data / "input/customers").iterdir()):
        packed.write_bytes(gzip.compress(packed.read_bytes()))
    replay(data, data / "out", batch=2, vars=VARS)
    return data


@pytest.fixture
def data(processed, tmp_path) -> Path:
    return Path(shutil.copytree(processed, tmp_path / "data"))


@pytest.fixture
def out(data) -> Path:
    return data / "out"


def contents(out: Path) -> dict[str, list]:
    with duckdb.connect(str(out / "warehouse.duckdb"), read_only=True) as warehouse:
        return {table: sorted(warehouse.sql(f"from {table}").fetchall(), key=str) for table in TABLES}


def files(out: Path) -> dict[str, bytes]:
    paths = [path for path in (out / "output").rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def lose_warehouse(out: Path) -> None:
    for path in out.iterdir():
        if path.name.startswith("warehouse"):
            path.unlink()


def test_lost_warehouse_is_rebuilt_unchanged(data, out):
    store = FolderStore(data, target=out)
    before, files_before = contents(out), files(out)
    assert {row.pattern_id for row in detected(out)} == {"PatId1", "PatId2", "PatId3"}
    lose_warehouse(out)
    with pytest.raises(WarehouseError, match="make rebuild"):
        replay(data, out, vars=VARS)
    assert rebuild(settings(out), store)["chunks"] == 5
    assert contents(out) == before
    assert files(out) == files_before
    audit(settings(out), store)


def test_rebuilt_warehouse_continues_like_the_lost_one(data, out):
    shutil.copytree(out, data / "undisturbed")
    lose_warehouse(out)
    rebuild(settings(out), FolderStore(data, target=out))
    write_chunk(data, "chunk_5", rows_of(5))
    assert replay(data, out, vars=VARS) == replay(data, data / "undisturbed", vars=VARS)

    def without_times(folder: Path) -> list:
        with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
            return warehouse.sql("select * exclude (y_started_at, detected_at) from detections order by 1").fetchall()

    assert without_times(out) == without_times(data / "undisturbed")


def test_changed_missing_words_stop_the_rebuild(data, out):
    write_chunk(data, "chunk_5", [Row("NULL", "M1", "F", "1"), *rows_of(5)])
    replay(data, out, vars=VARS)
    before, store = contents(out), FolderStore(data, target=out)
    lose_warehouse(out)
    with pytest.raises(RebuildError, match=r"chunk_5: 106 before, 107 now\. Set TALLYMARK_MISSING_WORDS"):
        rebuild(settings(out, missing_words=""), store)
    rebuild(settings(out), store)
    assert contents(out) == before


@pytest.mark.parametrize("where", ["beginning", "middle", "everywhere", "end"])
def test_broken_warehouse_error_names_the_command(data, out, where):
    warehouse = out / "warehouse.duckdb"
    body = bytearray(warehouse.read_bytes())
    size = len(body)
    if where == "end":
        body = body[: size // 2]
    else:
        first, last = {"beginning": (0, 12_288), "middle": (size // 4, size * 3 // 4), "everywhere": (0, size)}[where]
        body[first:last] = b"\xa5" * (last - first)
    before = contents(out)
    warehouse.write_bytes(body)
    write_chunk(data, "chunk_5", rows_of(5))
    with pytest.raises(Exception, match="make rebuild"):
        replay(data, out, vars=VARS)
    (data / "input/transactions/chunk_5").unlink()
    rebuild(settings(out), FolderStore(data, target=out))
    assert contents(out) == before
    assert (out / "warehouse.duckdb.before_rebuild").read_bytes() != b""


def test_rebuild_puts_listed_but_missing_files(data, out):
    before, files_before = contents(out), files(out)
    lost = sorted((out / "output/detections").iterdir())[-2:]
    for path in [*lost, out / "output/manifests/latest.json"]:
        path.unlink()
    (out / "output/manifests/latest.json").write_bytes(latest_before(out))
    lose_warehouse(out)
    rebuild(settings(out), FolderStore(data, target=out))
    assert contents(out) == before
    assert files(out) == files_before


def latest_before(out: Path) -> bytes:
    """The content of latest.json before the last manifest."""
    body = manifest_file(out, 2).read_bytes()
    return latest(json.loads(body), body)


def test_rebuild_keeps_held_back_detections(data, tmp_path):
    out = tmp_path / "held"
    held = settings(out, hold_remainder_seconds=3600)
    store = FolderStore(data, target=out)
    load_chunks(held, store)
    build_models(held)
    assert export_detections(held, store)["held"]
    before = contents(out)
    lose_warehouse(out)
    rebuild(held, store)
    assert contents(out) == before
    replay(data, out, vars=VARS)
    assert verify(store, settings(out).output_prefix)["rows"] == len(before["detections"])


def test_missing_chunks_are_named_and_can_be_skipped(data, out):
    files_before = files(out)
    lose_warehouse(out)
    (data / "input/transactions/chunk_3").unlink()
    with (data / "input/transactions/chunk_4").open("a") as file:
        file.write("'C','M1',1\n")
    store = FolderStore(data, target=out)
    with pytest.raises(RebuildError, match=r"2 chunks are missing.*\n.*chunk_3\n.*chunk_4\n"):
        rebuild(settings(out), store)
    assert not (out / "warehouse.duckdb").exists()
    rebuild(settings(out), store, without_missing=True)
    with duckdb.connect(str(out / "warehouse.duckdb")) as warehouse:
        states = warehouse.sql("select chunk_key, state from raw.chunks order by chunk_seq").fetchall()
    assert [state for _, state in states] == ["accepted", "accepted", "rejected", "rejected", "rejected"]
    replay(data, out, vars=VARS)
    with pytest.raises(AuditError, match=r"found 1 difference:\ndetections_are_numbered_and_in_files: .*"):
        audit(settings(out), store)
    assert files(out).items() >= {key: body for key, body in files_before.items() if "latest" not in key}.items()


def rejected_twice(data: Path, out: Path) -> None:
    """A chunk is rejected as a whole, then replaced under the same key and accepted with a rejected row."""
    (data / "input/transactions/chunk_5").write_text("no header\n")
    replay(data, out, vars=VARS)
    write_chunk(data, "chunk_5", rows_of(5))
    replay(data, out, vars=VARS)


def rejected_files(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "output/rejected").iterdir())


def test_rebuild_finds_rejected_files_again(data, out):
    rejected_twice(data, out)
    before, files_before = contents(out), files(out)
    assert rejected_files(out)[-2:] == ["chunk_5-7.csv", "chunk_5.csv"]
    lose_warehouse(out)
    rebuild(settings(out), FolderStore(data, target=out))
    assert contents(out) == before
    assert files(out) == files_before
    audit(settings(out), FolderStore(data, target=out))


def test_unexported_chunk_keeps_its_rejected_file(data, out):
    store = FolderStore(data, target=out)
    (data / "input/transactions/chunk_5").write_text("no header\n")
    write_chunk(data, "chunk_6", rows_of(6))
    load_chunks(settings(out), store)
    files_before = rejected_files(out)
    lose_warehouse(out)
    rebuild(settings(out), store)
    replay(data, out, vars=VARS)
    assert rejected_files(out) == files_before
    with duckdb.connect(str(out / "warehouse.duckdb"), read_only=True) as warehouse:
        found = warehouse.sql("select chunk_seq, file_key from output.files where chunk_seq > 5 order by 1").fetchall()
    assert found == [(6, "output/rejected/chunk_5.csv"), (7, "output/rejected/chunk_6.csv")]
    audit(settings(out), store)


def test_rejected_importance_version_may_be_reused(data, out):
    """Manifests do not list the version, because no chunk used it. Its file stays unchanged."""
    path = data / "input/customers/customer_importance.csv"
    path.write_text("no header\n")
    write_chunk(data, "chunk_5", rows_of(5))
    replay(data, out, vars=VARS)
    rejected = out / "output/rejected/customer_importance-2.csv"
    before = rejected.read_text()
    lose_warehouse(out)
    path.write_text("Source,Target,Weight\nU1,M3,1\nbad\n")
    store = FolderStore(data, target=out)
    rebuild(settings(out), store)
    write_chunk(data, "chunk_6", rows_of(6))
    replay(data, out, vars=VARS)
    assert rejected.read_text() == before
    assert "has 1 field instead of 3" in rejected.with_name("customer_importance-2-2.csv").read_text()
    audit(settings(out), store)


def test_missing_chunk_keeps_its_rejected_file_name(data, out):
    """The file of another chunk, which would get the same name, keeps its own name."""
    write_chunk(data, "chunk_3.csv", rows_of(7))
    replay(data, out, vars=VARS)
    files_before = rejected_files(out)
    assert "chunk_3-6.csv" in files_before
    lose_warehouse(out)
    (data / "input/transactions/chunk_3").unlink()
    rebuild(settings(out), FolderStore(data, target=out), without_missing=True)
    assert rejected_files(out) == files_before


def test_replaced_importance_is_a_new_version(data, out):
    detections = contents(out)["detections"]
    lose_warehouse(out)
    old = (data / "input/customers/customer_importance.csv").read_bytes()
    write_importance(data, [("U1", "M3", "1")])
    store = FolderStore(data, target=out)
    rebuild(settings(out), store)
    assert contents(out)["detections"] == detections
    write_chunk(data, "chunk_5", rows_of(5))
    replay(data, out, vars=VARS)
    (data / "input/customers/customer_importance.csv").write_bytes(old)
    write_chunk(data, "chunk_6", rows_of(6))
    replay(data, out, vars=VARS)
    with duckdb.connect(str(out / "warehouse.duckdb")) as warehouse:
        versions = warehouse.sql("select importance_version from raw.chunks order by chunk_seq").fetchall()
    assert [version for (version,) in versions[-3:]] == [1, 2, 3]
    audit(settings(out), store)


def test_killed_rebuild_can_be_repeated(data, out, monkeypatch):
    before, files_before = contents(out), files(out)
    lose_warehouse(out)
    store = FolderStore(data, target=out)
    for step in ("build_models", "ImportanceLoader", "_restore_times"):
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(f"tallymark.recovery.rebuild.{step}", lambda *_, **__: 1 / 0)
            rebuild(settings(out), store)
        assert not (out / "warehouse.duckdb").exists()
    (out / "warehouse.rebuild.duckdb").write_bytes(b"left by a rebuild that was killed")
    rebuild(settings(out), store)
    assert contents(out) == before
    assert files(out) == files_before


def test_rebuild_needs_exclusive_access(data, out, monkeypatch):
    monkeypatch.setattr("tallymark.warehouse.lock.open_when_free.retry.stop", lambda state: True)
    script = (
        f"import duckdb; kept = duckdb.connect({str(out / 'warehouse.duckdb')!r}); print('open', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        with pytest.raises(WarehouseError, match="is open elsewhere"):
            rebuild(settings(out), FolderStore(data, target=out))
        other.communicate(b"\n")


def test_a_bucket_without_manifests_needs_no_rebuild(tmp_path):
    with pytest.raises(RebuildError, match="no manifest"):
        rebuild(settings(tmp_path), FolderStore(tmp_path))


def detection_file(out: Path, number: int) -> Path:
    return out / f"output/detections/detections-{number:08d}.csv"


def manifest_file(out: Path, number: int) -> Path:
    return out / f"output/manifests/manifest-{number:08d}.json"


def test_verify_counts_manifests_files_and_rows(data, out):
    number_of_files = len(list((out / "output/detections").iterdir()))
    assert verify(FolderStore(out), settings(out).output_prefix) == {
        "manifests": 3,
        "files": number_of_files,
        "rows": len(contents(out)["detections"]),
    }


TAMPERED = {
    "a file is missing": (lambda out: detection_file(out, 2).unlink(), "detections-00000002.csv .* is missing"),
    "the last file is missing": (
        lambda out: sorted((out / "output/detections").iterdir())[-1].unlink(),
        "detections-0000000[0-9].csv .* is missing",
    ),
    "a file was changed": (
        lambda out: detection_file(out, 1).write_bytes(detection_file(out, 1).read_bytes().replace(b"CHILD", b"child")),
        "detections-00000001.csv .* was changed",
    ),
    "an unlisted file": (
        lambda out: shutil.copy(detection_file(out, 1), detection_file(out, 99)),
        "detections-00000099.csv is not listed in any manifest",
    ),
    "a manifest is missing": (lambda out: manifest_file(out, 1).unlink(), "manifest-00000001.json is missing"),
    "the last manifest is missing": (lambda out: manifest_file(out, 3).unlink(), "manifest-00000003.json is missing"),
    "a manifest was changed": (
        lambda out: manifest_file(out, 1).write_text(manifest_file(out, 1).read_text().replace("M1", "M9")),
        "manifest-00000001.json or .*manifest-00000002.json was changed",
    ),
    "the last manifest was changed": (
        lambda out: manifest_file(out, 3).write_text(manifest_file(out, 3).read_text().replace("M1", "M9")),
        "manifest-00000003.json was changed",
    ),
    "a manifest is not JSON": (lambda out: manifest_file(out, 2).write_text("{"), "not valid JSON"),
    "latest.json is missing": (
        lambda out: (out / "output/manifests/latest.json").unlink(),
        "latest.json is missing",
    ),
    "the last manifest is missing and latest.json names the one before": (
        lambda out: (
            (out / "output/manifests/latest.json").write_bytes(latest_before(out)),
            manifest_file(out, 3).unlink(),
        ),
        "is not listed in any manifest",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_verify_detects_tampering(out, name):
    tamper, message = TAMPERED[name]
    tamper(out)
    with pytest.raises(ManifestError, match=message):
        verify(FolderStore(out), settings(out).output_prefix)


def test_lowered_limits_do_not_stop_the_rebuild(data, out):
    before = contents(out)
    lose_warehouse(out)
    rebuild(settings(out, max_object_bytes=1, max_decompressed_bytes=1), FolderStore(data, target=out))
    assert contents(out) == before
