"""Manual commands on Spark: doctor, dbt and build. Also a server that does not answer."""

import pytest
from support.oracle import Row
from support.streams import THRESHOLDS, detected, write_chunk
from tallymark.cli import main
from tallymark.doctor.lake import check_lake
from tallymark.lake.on_spark import LakeError
from tallymark.local.replay import replay
from tallymark.settings import Settings


def test_doctor_checks_spark(engine, tmp_path, monkeypatch):
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    [finding] = check_lake(settings)
    assert str(finding) == "works        spark        Spark answers, computes exactly and can create Delta tables"
    # Sail does not delete the files of dropped tables.
    assert engine == "sail" or not list((tmp_path / "lake").glob("*/*"))
    monkeypatch.setenv("SPARK_REMOTE", "sc://127.0.0.1:1/;token=secret")
    [finding] = check_lake(settings)
    assert "FAILS        spark        Spark does not answer at SPARK_REMOTE=sc://127.0.0.1:1/ (" in str(finding)


def test_doctor_reports_unreachable_databricks(tmp_path, monkeypatch):
    monkeypatch.setenv("TALLYMARK_ENGINE", "databricks")
    monkeypatch.setenv("DATABRICKS_HOST", "127.0.0.1:1")
    [finding] = check_lake(Settings(warehouse=tmp_path / "warehouse.duckdb"))
    assert "Databricks does not answer at 127.0.0.1:1 (" in str(finding)


@pytest.mark.system
def test_chunks_are_loaded_while_spark_is_down(data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    replay(data, out, vars=THRESHOLDS)
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    with monkeypatch.context() as down:
        down.setenv("SPARK_REMOTE", "sc://127.0.0.1:1")
        with pytest.raises(LakeError, match="the next run continues where this one stopped"):
            replay(data, out, vars=THRESHOLDS)
    assert replay(data, out, vars=THRESHOLDS) == {"chunks": 0, "detections": 1, "files": 1}


@pytest.mark.system
def test_manual_dbt_and_build(data, tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    replay(data, out, vars=THRESHOLDS)
    before = detected(out)
    monkeypatch.setenv("TALLYMARK_WAREHOUSE", str(out / "warehouse.duckdb"))
    assert main(["dbt", "show", "--select", "merchants", "--limit", "1"]) == 0
    assert "female_customers" in capfd.readouterr().out
    assert main(["dbt", "run", "--select", "no_such_model"]) == 0
    assert main(["dbt", "no-such-command"]) == 1
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    assert main(["build", "--full-refresh", "--vars", "{child_min_transactions: 5}"]) == 0
    assert '"detections": 0' in capfd.readouterr().out
    replay(data, out, vars=THRESHOLDS)
    assert detected(out)[: len(before)] == before
    assert len(detected(out)) == len(before) + 1
