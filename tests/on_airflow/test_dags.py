"""The DAGs, as parsed by Airflow."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.many_detections import make_warehouse
from support.oracle import Row
from support.streams import write_chunk
from tallymark.pipeline.build import build_models
from tallymark.pipeline.load import load_chunks
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect
from tallymark.warehouse.ledger_index import LedgerIndex

DESCRIBE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print("DAGS", json.dumps({
    "errors": {str(path): error for path, error in bag.import_errors.items()},
    "heavy": [name for name in ("dbt.cli.main", "duckdb") if name in sys.modules],
    "dags": {
        dag.dag_id: {
            "edges": sorted([task.task_id, after] for task in dag.tasks for after in task.downstream_task_ids),
            "pools": {task.task_id: task.pool for task in dag.tasks},
            "retries": sorted({task.retries for task in dag.tasks}),
            "schedule": str(dag.schedule),
            "max_active_runs": dag.max_active_runs,
            "catchup": dag.catchup,
            "documented": bool(dag.doc_md) and all(task.doc_md for task in dag.tasks),
        }
        for dag in bag.dags.values()
    },
}))
"""


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory):
    return tmp_path_factory.mktemp("airflow")


def described(airflow_home, **settings: str) -> dict:
    """Run DESCRIBE on dags/ in a new Airflow process, and return what it prints."""
    environment = os.environ | {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
        **settings,
    }
    command = [sys.executable, "-c", DESCRIBE, str(PROJECT_ROOT / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.startswith("DAGS ")]
    assert lines, done.stderr
    return json.loads(lines[0].removeprefix("DAGS "))


def test_dags(airflow_home):
    found = described(airflow_home)
    assert found["errors"] == {}
    assert found["heavy"] == []
    assert found["dags"] == {
        "detect_patterns": {
            "edges": [["build", "export"], ["load", "build"], ["wait_for_chunk", "load"]],
            "pools": {
                "wait_for_chunk": "default_pool",
                "load": "warehouse",
                "build": "warehouse",
                "export": "warehouse",
            },
            "retries": [2, 3],
            "schedule": "* * * * *",
            "max_active_runs": 1,
            "catchup": False,
            "documented": True,
        },
        "audit_patterns": {
            "edges": [],
            "pools": {"audit": "warehouse"},
            "retries": [3],
            "schedule": "30 3 * * *",
            "max_active_runs": 1,
            "catchup": False,
            "documented": True,
        },
        "backtest_patterns": {
            "edges": [],
            "pools": {"backtest": "default_pool"},
            "retries": [3],
            "schedule": "None",
            "max_active_runs": 2,
            "catchup": False,
            "documented": True,
        },
    }


def test_schedule_is_a_setting(airflow_home):
    found = described(airflow_home, TALLYMARK_SCHEDULE="@continuous", TALLYMARK_AUDIT_SCHEDULE="@weekly")
    assert found["errors"] == {}
    schedules = {name: dag["schedule"] for name, dag in found["dags"].items()}
    assert schedules == {
        "detect_patterns": "@continuous",
        "audit_patterns": "@weekly",
        "backtest_patterns": "None",
    }


WRONG = {
    "TALLYMARK_VARS": (
        '{"child_min_transactions": "many"}',
        ": child_min_transactions is 'many': it must be a number from 0 to 999999999999 with at most 6 decimals",
    ),
    "TALLYMARK_SCHEDULE": (
        "hour",
        " is 'hour': it must be a cron expression of five fields, or a preset such as @continuous or @hourly",
    ),
    "TALLYMARK_MAX_CHUNKS_PER_RUN": ("200000", " is '200000': it must be less than or equal to 100000"),
    "TALLYMARK_TIME_ZONE": ("India", " is 'India': it must be an IANA time zone, such as Asia/Kolkata or UTC"),
    "TALLYMARK_OWNER_LINK": ("me", " is 'me': it must begin with https:// or mailto:"),
}


def test_invalid_settings_end_the_import_error(airflow_home):
    found = described(airflow_home, **{name: value for name, (value, _) in WRONG.items()})
    first, *others = [f"{name}{message}" for name, (_, message) in WRONG.items()]
    assert found["dags"] == {}
    assert len(found["errors"]) == 3
    for error in found["errors"].values():
        assert error.splitlines()[-5:] == [f"tallymark.settings.SettingsError: {first}", *others]


IN_THE_UI = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(sys.argv[1]).dags["detect_patterns"]
wrong = {}
for given in ({}, {"max_chunks": 1, "dry_run": True}, {"max_chunks": 0}, {"max_chunks": "all"}, {"dry_run": "no"}):
    try:
        params = dag.params.__copy__()
        params.update(given)
        params.validate()
    except Exception as error:
        wrong[json.dumps(given)] = type(error).__name__
print("DAGS", json.dumps({
    "wrong": wrong,
    "described": {name: bool(dag.params.get_param(name).description) for name in dag.params},
    "owner_links": dag.owner_links,
    "outlets": [outlet.name for outlet in dag.get_task("export").outlets],
    "without_failure_callback": [task.task_id for task in dag.tasks if not task.on_failure_callback],
}))
"""


def test_trigger_form_owner_outlets_and_callbacks(airflow_home, monkeypatch):
    monkeypatch.setitem(globals(), "DESCRIBE", IN_THE_UI)
    assert described(airflow_home, TALLYMARK_OWNER_LINK="mailto:owner@example.com") == {
        "wrong": {
            '{"max_chunks": 0}': "ParamValidationError",
            '{"max_chunks": "all"}': "ParamValidationError",
            '{"dry_run": "no"}': "ParamValidationError",
        },
        "described": {"max_chunks": True, "dry_run": True},
        "owner_links": {"tallymark": "mailto:owner@example.com"},
        "outlets": ["new detections"],
        "without_failure_callback": [],
    }


DRY_RUN = """
import json, sys
from datetime import datetime, timezone
from types import SimpleNamespace
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowSkipException
export = DagBag(sys.argv[1]).dags["detect_patterns"].get_task("export")
try:
    began = SimpleNamespace(start_date=datetime.now(timezone.utc))
    export.python_callable({}, params={"dry_run": True, "max_chunks": 1}, dag_run=began, outlet_events=None)
except AirflowSkipException as skipped:
    print("DAGS", json.dumps(str(skipped)))
"""


def test_dry_run_exports_nothing(airflow_home, tmp_path, monkeypatch):
    settings = make_warehouse(tmp_path)
    write_chunk(tmp_path, "chunk_4", [Row("C", "M", "F", "1")] * 80)
    load_chunks(settings, FolderStore(tmp_path))
    build_models(settings)
    monkeypatch.setitem(globals(), "DESCRIBE", DRY_RUN)
    skipped = described(airflow_home, TALLYMARK_WAREHOUSE=str(settings.warehouse))
    assert skipped == "Dry run: nothing was exported. The next run exports these detections."
    assert LedgerIndex(settings.warehouse, settings.limits).has_unfinished_work()
    assert len(list((tmp_path / "output/detections").iterdir())) == 1


CALLBACKS = """
import json, sys
from types import SimpleNamespace
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(sys.argv[1]).dags["detect_patterns"]
context = {"run_id": "r1", "ti": SimpleNamespace(task_id="build"), "exception": RuntimeError("A test failed.")}
for callback in dag.get_task("build").on_failure_callback:
    callback(context)
found = False
for task in ("load", "build", "export"):
    found = dag.get_task(task).python_callable(found)
print("DAGS", json.dumps(found))
"""


def test_alerts_of_failed_run_and_idle_stream(airflow_home, tmp_path, monkeypatch):
    """The build fails; then a run without work leaves the warehouse unchanged, and notices that no chunk lands."""
    settings = make_warehouse(tmp_path)
    LedgerIndex(settings.warehouse, settings.limits).begin()
    monkeypatch.setitem(globals(), "DESCRIBE", CALLBACKS)
    before = settings.warehouse.read_bytes()
    returned = described(airflow_home, TALLYMARK_WAREHOUSE=str(settings.warehouse), TALLYMARK_STALLED_SECONDS="0.01")
    assert returned is None
    assert settings.warehouse.read_bytes() == before
    kept, *_ = json.loads(Path(f"{settings.warehouse}.alerts.json").read_text())
    assert [kind for kind, _, _ in kept] == ["failed run", "stream stalled"]
    assert kept[0][2].startswith("r1 failed in build: A test failed. ")


def test_run_note_text():
    from tallymark.on_airflow.run_note import summary

    chunks = {"chunks_accepted": 3, "chunks_rejected": 0, "chunks_in_conflict": 0}
    loaded = {**chunks, "rows_accepted": 29_998, "rows_rejected": 2}
    exported = {"detections": 51, "files": 2, "held": 0, "open_issues": 0}
    assert summary(None, None) == ""
    assert summary(loaded, exported) == "3 chunks with 29,998 rows; 2 rejected rows; 51 detections in 2 files."
    assert summary(loaded, exported | {"open_issues": 2}) == (
        "3 chunks with 29,998 rows; 2 rejected rows; 51 detections in 2 files; 2 open issues: see the Detections page."
    )
    assert summary(loaded | {"chunks_in_conflict": 1}, None) == (
        "3 chunks with 29,998 rows; 2 rejected rows; 1 conflict; nothing exported."
    )


@pytest.mark.parametrize("due_in_seconds", [None, -1, 3600])
def test_sensor_finds_unfinished_work_in_empty_bucket(tmp_path, monkeypatch, due_in_seconds):
    """An unfinished run is work at once; held detections (``due_in_seconds``) only when they are due."""
    from tallymark.on_airflow.bucket import ChunkSensor, ListingHook

    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    with connect(settings):
        pass
    monkeypatch.setenv("TALLYMARK_WAREHOUSE", str(settings.warehouse))
    monkeypatch.setattr(ListingHook, "get_conn", lambda hook: None)
    monkeypatch.setattr(ListingHook, "iter_file_metadata", lambda *_, **__: iter(()))
    sensor = ChunkSensor(
        task_id="wait",
        bucket_name="bucket",
        bucket_key="input/transactions/chunk_*",
        wildcard_match=True,
        check_fn=lambda files, **_: (
            bool(files) or LedgerIndex(settings.warehouse, settings.limits).has_unfinished_work()
        ),
        aws_conn_id=None,
        poke_interval=0,
        timeout=0,
    )
    assert not sensor.execute({})
    if due_in_seconds is None:
        LedgerIndex(settings.warehouse, settings.limits).begin()
    else:
        LedgerIndex(settings.warehouse, settings.limits).finish(
            held_until=datetime.now(UTC) + timedelta(seconds=due_in_seconds)
        )
    assert sensor.execute({}) == (due_in_seconds != 3600)
