"""Backtests give the same detections as replays with the same thresholds, and leave the stream unchanged."""

import csv
import io
import json
import os
import random
import signal
from pathlib import Path

import pytest
from support.gate import in_gate
from support.oracle import detect
from support.streams import (
    THRESHOLDS,
    random_stream,
    small_stream,
    write_chunk,
    write_importance,
    write_in_some_way,
    write_stream,
)
from tallymark.backtest.plan import BacktestError, plan
from tallymark.backtest.report import folder
from tallymark.backtest.run import backtest
from tallymark.local import certify
from tallymark.local.replay import replay
from tallymark.settings import Settings, SettingsError
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

SEEDS = [1, 3, 4, 5, 7, 8, 9, 10]


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def store(data, out) -> FolderStore:
    return FolderStore(data, target=out)


def settings_of(out: Path, **given) -> Settings:
    return Settings(warehouse=out / "warehouse.duckdb", **given)


def run_backtest(settings: Settings, store: FolderStore, vars: dict, first="", last="") -> tuple[dict, list[dict]]:
    """Run a backtest. Returns its summary and the rows of detections.csv."""
    summary = backtest(settings, store, plan(settings, vars, first, last))
    files = {
        stored.key.rpartition("/")[2]: store.get(stored).decode()
        for stored in store.list(folder("output/", summary["name"]))
    }
    assert json.loads(files["summary.json"]) == summary
    rows = list(csv.DictReader(io.StringIO(files["detections.csv"], newline="")))
    as_text = [
        ["" if value is None else str(value) for value in row.values()] for row in json.loads(files["detections.json"])
    ]
    assert as_text == [list(row.values()) for row in rows]
    return summary, rows


def side(rows: list[dict], name: str) -> list[tuple]:
    """Return chunk, pattern, merchant, customer and evidence of each detection of one side, sorted."""
    return sorted(
        (int(row[f"{name}_chunk_seq"]), row["pattern_id"], row["merchant"], row["customer"], row[f"{name}_evidence"])
        for row in rows
        if row[f"{name}_chunk_seq"]
    )


def write_stream_in_some_way(chance: random.Random, data: Path, chunks: list, importance: list, first: int = 1) -> None:
    if importance:
        write_importance(data, importance)
    for number, rows in enumerate(chunks, start=first):
        write_in_some_way(chance, data, number, rows)


@pytest.mark.system
@pytest.mark.parametrize("seed", SEEDS)
def test_backtest_without_vars_changes_nothing(data, out, store, seed):
    """Thresholds and customer importance change halfway through the stream."""
    chance = random.Random(seed)
    chunks, importance, first = random_stream(chance)
    _, other_importance, second = random_stream(chance)
    half = len(chunks) // 2
    write_stream_in_some_way(chance, data, chunks[:half], importance)
    replay(data, out, batch=2, vars=first)
    write_stream_in_some_way(chance, data, chunks[half:], other_importance, first=half + 1)
    replay(data, out, vars=second)
    settings = settings_of(out, vars=second, backtest_rows=chance.choice((1, 40, 10**6)))
    summary, rows = run_backtest(settings, store, {})
    assert {row["change"] for row in rows} == {"unchanged"}
    assert side(rows, "stream") == side(rows, "backtest")
    assert summary["totals"]["unchanged"] == len(rows) > 0
    decided = {row["name"]: row for row in summary["thresholds"]}
    assert all(row["stream"] == row["backtest"] for row in decided.values())
    name = "upgrade_top_percent"
    assert len(decided[name]["stream"]) == len({str(first[name]), str(second[name])})


@pytest.mark.parametrize("seed", in_gate(SEEDS, 1))
def test_backtest_equals_replay(data, out, store, tmp_path, seed):
    chance = random.Random(seed)
    chunks, importance, thresholds = random_stream(chance)
    _, _, others = random_stream(chance)
    write_stream_in_some_way(chance, data, chunks, importance)
    replay(data, out, batch=3, vars=thresholds)
    settings = settings_of(out, vars=thresholds, backtest_rows=chance.choice((1, 40, 10**6)))
    _, rows = run_backtest(settings, store, others)
    expected = detect(chunks, importance, others)
    assert [detection[:4] for detection in side(rows, "backtest")] == [tuple(one) for one in expected]
    assert [detection[:4] for detection in side(rows, "stream")] == [
        tuple(one) for one in detect(chunks, importance, thresholds)
    ]
    # The oracle has no evidence, so compare that with a replay.
    replay(data, tmp_path / "replayed", vars=others)
    _, same = run_backtest(settings_of(tmp_path / "replayed", vars=others), store, {})
    assert side(rows, "backtest") == side(same, "stream")


SIX_CHUNKS, IMPORTANCE = small_stream(chunks=6, rows=30)


@pytest.fixture
def stream(data, out) -> Settings:
    """The settings of a warehouse after a stream of six chunks."""
    write_stream(data, SIX_CHUNKS, IMPORTANCE)
    replay(data, out, vars=THRESHOLDS)
    return settings_of(out, vars=THRESHOLDS)


