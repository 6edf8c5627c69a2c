"""The dbt project run by hand, and the faults that its sanity tests find."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest
from support.gate import in_gate
from support.oracle import Row
from support.streams import (
    THRESHOLDS,
    detected,
    exported,
    small_stream,
    write_chunk,
    write_importance,
    write_stream,
)
from tallymark.local.replay import replay
from tallymark.patterns import DBT_PROJECT
from tallymark.pipeline.build import BuildError, build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse import invoke_dbt
from tallymark.warehouse.connection import connect


def dbt(warehouse: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a dbt command in the project's folder, with its scratch files next to the warehouse."""
    scratch = warehouse.parent / "by hand"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}
    return subprocess.run(
        ["dbt", *arguments, "--target-path", str(scratch), "--log-path", str(scratch)],
        cwd=DBT_PROJECT,
        env=environment | {"TALLYMARK_WAREHOUSE": str(warehouse)},
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
    "select merchant, transactions, customers from customers_by_transactions where customers > 0 order by all",
    "select * from customer_weights order by importance_version, merchant, customer",
)


@pytest.fixture
def data(tmp_path) -> Path:
    """Six chunks in which all three patterns detect something with THRESHOLDS."""
    write_stream(tmp_path / "data", *small_stream(chunks=6, rows=40))
    return tmp_path / "data"


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "out/warehouse.duckdb", vars=THRESHOLDS)


@pytest.fixture
def bucket(data, settings) -> FolderStore:
    return FolderStore(data, target=settings.warehouse.parent)


@pytest.mark.system
def test_by_hand_with_unit_tests_on_an_empty_warehouse(tmp_path):
    """Unit tests with `input: this` need existing tables, hence the empty run first."""
    warehouse = tmp_path / "warehouse.duckdb"
    empty = dbt(warehouse, "run", "--empty")
    assert empty.returncode == 0, empty.stdout
    done = dbt(warehouse, "build")
    assert done.returncode == 0, done.stdout
    assert "WARN=0 ERROR=0 SKIP=0" in done.stdout
    assert done.stdout.count("PASS") > 40


@pytest.mark.system
def test_by_hand_without_a_warehouse(tmp_path):
    done = dbt(tmp_path / "warehouse.duckdb", "build", "--exclude-resource-type", "unit_test")
    assert done.returncode == 0, done.stdout
    assert table(tmp_path / "warehouse.duckdb", "select * from detections") == []


def test_by_hand_on_the_pipelines_warehouse(data, settings):
    """Neither a run by hand nor a full refresh changes state or detections, and the pipeline continues afterwards."""
    out = settings.warehouse.parent
    replay(data, out, batch=2, vars=THRESHOLDS)
    before = detected(out)
    patterns = {detection.pattern_id for detection in before}
    assert patterns == {"PatId1", "PatId2", "PatId3"}
    state = [table(settings.warehouse, query) for query in STATE]
    detections = table(settings.warehouse, "select * from detections order by detection_id")
    for command in (["run"], ["build", "--full-refresh", "--exclude-resource-type", "unit_test"]):
        done = dbt(settings.warehouse, *command)
        assert done.returncode == 0, done.stdout
        assert [table(settings.warehouse, query) for query in STATE] == state
        assert table(settings.warehouse, "select * from detections order by detection_id") == detections
    write_chunk(data, "chunk_7", [Row("C0", "M9", "F", "1")] * 5)
    replay(data, out, vars=THRESHOLDS)
    after = detected(out)
    assert after[: len(before)] == before
    assert [detection[:4] for detection in after[len(before) :]] == [(7, "PatId2", "M9", "C0")]


@pytest.mark.system
@pytest.mark.parametrize("interrupted_after", [1, 3])
def test_full_refresh_in_mid_stream(data, settings, tmp_path, bucket, interrupted_after):
    """Rebuilding state twice in the middle of the stream does not change the detections."""
    replay(data, tmp_path / "undisturbed", batch=1, vars=THRESHOLDS)
    load_chunks(settings, bucket, max_chunks=interrupted_after)
    build_models(settings)
    export_detections(settings, bucket)
    load_chunks(settings, bucket, max_chunks=1)
    build_models(settings, full_refresh=True)
    build_models(settings, full_refresh=True)
    replay(data, settings.warehouse.parent, vars=THRESHOLDS)
    assert detected(settings.warehouse.parent) == detected(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("child_max_average_amount", "cheap", "child_max_average_amount is cheap: it must be a number"),
        ("dei_min_female_customers", -1, "dei_min_female_customers is -1: it must be a number"),
        ("upgrade_top_percent", 0.1234567, "at most 6 decimals"),
        ("upgrade_top_percent", 100.5, "it must be a number from 0 to 100 with"),
        ("upgrade_weight_aggregate", "median", "it must be one of sum, avg, min, max"),
    ],
)
def test_invalid_var_is_rejected(data, settings, bucket, name, value, says):
    wrong = settings.model_copy(update={"vars": {name: value}})
    load_chunks(settings, bucket)
    with pytest.raises(RuntimeError, match=says):
        build_models(wrong)


