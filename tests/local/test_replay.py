"""Replays of a folder, and the generated data."""

import gzip

import pytest
from support.oracle import Row
from support.streams import detected, exported, write_chunk
from tallymark.audit import audit
from tallymark.cli import main
from tallymark.local import replay as replay_module
from tallymark.local.generate import generate
from tallymark.local.replay import replay
from tallymark.pipeline.load import load_chunks
from tallymark.recovery.rebuild import rebuild
from tallymark.recovery.verify import verify
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore


def test_seed_determines_generated_data(tmp_path):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(tmp_path / folder, rows=500, seed=seed)
    for name in ("transactions.csv.gz", "customer_importance.csv.gz"):
        a, b, c = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert a == b != c


@pytest.mark.system
def test_generated_data_triggers_all_patterns(tmp_path):
    generate(tmp_path / "source")
    folder = tmp_path / "input/transactions"
    folder.mkdir(parents=True)
    with gzip.open(tmp_path / "source/transactions.csv.gz", "rt") as file:
        header, lines = file.readline(), list(file)
    for start in range(0, len(lines), 10_000):
        (folder / f"chunk_{start}").write_text(header + "".join(lines[start : start + 10_000]))
    (tmp_path / "input/customers").mkdir()
    (tmp_path / "source/customer_importance.csv.gz").rename(tmp_path / "input/customers/importance.csv.gz")
    assert replay(tmp_path, tmp_path / "out", batch=10)["chunks"] == 20
    assert {detection.pattern_id for detection in detected(tmp_path / "out")} == {"PatId1", "PatId2", "PatId3"}


def test_replay_continues_where_it_stopped(tmp_path):
    spender = [Row("C", "M", "F", "1")] * 80
    write_chunk(tmp_path, "chunk_1", spender)
    assert replay(tmp_path, tmp_path / "out") == {"chunks": 1, "detections": 1, "files": 1}
    assert replay(tmp_path, tmp_path / "out") == {"chunks": 0, "detections": 0, "files": 0}
    write_chunk(tmp_path, "chunk_2", [*spender, *(row._replace(merchant="N") for row in spender)])
    assert replay(tmp_path, tmp_path / "out") == {"chunks": 1, "detections": 1, "files": 1}
    assert [detection[:4] for detection in detected(tmp_path / "out")] == [
        (1, "PatId2", "M", "C"),
        (2, "PatId2", "N", "C"),
    ]


@pytest.mark.system
def test_existing_output_of_the_bucket_is_ignored(tmp_path):
    """As after a demo: the bucket's own output, under other thresholds, is neither read nor continued."""
    bucket, out = tmp_path / "bucket", tmp_path / "out"
    write_chunk(bucket, "chunk_1", [Row(customer, "M", "F", "1") for customer in ("C1", "C2") for _ in range(60)])
    write_chunk(bucket, "chunk_2", [Row("C2", "M", "F", "1")] * 20)
    assert replay(bucket, bucket, batch=1) == {"chunks": 2, "detections": 1, "files": 1}
    before = exported(bucket)
    given = {"child_min_transactions": 60}
    assert replay(bucket, out, batch=1, vars=given) == {"chunks": 2, "detections": 2, "files": 1}
    assert replay(bucket, out, vars=given) == {"chunks": 0, "detections": 0, "files": 0}
    assert exported(bucket) == before
    settings, store = Settings(warehouse=out / "warehouse.duckdb"), FolderStore(bucket, target=out)
    assert verify(store, settings.output_prefix)["rows"] == 2
    assert audit(settings, store)["detection_files"] == 1
    settings.warehouse.unlink()
    assert rebuild(settings, store) == {"chunks": 2, "detections": 2, "files": 1}


def run(capsys, data, vars: str = "{}") -> tuple[int, str, str]:
    """Run the command; return its exit code, stdout and stderr."""
    code = main(["replay", str(data), str(data / "out"), "--vars", vars])
    return code, *capsys.readouterr()


def test_repeat_with_other_thresholds_is_an_error(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO")
    for number in (1, 2):
        write_chunk(tmp_path, f"chunk_{number}", [Row("C", "M", "F", "1")] * 30)
    assert run(capsys, tmp_path)[0] == 0
    code, out, error = run(
        capsys,
        tmp_path,
        "{child_min_transactions: 60, upgrade_weight_aggregate: avg, dei_min_female_customers: 100.0}",
    )
    assert (code, out) == (1, "")
    assert error == (
        f"ERROR: Nothing to do: {tmp_path / 'out'} already contains all 2 chunks, evaluated with other thresholds "
        "(child_min_transactions changed from 80 to 60, upgrade_weight_aggregate changed from sum to avg). These "
        "results are final. To try the new thresholds, choose another OUT.\n"
    )
    write_chunk(tmp_path, "chunk_3", [Row("C", "M", "F", "1")])
    code, out, error = run(capsys, tmp_path, "{child_min_transactions: 60}")
    assert (code, out) == (0, '{"chunks": 1, "detections": 1, "files": 1}\n')
    assert f"Chunks that {tmp_path / 'out'} already contained keep their results. New thresholds: child_min_" in error


def test_repeat_reports_nothing_to_do(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO")
    write_chunk(tmp_path, "chunk_1", [Row("C", "M", "F", "1")])
    for vars in ("{child_max_average_amount: 22.5}", "{child_max_average_amount: '22.50'}"):
        code, _, error = run(capsys, tmp_path, vars)
        assert code == 0
    assert f"Nothing to do: {tmp_path / 'out'} already contains the only chunk." in error


def test_folder_without_chunks_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="contains no chunk_"):
        replay(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("batch", ["-1", "0", "ten", "1.5"])
def test_invalid_batch_is_wrong_usage(tmp_path, batch, monkeypatch, capsys):
    write_chunk(tmp_path, "chunk_1", [Row("C1", "M1", "F", "1")])
    monkeypatch.setattr(replay_module, "replay", lambda **_: pytest.fail("the replay ran"))
    assert main(["replay", str(tmp_path), str(tmp_path / "out"), "--batch", batch]) == 2
    assert "ERROR: Invalid value for '--batch': " in capsys.readouterr().err


@pytest.mark.parametrize("batch", [-1, 0])
def test_batch_below_one_is_an_error(tmp_path, batch):
    write_chunk(tmp_path, "chunk_1", [Row("C1", "M1", "F", "1")])
    with pytest.raises(ValueError, match=f"max_chunks is {batch}; it must be at least 1"):
        replay(tmp_path, tmp_path / "out", batch=batch)


def test_unfinished_work_is_finished_without_its_chunks(tmp_path):
    write_chunk(tmp_path, "chunk_1", [Row("C1", "M1", "F", "1")] * 80)
    out = tmp_path / "out"
    load_chunks(Settings(warehouse=out / "warehouse.duckdb"), FolderStore(tmp_path, target=out))
    (tmp_path / "input/transactions/chunk_1").unlink()
    assert replay(tmp_path, out) == {"chunks": 0, "detections": 1, "files": 1}
    with pytest.raises(FileNotFoundError):
        replay(tmp_path, out)
