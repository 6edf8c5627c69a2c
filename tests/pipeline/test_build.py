"""dbt builds follow the project whatever the environment contains, and record the sanity tests that passed."""

import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.oracle import Row
from support.project import use_copy
from support.streams import exported, write_chunk
from tallymark.lake import in_warehouse
from tallymark.pipeline import build
from tallymark.pipeline.build import BuildError, build_models
from tallymark.pipeline.export import ExportError, export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse import invoke_dbt
from tallymark.warehouse.connection import connect

VARS = {"child_min_transactions": 3}
FAULT = "update raw.chunks set rows_in_file = rows_in_file + 1"
FAULT_FOUND_BY = "rows_in_file_are_accepted_or_rejected"
VARIABLES = {
    "DBT_DEFER": "true",
    "DBT_EMPTY": "true",
    "DBT_EVENT_TIME_START": "2020-01-01",
    "DBT_EXCLUDE_RESOURCE_TYPES": "test",
    "DBT_FAIL_FAST": "true",
    "DBT_FAVOR_STATE": "true",
    "DBT_FULL_REFRESH": "true",
    "DBT_INDIRECT_SELECTION": "cautious",
    "DBT_LOG_FORMAT": "json",
    "DBT_LOG_PATH": "/nowhere",
    "DBT_PARTIAL_PARSE_FILE_PATH": "/nowhere",
    "DBT_PROFILE": "other",
    "DBT_PROFILES_DIR": "/nowhere",
    "DBT_PROJECT_DIR": "/nowhere",
    "DBT_RECORDER_MODE": "replay",
    "DBT_RECORDER_FILE_PATH": "/nowhere",
    "DBT_RESOURCE_TYPES": "model",
    "DBT_SAMPLE": "1 day",
    "DBT_SINGLE_THREADED": "true",
    "DBT_STATE": "/nowhere",
    "DBT_STORE_FAILURES": "true",
    "DBT_TARGET": "prod",
    "DBT_TARGET_PATH": "/nowhere",
    "DBT_WARN_ERROR": "true",
    "DBT_WRITE_JSON": "true",
}
# These decide which nodes run, on which data, or whether dbt runs at all. The others are tested together.
DECISIVE = (
    *("DBT_DEFER", "DBT_EMPTY", "DBT_RESOURCE_TYPES", "DBT_EXCLUDE_RESOURCE_TYPES"),
    *("DBT_PROFILE", "DBT_SINGLE_THREADED", "DBT_TARGET"),
)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb", vars=VARS)