# Faults planted in the data after the load: the test that must find the fault, SQL that plants it, SQL that repairs it.
PLANTED = {
    "row of another chunk": (
        "rows_in_file_are_accepted_or_rejected",
        "update raw.transactions set chunk_seq = -4 where chunk_seq = 4 and line_number = 5",
        "update raw.transactions set chunk_seq = 4 where chunk_seq = -4",
    ),
    "duplicate chunk": (
        "rows_in_file_are_accepted_or_rejected",
        "insert into raw.chunks select * replace ('planted' as chunk_key) from raw.chunks where chunk_seq = 4",
        "delete from raw.chunks where chunk_key = 'planted'",
    ),
    "merchant without a chunk": (
        "state_adds_up",
        "insert into merchants select * replace ('planted' as merchant) from merchants where merchant = 'M1'",
        "delete from merchants where merchant = 'planted'",
    ),
    "customer missing from the histogram": (
        "state_adds_up",
        "update customers_by_transactions set customers = customers - 1 where merchant = 'M1' and customers > 0",
        "update customers_by_transactions set customers = customers + 1 where merchant = 'M1' and customers > 0",
    ),
    "one row too many in a file": (
        "files_are_in_order",
        "update output.files set row_count = row_count + 1 where file_number = 1",
        "update output.files set row_count = row_count - 1 where file_number = 1",
    ),
}

# Faults in a model: the test that must find the fault, the file, correct text, faulty text.
BROKEN = {
    "duplicate customers": ("state_adds_up", "state/merchant_customers.sql", "upsert_strategy()", "'append'"),
    "duplicate merchants": ("state_adds_up", "state/merchants.sql", "upsert_strategy()", "'append'"),
    "duplicate detections": (
        "detections_are_made_once",
        "detections/batch_detections.sql",
        "occurrence = 1",
        "occurrence < 9",
    ),
    "candidates as detections": (
        "detections_satisfy_their_rule",
        "detections/batch_detections.sql",
        "where is_met",
        "where true",
    ),
}


@pytest.fixture
def undisturbed(data, tmp_path) -> list:
    replay(data, tmp_path / "undisturbed", batch=3, vars=THRESHOLDS)
    return detected(tmp_path / "undisturbed")


@pytest.mark.parametrize("planted", in_gate(PLANTED, "customer missing from the histogram"))
def test_fault_in_the_data_blocks_the_export(settings, bucket, undisturbed, planted):
    test, fault, repair = PLANTED[planted]
    export_one_batch(settings, bucket)
    load_chunks(settings, bucket)
    with connect(settings) as warehouse:
        warehouse.execute(fault)
    assert_build_and_export_fail(settings, bucket, test)
    with connect(settings) as warehouse:
        warehouse.execute(repair)
    build_models(settings, full_refresh=True)
    export_detections(settings, bucket)
    assert detected(settings.warehouse.parent) == undisturbed


@pytest.mark.parametrize("broken", in_gate(BROKEN, "candidates as detections"))
def test_fault_in_a_model_blocks_the_export(settings, bucket, undisturbed, broken, tmp_path, monkeypatch):
    test, path, right, wrong = BROKEN[broken]
    export_one_batch(settings, bucket)
    load_chunks(settings, bucket)
    with monkeypatch.context() as patched:
        model = project_copy(tmp_path) / "models" / path
        assert right in model.read_text()
        model.write_text(model.read_text().replace(right, wrong))
        patched.setattr(invoke_dbt, "DBT_PROJECT", tmp_path / "project")
        invoke_dbt._parsed.clear()
        assert_build_and_export_fail(settings, bucket, test)
    invoke_dbt._parsed.clear()
    build_models(settings, full_refresh=True)
    export_detections(settings, bucket)
    assert detected(settings.warehouse.parent) == undisturbed


