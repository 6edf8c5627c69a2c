"""The dbt project as a person runs it, and what its sanity tests find."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from support.oracle import Row
from support.streams import detected, exported, write_chunk, write_importance
from tallymark.local.replay import replay
from tallymark.pipeline.build import BuildError, build
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import DBT_PROJECT, Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse import invoke_dbt
from tallymark.warehouse.connection import connect

THRESHOLDS = {
    "upgrade_min_merchant_transactions": 50,
    "upgrade_top_percent": 50,
    "upgrade_bottom_percent": 50,
    "child_min_transactions": 5,
    "dei_min_female_customers": 3,
}


def dbt(warehouse: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A dbt command in the project's folder, with its scratch files beside the warehouse."""
    scratch = warehouse.parent / "by hand"
    return subprocess.run(
        ["dbt", *arguments, "--target-path", str(scratch), "--log-path", str(scratch)],
        cwd=DBT_PROJECT,
        env=os.environ | {"TALLYMARK_WAREHOUSE": str(warehouse)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def table(warehouse: Path, query: str) -> list[tuple]:
    with connect(Settings(warehouse=warehouse), read_only=True) as connection:
        return connection.execute(query).fetchall()


STATE = (
    "select * from merchant_customers order by merchant, customer",
    "select * from merchants order by merchant",
    "select * from customer_weights order by importance_version, merchant, customer",
)


@pytest.fixture
def data(tmp_path) -> Path:
    """Six chunks in which all three patterns fire under THRESHOLDS."""
    chance = random.Random(7)
    customers = [(f"C{i}", "FMM"[i % 3]) for i in range(15)]
    for number in range(1, 7):
        drawn = [chance.choice(customers) for _ in range(40)]
        rows = [Row(name, chance.choice(("M1", "M2")), gender, chance.choice(("20", "25"))) for name, gender in drawn]
        write_chunk(tmp_path / "data", f"chunk_{number}", rows)
    weights = [(name, merchant, str(chance.randrange(9))) for name, _ in customers for merchant in ("M1", "M2")]
    write_importance(tmp_path / "data", weights)
    return tmp_path / "data"


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "out/warehouse.duckdb", vars=THRESHOLDS)


@pytest.fixture
def bucket(data, settings) -> FolderStore:
    return FolderStore(data, target=settings.warehouse.parent)


def test_by_hand_with_unit_tests_on_an_empty_warehouse(tmp_path):
    """Unit tests with `input: this` need the tables to be there, hence the empty run before."""
    warehouse = tmp_path / "warehouse.duckdb"
    empty = dbt(warehouse, "run", "--empty")
    assert empty.returncode == 0, empty.stdout
    done = dbt(warehouse, "build")
    assert done.returncode == 0, done.stdout
    assert "WARN=0 ERROR=0 SKIP=0" in done.stdout
    assert done.stdout.count("PASS") > 40


@pytest.mark.parametrize("command", [["run"], ["build", "--exclude-resource-type", "unit_test"]], ids=" ".join)
def test_by_hand_where_no_warehouse_is_yet(tmp_path, command):
    done = dbt(tmp_path / "warehouse.duckdb", *command)
    assert done.returncode == 0, done.stdout
    assert table(tmp_path / "warehouse.duckdb", "select * from detections") == []


def test_by_hand_on_the_pipelines_warehouse(data, settings):
    """Neither a run by hand nor a full refresh changes state or detections, and the pipeline goes on."""
    out = settings.warehouse.parent
    replay(data, out, batch=2, vars=THRESHOLDS)
    before = detected(out)
    patterns = {detection.pattern_id for detection in before}
    assert patterns == {"PatId1", "PatId2", "PatId3"}
    state = [table(settings.warehouse, query) for query in STATE]
    detections = table(settings.warehouse, "select * from detections order by detection_id")
    for command in (["run"], ["build"], ["build", "--full-refresh"]):
        done = dbt(settings.warehouse, *command)
        assert done.returncode == 0, done.stdout
        assert [table(settings.warehouse, query) for query in STATE] == state
        assert table(settings.warehouse, "select * from detections order by detection_id") == detections
    write_chunk(data, "chunk_7", [Row("C0", "M9", "F", "1")] * 5)
    replay(data, out, vars=THRESHOLDS)
    after = detected(out)
    assert after[: len(before)] == before
    assert [detection[:4] for detection in after[len(before) :]] == [(7, "PatId2", "M9", "C0")]


@pytest.mark.parametrize("interrupted_after", [1, 3])
def test_a_full_refresh_in_mid_stream(data, settings, tmp_path, bucket, interrupted_after):
    """State made anew, and thrown away, before the rest of the stream: the same as undisturbed."""
    replay(data, tmp_path / "undisturbed", batch=1, vars=THRESHOLDS)
    load_chunks(settings, bucket, max_chunks=interrupted_after)
    build(settings)
    export_detections(settings, bucket)
    load_chunks(settings, bucket, max_chunks=1)
    build(settings, full_refresh=True)
    build(settings, full_refresh=True)
    replay(data, settings.warehouse.parent, vars=THRESHOLDS)
    assert detected(settings.warehouse.parent) == detected(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("child_max_average_amount", "cheap", "child_max_average_amount is cheap: it must be a number"),
        ("dei_min_female_customers", -1, "dei_min_female_customers is -1: it must be a number"),
        ("upgrade_top_percent", 0.1234567, "at most 6 decimals"),
        ("upgrade_weight_aggregate", "median", "it must be sum, avg, min or max"),
    ],
)
def test_a_var_that_makes_no_sense_is_named(data, settings, bucket, name, value, says):
    wrong = settings.model_copy(update={"vars": {name: value}})
    with pytest.raises(RuntimeError, match=says):
        load_chunks(wrong, bucket)
    load_chunks(settings, bucket)
    with pytest.raises(RuntimeError, match=says):
        build(wrong)