@pytest.fixture
def bucket(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.fixture
def loaded(settings, bucket) -> Settings:
    """A warehouse with a chunk that is loaded but not built. The chunk has one detection."""
    write_chunk(bucket.root, "chunk_1", [Row("C1", "M1", "F", "1")] * 3)
    load_chunks(settings, bucket)
    return settings


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return use_copy(tmp_path, monkeypatch)


def plant_fault(settings: Settings) -> None:
    with connect(settings) as warehouse:
        warehouse.execute(FAULT)


def assert_nothing_is_exported(settings: Settings, bucket: FolderStore, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        build_models(settings)
    with pytest.raises(ExportError, match="Nothing is exported: models ran since the last dbt build"):
        export_detections(settings, bucket)
    assert exported(bucket.root) == []


@pytest.mark.parametrize("name", DECISIVE)
def test_a_variable_does_not_hide_a_fault(loaded, bucket, monkeypatch, name):
    plant_fault(loaded)
    monkeypatch.setenv(name, VARIABLES[name])
    assert_nothing_is_exported(loaded, bucket, rf"test {FAULT_FOUND_BY}: Got \d+ result")
    assert os.environ[name] == VARIABLES[name]


def test_dbt_variables_have_no_effect(settings, bucket, monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.replace("DBT_", "DBT_ENGINE_"), value)
    before = dict(os.environ)
    monkeypatch.setattr(invoke_dbt, "_parsed", {})
    write_chunk(bucket.root, "chunk_1", [Row("C1", "M1", "F", "1")] * 3)
    load_chunks(settings, bucket)
    assert build_models(settings)["tests"] == len(invoke_dbt.sanity_tests())
    export_detections(settings, bucket)
    assert [row[2] for row in exported(bucket.root)] == ["C1"]
    assert dict(os.environ) == before


def test_all_dbt_variables_have_the_prefix(monkeypatch):
    """Removing ``DBT_*`` removes every variable that dbt's options read."""
    from dbt.cli.main import cli

    options = [option for command in (cli, *cli.commands.values()) for option in command.params]
    variables = [option.envvar for option in options if option.envvar]
    names = {name for given in variables for name in ([given] if isinstance(given, str) else given)}
    assert set(VARIABLES) - {"DBT_RECORDER_MODE", "DBT_RECORDER_FILE_PATH"} <= names
    assert all(name.startswith("DBT_") for name in names)


def test_dbt_modules_on_the_path_are_not_imported(loaded, bucket, tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/dbt_other.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    build_models(loaded)
    assert "dbt_other" not in sys.modules


def test_user_profiles_have_no_effect(loaded, bucket, tmp_path, monkeypatch):
    (tmp_path / ".dbt").mkdir()
    (tmp_path / ".dbt/profiles.yml").write_text(
        "tallymark: {target: other, outputs: {}}\nconfig: {fail_fast: nonsense}"
    )
    shutil.copy(tmp_path / ".dbt/profiles.yml", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(invoke_dbt, "_parsed", {})
    build_models(loaded)
    assert export_detections(loaded, bucket)["detections"] == 1


def test_the_log_counts_sanity_tests(loaded, caplog):
    caplog.set_level("INFO")
    done = build_models(loaded)
    count = len(invoke_dbt.sanity_tests())
    assert done["tests"] == count > 4
    assert f"models built: {done['models']}; sanity tests passed: {count} of {count}" in caplog.text


def test_build_records_passed_sanity_tests(loaded):
    build_models(loaded)
    with connect(loaded, read_only=True) as warehouse:
        ((chunk_seq, tests),) = warehouse.execute("select chunk_seq, sanity_tests from output.passed_builds").fetchall()
    assert chunk_seq == 1
    assert set(tests) == invoke_dbt.sanity_tests()


@pytest.mark.parametrize(
    "left_out", ["files_are_in_order", "detections_satisfy_their_rule", "batch_thresholds", "resource_type:test"]
)
def test_excluded_nodes_are_named(loaded, bucket, monkeypatch, left_out):
    monkeypatch.setattr(build, "BUILD", [*build.BUILD, left_out])
    names = invoke_dbt.sanity_tests() if ":" in left_out else {left_out}
    message = ", ".join(rf"(model|test) {name} \(did not run\)" for name in sorted(names))
    assert_nothing_is_exported(loaded, bucket, message)


@pytest.mark.parametrize("status", ["skipped", "warn", "no-op"])
def test_unpassed_test_is_named(loaded, bucket, monkeypatch, status):
    invoke = in_warehouse.invoke

    def altered(settings, arguments, manifest, and_then):
        def alter(nodes, warehouse):
            for node in nodes:
                if node.node.name == "files_are_in_order":
                    node.status = status
            and_then(nodes, warehouse)

        return invoke(settings, arguments, manifest, and_then=alter)

    monkeypatch.setattr(in_warehouse, "invoke", altered)
    message = rf"did not run or did not pass: test files_are_in_order \({status}\)\. Every model"
    assert_nothing_is_exported(loaded, bucket, message)


@pytest.mark.parametrize(
    ("config", "status"),
    [("enabled=false", "did not run"), ("severity='warn'", "warn"), ("tags=['audit']", "did not run")],
)
def test_a_configuration_does_not_hide_a_fault(loaded, bucket, project, config, status):
    plant_fault(loaded)
    file = project / f"tests/{FAULT_FOUND_BY}.sql"
    file.write_text(f"{{{{ config({config}) }}}}\n{file.read_text()}")
    assert_nothing_is_exported(loaded, bucket, rf"test {FAULT_FOUND_BY} \({status}\)")


def test_sanity_test_of_ephemeral_model_runs(loaded, bucket, project):
    (project / "tests/new_test.sql").write_text("select 1 from {{ ref('stg_chunks') }} where chunk_seq = 1")
    assert_nothing_is_exported(loaded, bucket, "test new_test: Got 1 result")


def test_a_generic_sanity_test_is_recorded(loaded, project):
    path = project / "models/batch/batch_chunks.yml"
    path.write_text(path.read_text().replace("data_tests: [", "data_tests: [not_null, "))
    assert build_models(loaded)["tests"] == len(invoke_dbt.sanity_tests()) + 1
    with connect(loaded, read_only=True) as warehouse:
        ((tests,),) = warehouse.execute("select sanity_tests from output.passed_builds").fetchall()
    assert "not_null_batch_chunks_chunk_seq" in tests


def test_build_without_new_sanity_tests_is_not_exported(loaded, bucket, project):
    build_models(loaded)
    (project / "tests/later").mkdir()
    for name in ("new_test", "later/other_test"):
        (project / f"tests/{name}.sql").write_text("select 1 from {{ ref('batch_chunks') }} where chunk_seq < 0")
    (project / "tests/audit/of_the_audit.sql").write_text("select 1")
    (project / "tests/generic").mkdir(exist_ok=True)
    (project / "tests/generic/is_odd.sql").write_text("{% test is_odd(model) %}select 1{% endtest %}")
    message = "did not run all sanity tests of the project; these are missing: new_test, other_test."
    with pytest.raises(ExportError, match=message):
        export_detections(loaded, bucket)
    assert exported(bucket.root) == []
    invoke_dbt._parsed.clear()
    build_models(loaded)
    assert export_detections(loaded, bucket)["detections"] == 1


def test_removed_sanity_test_is_not_required(loaded, bucket, project):
    build_models(loaded)
    (project / "tests/files_are_in_order.sql").unlink()
    assert export_detections(loaded, bucket)["detections"] == 1


def test_machine_fault_does_not_suggest_full_refresh(loaded, monkeypatch):
    message = "TransactionContext Error: Failed to commit: Could not write file: No space left on device"
    node = SimpleNamespace(resource_type="model", name="merchants", unique_id="model.merchants")
    failed = SimpleNamespace(node=node, status="error", message=message, failures=None, execution_time=0.1)
    result = SimpleNamespace(success=False, result=[failed], exception=None)
    monkeypatch.setattr(in_warehouse, "invoke", lambda *_, **__: result)
    with pytest.raises(RuntimeError, match=r"^The disk is full: .*\. Free some space on it") as raised:
        build_models(loaded)
    assert not re.search("full-refresh|rebuild", str(raised.value))


def test_failing_rows_are_not_a_machine_fault(loaded, bucket):
    with connect(loaded) as warehouse:
        warehouse.execute(f"{FAULT}, chunk_key = 'No space left on device'")
    assert_nothing_is_exported(loaded, bucket, rf"test {FAULT_FOUND_BY}: (.|\n)*No space left on device")
