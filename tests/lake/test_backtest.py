"""Backtest of a stream whose raw rows are on Spark."""

import json

import pytest
from support.oracle import Row
from support.streams import THRESHOLDS, write_chunk
from tallymark.backtest.plan import plan
from tallymark.backtest.report import folder
from tallymark.backtest.run import backtest
from tallymark.local.replay import replay
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore

pytestmark = pytest.mark.system


def changes(data, out, vars) -> list[dict]:
    """Replay the data, run a backtest, and return its detections."""
    replay(data, out, vars=THRESHOLDS)
    settings = Settings(warehouse=out / "warehouse.duckdb", vars=THRESHOLDS, backtest_rows=100)
    store = FolderStore(data, target=out)
    name = backtest(settings, store, plan(settings, vars))["name"]
    [stored] = store.list(f"{folder('output/', name)}detections.json")
    return json.loads(store.get(stored))


def test_backtest_equals_duckdb(data, tmp_path, monkeypatch):
    vars = {"child_min_transactions": 3, "upgrade_top_percent": 20}
    found = changes(data, tmp_path / "out", vars)
    assert {row["change"] for row in found} > {"earlier", "unchanged"}
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    assert replay(data, tmp_path / "out", vars=THRESHOLDS)["detections"] == 1
    (data / "input/transactions/chunk_4").unlink()
    monkeypatch.setenv("TALLYMARK_ENGINE", "duckdb")
    assert found == changes(data, tmp_path / "duckdb", vars)
