"""Longer streams on Spark, compared with the oracle and with DuckDB.

``make test-system`` uses Sail, ``make test-spark`` uses Apache Spark.
"""

import random

import pytest
from support.loading import CASES, GOOD, body_of
from support.oracle import detect
from support.streams import THRESHOLDS, detected, random_stream, write_importance, write_in_some_way
from tallymark.audit import audit
from tallymark.local import certify
from tallymark.local.generate import generate
from tallymark.local.replay import replay
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore

pytestmark = pytest.mark.system
SEEDS = (1, 2, 4)


def on_duckdb(monkeypatch, data, out, vars) -> dict[str, list[str]]:
    with monkeypatch.context() as patched:
        patched.setenv("TALLYMARK_ENGINE", "duckdb")
        replay(data, out, vars=vars)
        return certify.contents(data, certify.Way("duckdb", out, 0))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_streams(tmp_path, seed):
    chance = random.Random(seed)
    chunks, importance, thresholds = random_stream(chance)
    data, out = tmp_path / "data", tmp_path / "out"
    if importance:
        write_importance(data, importance)
    for number, rows in enumerate(chunks, start=1):
        write_in_some_way(chance, data, number, rows)
    replay(data, out, batch=chance.choice((3, 5, None)), vars=thresholds)
    expected = detect(chunks, importance, thresholds)
    assert expected
    assert detected(out) == expected


@pytest.mark.parametrize("shuffle", [None, 3], ids=["natural", "shuffled"])
def test_banksim(tmp_path, banksim, monkeypatch, engine, shuffle):
    """All of BankSim, in file order and shuffled, at once and in batches."""
    data = tmp_path / "data"
    certify.lay_out(banksim, data, shuffle)
    expected = certify.digest(on_duckdb(monkeypatch, data, tmp_path / "duckdb", {}))
    # Sail encodes a space in a path twice.
    space = "_" if engine == "sail" else " "
    for name, batch in (("all at once", None), ("in batches", 17)):
        way = certify.Way(name, tmp_path / name.replace(" ", space), 0)
        replay(data, way.out, batch)
        assert certify.digest(certify.contents(data, way)) == expected
        store = FolderStore(data, target=way.out)
        assert audit(Settings(warehouse=way.out / "warehouse.duckdb"), store)["tests"] > 10


def test_every_replay_has_digest_of_duckdb(tmp_path, monkeypatch):
    generate(tmp_path / "source", rows=40_000)
    data = tmp_path / "data"
    certify.lay_out(tmp_path / "source", data)
    expected = certify.digest(on_duckdb(monkeypatch, data, tmp_path / "duckdb", THRESHOLDS))
    ways = list(certify.replay_in_every_way(data, tmp_path / "ways", THRESHOLDS, kills=3, seed=1))
    assert len(ways) == certify.WAYS
    assert {certify.digest(certify.contents(data, way)) for way in ways} == {expected}


def test_bad_input(tmp_path, monkeypatch, engine):
    """All cases of bad_input.yaml in one stream, with a good chunk before each case."""
    data = tmp_path / "data"
    store = FolderStore(data)
    for number, case in enumerate(CASES):
        store.put(f"input/transactions/chunk_{number:03d}a good", GOOD.encode())
        store.put(f"input/transactions/chunk_{number:03d}b{case.get('key', '')}", body_of(case))
    vars = {"child_min_transactions": 2, "child_max_average_amount": 1000, "dei_min_female_customers": 0}
    expected = on_duckdb(monkeypatch, data, tmp_path / "duckdb", vars)
    replay(data, tmp_path / "out", vars=vars)
    found = certify.contents(data, certify.Way("spark", tmp_path / "out", 0))
    if engine == "sail":
        # If all rows of a file have the same value, Sail reads it from the file's statistics as a binary fraction.
        del expected["merchants"], found["merchants"]
    assert found == expected
    assert len(expected["raw.rejected_rows"]) > 50
