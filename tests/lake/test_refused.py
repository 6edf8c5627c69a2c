"""What must not count on Spark, and what is refused there; each with a control that shows what would happen."""

import shutil
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


def weakened(tmp_path, monkeypatch, *changes: tuple[str, str, str]) -> None:
    """Use a copy of the dbt project in which texts have been replaced: file, text, other text."""
    project = tmp_path / "project"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    for name, text, other in changes:
        before = (project / name).read_text()
        assert text in before
        (project / name).write_text(before.replace(text, other))
    monkeypatch.setattr(invoke_dbt, "DBT_PROJECT", project)
    monkeypatch.setattr(invoke_dbt, "_parsed", {})


MACROS = "macros/lake/hand_over.sql"
WITHOUT_LOAD_ID = [(MACROS, " and loaded.load_id = chunks.load_id", "")]
WITHOUT_BUILDS = [
    (MACROS, "target.schema ~ '_' ~ env_var('LAKE_BUILD')", "target.schema ~ '_build_' ~ 'same'"),
    ("dbt_project.yml", "env_var('LAKE_BUILD', '') or none", "'build_same' if env_var('LAKE_BUILD', '') else none"),
]


@pytest.mark.parametrize("changes", [[], WITHOUT_LOAD_ID], ids=["as it is", "without load_id"])
def test_rows_that_arrived_twice(data, out, settings, tmp_path, monkeypatch, changes):
    """A build dies after its rows arrived on Spark, before the warehouse noted it."""
    operate = on_spark.OnSpark._operate

    def operate_and_die(self, *arguments, **named):
        operate(self, *arguments, **named)
        raise ZeroDivisionError

    with monkeypatch.context() as dying, pytest.raises(ZeroDivisionError):
        dying.setattr(on_spark.OnSpark, "_operate", operate_and_die)
        replay(data, out, vars=THRESHOLDS)
    weakened(tmp_path, monkeypatch, *changes)
    if changes:
        with pytest.raises(BuildError, match="rows_in_file_are_accepted_or_rejected"):
            replay(data, out, vars=THRESHOLDS)
    else:
        assert replay(data, out, vars=THRESHOLDS)["detections"] == 1


@pytest.mark.parametrize("changes", [[], WITHOUT_BUILDS], ids=["as it is", "without a schema for each build"])
def test_a_statement_of_an_earlier_build(data, tmp_path, monkeypatch, changes):
    """It replaces batch_candidates just before they are handed back."""
    out = tmp_path / "out"
    weakened(tmp_path, monkeypatch, *changes)
    statements = []
    with monkeypatch.context() as watched:
        spark.watch(watched, lambda sql: statements.append(sql) if "batch_candidates using delta" in sql else None)
        replay(data, out, vars=THRESHOLDS)
    write_chunk(data, "chunk_4", [Row("C0", "M9", "F", "1")] * 5)
    [late] = statements
    with monkeypatch.context() as watched:
        spark.watch(watched, lambda sql: spark.run_late(late) if "from" in sql and "hand_back" in sql else None)
        found = replay(data, out, vars=THRESHOLDS)["detections"]
    assert found == (0 if changes else 1)


def test_a_changed_row_is_found_by_the_audit(data, out, settings, schema):
    replay(data, out, vars=THRESHOLDS)
    store = FolderStore(data, target=out)
    audit(settings, store)
    spark.sql(f"update {schema}.raw_transactions set amount = amount + 1 where chunk_seq = 1 and line_number = 2")
    with pytest.raises(AuditError, match="merchant_customers_"):
        audit(settings, store)
    spark.sql(f"update {schema}.raw_transactions set amount = amount - 1 where chunk_seq = 1 and line_number = 2")
    audit(settings, store)


@pytest.mark.parametrize("mark", [1, 99], ids=["behind", "ahead"])
def test_state_of_another_time(data, out, settings, schema, mark):
    spark.sql(f"update {schema}.merchants set last_chunk_seq = {mark}")
    with pytest.raises(
        LakeError, match=rf"merchants ends with chunk {mark}; by the ledger it must end between 3 and 4"
    ):
        replay(data, out, vars=THRESHOLDS)
    build_models(settings, full_refresh=True)
    assert replay(data, out, vars=THRESHOLDS)["detections"] == 1
    audit(settings, FolderStore(data, target=out))


def test_ansi_mode_off(data, out, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(LakeError, match=r"ANSI mode is off.*Nothing was changed"):
        patched.setattr(on_spark, "EXACT", {"spark.sql.ansi.enabled": "false"})
        replay(data, out, vars=THRESHOLDS)
    assert replay(data, out, vars=THRESHOLDS)["detections"] == 1


def test_another_collation(engine, data, out):
    if engine == "sail":
        pytest.skip("Sail has no collations")
    spark.sql("set spark.sql.session.collation.default=UTF8_LCASE")
    try:
        with pytest.raises(LakeError, match="The default collation is not UTF8_BINARY"):
            replay(data, out, vars=THRESHOLDS)
    finally:
        spark.sql("reset spark.sql.session.collation.default")
    assert replay(data, out, vars=THRESHOLDS)["detections"] == 1


def test_no_build_reads_all_raw_rows(data, out, tmp_path, schema, monkeypatch):
    """The files of older chunks are away while a build runs."""
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
