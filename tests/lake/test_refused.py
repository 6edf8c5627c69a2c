"""Rows, statements and settings on Spark that must not affect the result. Some tests also remove the protection."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import spark
from support.oracle import Row
from support.streams import THRESHOLDS, detected, write_chunk
from tallymark.audit import AuditError, audit
from tallymark.lake import on_spark
from tallymark.lake.on_spark import LakeError
from tallymark.local import certify
from tallymark.local.replay import replay
from tallymark.patterns import DBT_PROJECT
from tallymark.pipeline.build import BuildError, build_models
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse import invoke_dbt
from tallymark.warehouse.connection import connect

pytestmark = pytest.mark.system


@pytest.fixture
def out(data, tmp_path) -> Path:
    replay(data, tmp_path / "out", vars=THRESHOLDS)
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    return tmp_path / "out"


@pytest.fixture
def settings(out) -> Settings:
    return Settings(warehouse=out / "warehouse.duckdb", vars=THRESHOLDS)


@pytest.fixture
def schema(settings) -> str:
    with connect(settings, read_only=True) as warehouse:
        return warehouse.execute("select schema_name from lake.about").fetchone()[0]


def without_load_id(tmp_path, monkeypatch) -> None:
    """Use a copy of the dbt project in which rows count regardless of their load_id."""
    project = tmp_path / "project"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    macros = project / "macros/lake/prepare_build.sql"
    condition = " and loaded.load_id = chunks.load_id"
    assert condition in macros.read_text()
    macros.write_text(macros.read_text().replace(condition, ""))
    monkeypatch.setattr(invoke_dbt, "DBT_PROJECT", project)
    monkeypatch.setattr(invoke_dbt, "_parsed", {})


@pytest.mark.parametrize("is_weakened", [False, True], ids=["as it is", "without load_id"])
def test_rows_sent_twice_count_once(data, out, tmp_path, monkeypatch, is_weakened):
    """A build dies after its rows have reached Spark, but before the warehouse has recorded that."""
    operate = on_spark.OnSpark._operate

    def operate_and_die(self, *arguments, **named):
        operate(self, *arguments, **named)
        raise ZeroDivisionError

    with monkeypatch.context() as dying, pytest.raises(ZeroDivisionError):
        dying.setattr(on_spark.OnSpark, "_operate", operate_and_die)
        replay(data, out, vars=THRESHOLDS)
    if is_weakened:
        without_load_id(tmp_path, monkeypatch)
        with pytest.raises(BuildError, match="rows_in_file_are_accepted_or_rejected"):
            replay(data, out, vars=THRESHOLDS)
    else:
        assert replay(data, out, vars=THRESHOLDS)["detections"] == 1


@pytest.mark.parametrize("is_shared", [False, True], ids=["as it is", "one schema for all builds"])
def test_late_statement_of_earlier_build_is_harmless(data, tmp_path, monkeypatch, is_shared):
    """It read its rows earlier, and replaces batch_candidates just before these are copied to the warehouse."""
    out = tmp_path / "out"
    if is_shared:
        use = on_spark.OnSpark._use

        def use_the_same(self, *arguments):
            use(self, *arguments)
            self._environment["LAKE_BUILD"] = "build_same"

        monkeypatch.setattr(on_spark.OnSpark, "_use", use_the_same)
    statements = []
    with monkeypatch.context() as watched:
        spark.watch(watched, statements.append)
        replay(data, out, vars=THRESHOLDS)
    [(table, schema)] = re.findall(
        r"create or replace table ((\S+)_build_\w+\.batch_candidates)\b", "".join(statements)
    )
    spark.sql(f"create table {schema}.old_candidates using delta as select * from {table}")
    late = f"create or replace table {table} using delta as select * from {schema}.old_candidates"
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    with monkeypatch.context() as watched:
        spark.watch(watched, lambda sql: spark.run_late(late) if "from" in sql and "collect_" in sql else None)
        found = replay(data, out, vars=THRESHOLDS)["detections"]
    assert found == (0 if is_shared else 1)


def test_build_overtaken_by_another_is_discarded(data, out, settings, monkeypatch):
    """The other build drops the schema of the first, which therefore fails in one of its models."""
    assert load_chunks(settings, FolderStore(data, target=out))["chunks_accepted"] == 1
    # While dbt runs, the environment also names the schema of the build.
    environment = os.environ | {
        "TALLYMARK_WAREHOUSE": str(settings.warehouse),
        "TALLYMARK_VARS": json.dumps(THRESHOLDS),
    }
    others: list[subprocess.CompletedProcess] = []

    def overtake(sql: str) -> None:
        if "customers_by_transactions" in sql and "create or replace table" in sql and not others:
            others.append(subprocess.run([sys.executable, "-m", "tallymark", "build"], env=environment))

    with monkeypatch.context() as watched, pytest.raises(LakeError, match="Another build of this warehouse started"):
        spark.watch(watched, overtake)
        build_models(settings, full_refresh=True)
    assert [other.returncode for other in others] == [0]
    assert replay(data, out, vars=THRESHOLDS)["detections"] == 1


def test_audit_finds_changed_row(data, out, settings, schema):
    replay(data, out, vars=THRESHOLDS)
    store = FolderStore(data, target=out)
    audit(settings, store)
    spark.sql(f"update {schema}.raw_transactions set amount = amount + 1 where chunk_seq = 1 and line_number = 2")
    with pytest.raises(AuditError, match="state_is_that_of_the_raw_rows"):
        audit(settings, store)
    spark.sql(f"update {schema}.raw_transactions set amount = amount - 1 where chunk_seq = 1 and line_number = 2")
    audit(settings, store)


@pytest.mark.parametrize("mark", [1, 99], ids=["behind", "ahead"])
def test_restored_state_is_rejected(data, out, settings, schema, mark):
    spark.sql(f"update {schema}.merchants set last_chunk_seq = {mark}")
    with pytest.raises(
        LakeError, match=rf"merchants ends with chunk {mark}; according to the ledger, it must end between 3 and 4"
    ):
        replay(data, out, vars=THRESHOLDS)
    build_models(settings, full_refresh=True)
    assert replay(data, out, vars=THRESHOLDS)["detections"] == 1
    audit(settings, FolderStore(data, target=out))


def test_ansi_mode_off_is_rejected(engine, data, out, monkeypatch):
    if engine == "sail":
        pytest.skip("Sail is always in ANSI mode")
    with monkeypatch.context() as patched, pytest.raises(LakeError, match=r"ANSI mode is off.*Nothing was changed"):
        patched.setitem(on_spark.SESSION, "spark.sql.ansi.enabled", "false")
        replay(data, out, vars=THRESHOLDS)
    assert replay(data, out, vars=THRESHOLDS)["detections"] == 1


def test_other_collation_is_rejected(engine, data, tmp_path):
    """The collation comes from the schema's default. A catalog's default has the same effect.

    Apache Spark 4.2 has default collations of schemas behind a setting, and Delta rejects collated columns itself
    unless its type check is off. Databricks has both.
    """
    if engine == "sail":
        pytest.skip("Sail has no collations")
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    with connect(settings) as warehouse:
        warehouse.execute("insert into lake.about values ('tallymark_lower')")
    spark.sql("set spark.sql.collation.schemaLevel.enabled = true")
    spark.sql("set spark.databricks.delta.schema.typeCheck.enabled = false")
    spark.sql("create schema tallymark_lower default collation UTF8_LCASE")
    load_chunks(settings, FolderStore(data))
    with pytest.raises(LakeError, match="The default collation is not UTF8_BINARY"):
        build_models(settings)


def test_error_of_a_statement_has_no_stack_trace(data, out, tmp_path, schema):
    for file in (tmp_path / "lake" / schema / "merchants").glob("*.parquet"):
        file.unlink()
    with pytest.raises((LakeError, BuildError), match="merchants") as failed:
        replay(data, out, vars=THRESHOLDS)
    assert "\tat " not in str(failed.value) and "JVM stacktrace" not in str(failed.value)


def test_no_build_reads_all_raw_rows(data, out, tmp_path, schema, monkeypatch):
    """The build works without the files of older chunks."""
    aside = tmp_path / "aside"
    aside.mkdir()
    files = list((tmp_path / "lake" / schema / "raw_transactions").glob("*.parquet"))
    assert len(files) == 1
    for file in files:
        file.rename(aside / file.name)
    assert replay(data, out, vars=THRESHOLDS)["detections"] == 1
    for file in files:
        (aside / file.name).rename(file)
    contents = certify.contents(data, certify.Way("spark", out, 0))
    monkeypatch.setenv("TALLYMARK_ENGINE", "duckdb")
    replay(data, tmp_path / "duckdb", vars=THRESHOLDS)
    assert detected(out) == detected(tmp_path / "duckdb")
    assert contents == certify.contents(data, certify.Way("duckdb", tmp_path / "duckdb", 0))