# A fault in the data, planted after the load, and how it is repaired: by the test that must find it.
PLANTED = {
    "rows_in_file_are_accepted_or_rejected": (
        "update raw.transactions set chunk_seq = -4 where chunk_seq = 4 and line_number = 5",
        "update raw.transactions set chunk_seq = 4 where chunk_seq = -4",
    ),
    "state_adds_up_to_the_ledger": (
        "insert into merchants select * replace ('planted' as merchant) from merchants where merchant = 'M1'",
        "delete from merchants where merchant = 'planted'",
    ),
    "files_are_in_order": (
        "update output.files set row_count = row_count + 1 where file_number = 1",
        "update output.files set row_count = row_count - 1 where file_number = 1",
    ),
    "unique_batch_chunks_chunk_seq": (
        "insert into raw.chunks select * replace ('planted' as chunk_key) from raw.chunks where chunk_seq = 4",
        "delete from raw.chunks where chunk_key = 'planted'",
    ),
}

# A fault in a model: file, what it says, what it says wrongly; by the test that must find it.
BROKEN = {
    "batch_keys_are_unique": ("state/merchant_customers.sql", "upsert_strategy()", "'append'"),
    "unique_merchants_merchant": ("state/merchants.sql", "upsert_strategy()", "'append'"),
    "detections_are_made_once": ("detections/batch_detections.sql", "occurrence = 1", "occurrence < 9"),
    "detections_satisfy_their_rule": ("patterns/child.sql", "transactions >=", "transactions + 1 >="),
}


@pytest.fixture
def undisturbed(data, tmp_path) -> list:
    replay(data, tmp_path / "undisturbed", batch=3, vars=THRESHOLDS)
    return detected(tmp_path / "undisturbed")


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_in_the_data_holds_the_export_back(settings, bucket, undisturbed, name):
    fault, repair = PLANTED[name]
    one_batch_goes_out(settings, bucket)
    load_chunks(settings, bucket)
    with connect(settings) as warehouse:
        warehouse.execute(fault)
    nothing_goes_out(settings, bucket, name)
    with connect(settings) as warehouse:
        warehouse.execute(repair)
    build(settings, full_refresh=True)
    export_detections(settings, bucket)
    assert detected(settings.warehouse.parent) == undisturbed


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_in_a_model_holds_the_export_back(settings, bucket, undisturbed, name, tmp_path, monkeypatch):
    path, right, wrong = BROKEN[name]
    one_batch_goes_out(settings, bucket)
    load_chunks(settings, bucket)
    with monkeypatch.context() as broken:
        project = tmp_path / "broken"
        shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
        model = project / "models" / path
        assert right in model.read_text()
        model.write_text(model.read_text().replace(right, wrong))
        broken.setattr(invoke_dbt, "DBT_PROJECT", project)
        invoke_dbt._parsed.clear()
        nothing_goes_out(settings, bucket, name)
    invoke_dbt._parsed.clear()
    build(settings, full_refresh=True)
    export_detections(settings, bucket)
    assert detected(settings.warehouse.parent) == undisturbed


def one_batch_goes_out(settings: Settings, bucket: FolderStore) -> None:
    load_chunks(settings, bucket, max_chunks=3)
    build(settings)
    assert export_detections(settings, bucket)["detections"] > 0


def nothing_goes_out(settings: Settings, bucket: FolderStore, test: str) -> None:
    """The build fails, naming the test and rows that it found, and the files stay as they were."""
    before = exported(settings.warehouse.parent)
    with pytest.raises(BuildError, match=rf"test {test}\b.*\n +{{'"):
        build(settings)
    with pytest.raises(RuntimeError, match="Nothing is exported"):
        export_detections(settings, bucket)
    assert exported(settings.warehouse.parent) == before
