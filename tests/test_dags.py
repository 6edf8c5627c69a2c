"""The DAGs as Airflow reads them."""

import json
import os
import subprocess
import sys

import pytest
from tallymark.settings import PROJECT_ROOT

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
    """What a fresh process of Airflow finds in dags/."""
    environment = os.environ | {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
        **settings,
    }
    command = [sys.executable, "-c", DESCRIBE, str(PROJECT_ROOT / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    lines = [line for line in done.stdout.splitlines() if line.startswith("DAGS ")]
    assert lines, done.stderr
    return json.loads(lines[0].removeprefix("DAGS "))


def test_production_has_mechanism_y_alone(airflow_home):
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
            "retries": [3],
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
    }


def test_a_feed_source_adds_mechanism_x(airflow_home):
    found = described(airflow_home, TALLYMARK_FEED_SOURCE="somewhere.csv", TALLYMARK_SCHEDULE="@continuous")
    assert found["errors"] == {}
    assert set(found["dags"]) == {"audit_patterns", "detect_patterns", "feed_transactions"}
    assert found["dags"]["feed_transactions"]["edges"] == []
    assert found["dags"]["detect_patterns"]["schedule"] == "@continuous"


def test_a_setting_that_makes_no_sense_is_named(airflow_home):
    found = described(airflow_home, TALLYMARK_TIME_ZONE="Kolkata")
    assert found["dags"] == {}
    assert all("time_zone" in error and "is not an IANA time zone" in error for error in found["errors"].values())