@pytest.mark.system
def test_range_of_chunks_equals_replay_with_change(stream, store, tmp_path):
    """A backtest from chunk 3 to 5 equals a replay of five chunks whose thresholds change at chunk 3."""
    others = THRESHOLDS | {"child_min_transactions": 3, "upgrade_top_percent": 20}
    _, rows = run_backtest(stream, store, others, first="chunk_3", last="5")
    data, out = tmp_path / "other data", tmp_path / "changed"
    write_importance(data, IMPORTANCE)
    for number, chunk in enumerate(SIX_CHUNKS[:5], start=1):
        write_chunk(data, f"chunk_{number}", chunk)
        replay(data, out, vars=THRESHOLDS if number < 3 else others)
    _, same = run_backtest(settings_of(out), FolderStore(data, target=out), {}, first="3")
    assert side(rows, "backtest") == side(same, "stream")
    assert {row["change"] for row in rows} > {"added", "unchanged"}
    assert {row["stream_chunk_seq"] for row in rows} <= {"", "3", "4", "5"}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder, except the results of backtests."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "backtests" not in path.parts]
    return {str(path): path.read_bytes() for path in paths}


def test_live_warehouse_and_output_are_unchanged(stream, out, store):
    before = contents(out)
    run_backtest(stream, store, {"child_min_transactions": 1})
    assert contents(out) == before
    [left] = (out / "backtests").iterdir()
    assert left.name == "lock"


@pytest.mark.system
def test_concurrent_and_killed_backtests(stream, out, store, processes):
    """Two backtests run at once, and the next backtest deletes the folder of a killed one."""
    tried = plan(stream, {"child_min_transactions": 1})
    alone = backtest(stream, store, tried)
    killed = processes.Process(target=backtest, args=(stream, store, tried, _die))
    killed.start()
    killed.join()
    assert len(list((out / "backtests").iterdir())) == 2
    both = [processes.Process(target=backtest, args=(stream, store, tried)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
        assert one.exitcode == 0
    found = [
        json.loads(store.get(stored)) for stored in store.list(folder("output/")) if stored.key.endswith("summary.json")
    ]
    assert len(found) == 3
    assert all(one["totals"] == alone["totals"] for one in found)
    assert [path.name for path in (out / "backtests").iterdir()] == ["lock"]


def _die(done: int, total: int, text: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_invalid_plan_is_rejected(stream, tmp_path, store):
    with pytest.raises(SettingsError, match="upgrade_top_percent is 101: it must be a number from 0 to 100"):
        plan(stream, {"upgrade_top_percent": 101})
    with pytest.raises(SettingsError, match="unknown vars: no_such_threshold"):
        plan(stream, {"no_such_threshold": 1})
    with pytest.raises(BacktestError, match=r"There is no released chunk chunk_99\. Give the key"):
        plan(stream, {}, last="chunk_99")
    with pytest.raises(BacktestError, match=r"The first chunk \(3\) comes after the last chunk \(chunk_2\)"):
        plan(stream, {}, first="3", last="chunk_2")
    with pytest.raises(BacktestError, match="There is no warehouse"):
        plan(settings_of(tmp_path / "nowhere"), {})
    with pytest.raises(BacktestError, match=r"take too long: .* rows in .* chunks: about \d+ s.*BACKTEST_SECONDS"):
        plan(stream.model_copy(update={"backtest_seconds": 1.0}), {})
    with pytest.raises(BacktestError, match=r"too much disk space: .*TALLYMARK_BACKTEST_BYTES allows 0\.0 MiB"):
        plan(stream.model_copy(update={"backtest_bytes": 1}), {})


def test_no_released_chunk_is_an_error(data, out):
    with connect(settings_of(out)):
        pass
    with pytest.raises(BacktestError, match="No chunk has been released yet"):
        plan(settings_of(out), {})


@pytest.mark.parametrize(("limit", "unit"), [("backtest_seconds", "s"), ("backtest_bytes", "MiB")])
def test_backtest_stops_at_limit(stream, out, store, limit, unit):
    tried = plan(stream, {})
    with pytest.raises(BacktestError, match=rf"The backtest was stopped.* {unit}.*TALLYMARK_{limit.upper()}"):
        backtest(stream.model_copy(update={limit: 0.001}), store, tried)
    assert [path.name for path in (out / "backtests").iterdir()] == ["lock"]
    assert not list(store.list(folder("output/")))


@pytest.mark.system
@pytest.mark.parametrize("shuffle", [None, 3], ids=["natural", "shuffled"])
def test_banksim(data, out, store, banksim, tmp_path, shuffle):
    certify.lay_out(banksim, data, shuffle)
    replay(data, out)
    _, rows = run_backtest(settings_of(out), store, {})
    assert {row["change"] for row in rows} == {"unchanged"}
    others = {"child_min_transactions": 60, "upgrade_top_percent": 5, "dei_min_female_customers": 90}
    _, rows = run_backtest(settings_of(out, backtest_rows=90_000), store, others)
    replay(data, tmp_path / "replayed", vars=others)
    _, same = run_backtest(settings_of(tmp_path / "replayed", vars=others), store, {})
    assert side(rows, "backtest") == side(same, "stream")
    assert {row["change"] for row in rows} > {"added", "unchanged"}
