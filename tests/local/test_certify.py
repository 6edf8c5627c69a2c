"""The determinism check: digests are equal for equal results, and differ if one row differs."""

import random
import shutil
from pathlib import Path

import duckdb
import pytest
from support.four_chunks import rows_of
from support.oracle import Row
from support.streams import THRESHOLDS, csv_text, write_chunk, write_importance
from tallymark.local.certify import Way, compare, lay_out, replay_in_every_way
from tallymark.local.feed import SourceError

CHUNKS = 8


@pytest.fixture(scope="module")
def certified(tmp_path_factory) -> tuple[Path, list[Way]]:
    """Chunks and their replays. Also chunk_7, which is rejected as a whole, and is named like the next chunk_7.csv."""
    data, chance = tmp_path_factory.mktemp("certify"), random.Random(1)
    customers = [(f"C{number}", "FMM"[number % 3]) for number in range(40)]
    pairs = [(name, gender, merchant) for name, gender in customers for merchant in ("M1", "M2", "M3")]
    write_importance(data, [(name, merchant, str(chance.randrange(9))) for name, _, merchant in pairs])
    for number in range(1, CHUNKS + 1):
        rows = [
            Row(name, merchant, gender, chance.choice(("20", "25")))
            for name, gender, merchant in chance.choices(pairs, k=90)
        ]
        write_chunk(data, "chunk_7.csv" if number == 7 else f"chunk_{number}", [*rows, Row("broken", "M1", "F", "x")])
    (data / "input/transactions/chunk_7").write_text("rejected as a whole\n")
    return data, list(replay_in_every_way(data, data / "out", THRESHOLDS, kills=0, seed=1))


@pytest.mark.system
def test_every_way_has_the_same_digest(certified, capsys):
    data, ways = certified
    assert compare(data, ways)
    _, *lines = capsys.readouterr().out.splitlines()
    assert len({line.split()[-1] for line in lines}) == 1
    assert [line[:24].strip() for line in lines] == [way.name for way in ways]


@pytest.mark.system
def test_kills_do_not_change_the_digest(certified, tmp_path):
    data, (first, *_) = certified
    *_, killed = replay_in_every_way(data, tmp_path, THRESHOLDS, kills=3, seed=1)
    assert killed.kills > 0
    assert compare(data, [first, killed])


@pytest.mark.system
def test_batches_differ(certified):
    """Without different batches, the check would prove nothing."""
    _, ways = certified
    released = [
        duckdb.connect(str(way.out / "warehouse.duckdb"), read_only=True).sql("from output.releases").fetchall()
        for way in ways
    ]
    assert [len(rows) for rows in released[:3]] == [CHUNKS, 2, 1]
    assert 1 < len(released[3]) < CHUNKS


@pytest.mark.system
@pytest.mark.parametrize(
    "difference, found",
    [
        (
            "update detections set merchant_transactions = -1 where detection_id = 3",
            "detections: 1 line missing, 1 line added",
        ),
        ("update raw.chunks set rows_accepted = 1 where chunk_seq = 2", "raw.chunks: 1 line missing, 1 line added"),
        (
            "update raw.transactions set gender = 'X' where chunk_seq = 3 and line_number = 7",
            "raw.transactions: 1 line ",
        ),
        ("delete from merchants where merchant = 'M2'", "merchants: 1 line missing, 0 lines added"),
        ("delete from raw.rejected_rows where chunk_seq = 3", "raw.rejected_rows: 1 line missing, 0 lines added"),
    ],
)
def test_changed_row_is_found(certified, tmp_path, capsys, difference, found):
    data, (first, *_, last) = certified
    shutil.copytree(last.out, tmp_path / "out")
    with duckdb.connect(str(tmp_path / "out/warehouse.duckdb")) as warehouse:
        warehouse.execute(difference)
    assert not compare(data, [first, Way("changed", tmp_path / "out", 0)])
    assert f"PROBLEM: changed: {found}" in capsys.readouterr().out


@pytest.mark.system
def test_missing_file_is_found(certified, tmp_path, capsys):
    data, (first, *_, last) = certified
    shutil.copytree(last.out, tmp_path / "out")
    (tmp_path / "out/output/detections/detections-00000001.csv").unlink()
    assert not compare(data, [first, Way("changed", tmp_path / "out", 0)])
    assert "detections-00000001.csv (" in capsys.readouterr().out


def test_file_is_cut_into_chunks(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/transactions.csv").write_text(csv_text(row for number in range(150) for row in rows_of(number)))
    chunks = {}
    for name, seed in (("natural", None), ("shuffled", 1), ("again", 1), ("other", 2)):
        lay_out(tmp_path / "source", tmp_path / name, seed)
        paths = sorted((tmp_path / name / "input/transactions").iterdir())
        chunks[name] = [path.read_text().splitlines() for path in paths]
    assert chunks["natural"] != chunks["shuffled"] == chunks["again"] != chunks["other"]
    assert [len(lines) for lines in chunks["shuffled"]] == [10_001, len(rows_of(1)) * 150 - 10_000 + 1]
    assert len({tuple(sorted(lines for chunk in chunks[name] for lines in chunk)) for name in chunks}) == 1


def test_folder_without_transactions_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="contains neither"):
        lay_out(tmp_path, tmp_path / "data")