def project_copy(folder: Path) -> Path:
    return shutil.copytree(DBT_PROJECT, folder / "project", ignore=shutil.ignore_patterns("target", "logs"))


def export_one_batch(settings: Settings, bucket: FolderStore) -> None:
    load_chunks(settings, bucket, max_chunks=3)
    build_models(settings)
    assert export_detections(settings, bucket)["detections"] > 0


def assert_build_and_export_fail(settings: Settings, bucket: FolderStore, test: str) -> None:
    """Assert that the build fails, naming the test and failing rows, and that the files do not change."""
    before = exported(settings.warehouse.parent)
    with pytest.raises(BuildError, match=rf"test {test}\b.*\n +{{'"):
        build_models(settings)
    with pytest.raises(RuntimeError, match="Nothing is exported"):
        export_detections(settings, bucket)
    assert exported(settings.warehouse.parent) == before


def test_build_runs_all_models_and_sanity_tests(settings, bucket):
    """Ephemeral models are compiled with each reader, in the first build of a process and in the next one."""
    nodes = invoke_dbt.parse(settings).nodes.values()
    tables = [node for node in nodes if node.resource_type == "model" and not node.is_ephemeral_model]
    sanity_tests = [node for node in nodes if node.resource_type == "test" and "audit" not in node.tags]
    assert tables and sanity_tests
    for _ in range(2):
        load_chunks(settings, bucket, max_chunks=3)
        done = build_models(settings)
        assert (done["models"], done["tests"]) == (len(tables), len(sanity_tests))
        export_detections(settings, bucket)


HISTORY_ROWS = 1_000_000
# DuckDB skips whole row groups of 122,880 rows; the rows of a batch are in one or two of them.
ROWS_OF_A_BATCH = 2 * 122_880


def test_build_does_not_read_history(settings, bucket):
    """A model or sanity test that reads all raw rows would become slower with each chunk."""
    export_one_batch(settings, bucket)
    with connect(settings) as warehouse:
        warehouse.execute(
            "insert into raw.transactions by name select * exclude (number) replace (1 as chunk_seq) "
            "from (from raw.transactions limit 1) cross join range(?) as past (number)",
            [HISTORY_ROWS],
        )
    load_chunks(settings, bucket, max_chunks=1)
    build_models(settings)
    built = [
        node
        for node in invoke_dbt.parse(settings).nodes.values()
        if node.resource_type in ("model", "test") and "audit" not in node.tags and not node.is_ephemeral_model
    ]
    with connect(settings, read_only=True) as warehouse:
        read = {node.name: raw_rows_read(warehouse, node.compiled_code) for node in built}
    assert max(read.values()) > 0
    assert {name: rows for name, rows in read.items() if rows > ROWS_OF_A_BATCH} == {}


def raw_rows_read(warehouse: duckdb.DuckDBPyConnection, statement: str) -> int:
    (_, plan) = warehouse.execute(f"explain (analyze, format json) {statement}").fetchone()

    def scanned(operators: list[dict]) -> int:
        return sum(
            (operator["intermediate_rows"] if ".raw.transactions" in operator["extra_info"].get("Table", "") else 0)
            + scanned(operator.get("children", []))
            for operator in operators
        )

    return scanned(json.loads(plan)["operator"])


def test_project_parsed_once_reads_later_state(tmp_path):
    """A worker process parses once, perhaps for an empty warehouse, and another warehouse may have the same path."""
    write_importance(tmp_path, [(f"C{i}", "M", str(i)) for i in range(9)])
    rows = [Row(f"C{i}", "M", "U", "50") for i in range(9) for _ in range(i + 5)]
    write_chunk(tmp_path, "chunk_1", rows)
    out = tmp_path / "out"
    replay(tmp_path, out, vars=THRESHOLDS)
    known = detected(out)
    assert known
    # The merchant's set exists, so its weights must not be read again.
    with connect(Settings(warehouse=out / "warehouse.duckdb")) as warehouse:
        warehouse.execute("update customer_weights set sum_weight = 100")
    write_chunk(tmp_path, "chunk_2", rows)
    replay(tmp_path, out, vars=THRESHOLDS)
    in_sets = "select max(weight), sum(transactions) from lightest_customers"
    assert table(out / "warehouse.duckdb", in_sets) == [(8, 162)]
    shutil.rmtree(out)
    replay(tmp_path, out, vars=THRESHOLDS)
    assert detected(out) == known
