"""The note of a run in Airflow's database, written by the scheduler or by ``airflow dags test``."""

import os
import subprocess
import sys

import pytest
from tallymark.settings import PROJECT_ROOT

SET_UP = """
import json
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.types import DagRunType
from sqlalchemy import select, text
from tallymark.on_airflow import run_note, set_up

set_up.set_up()
LOADED = {"chunks_accepted": 1, "rows_accepted": 2, "chunks_rejected": 0, "chunks_in_conflict": 0}
with create_session() as session:
    # The run and the XCom refer to tasks and DAG versions, which this test does not need.
    session.execute(text("pragma foreign_keys = off"))
    run = DagRun(dag_id=run_note.DAG_ID, run_id="r1", run_type=DagRunType.MANUAL)
    session.add(run)
    session.flush()
    value = json.dumps(LOADED)
    session.add(XComModel(dag_run_id=run.id, run_id="r1", dag_id=run_note.DAG_ID, task_id="load", key="return_value",
        map_index=-1, value=value))
"""
ENDS = {
    "airflow dags test": """
with create_session() as session:
    run = session.scalars(select(DagRun)).one()
run_note.on_dag_run_success(run, "")
""",
    "scheduler": """
with create_session() as session:
    run = session.scalars(select(DagRun)).one()
    # The scheduler has already written, so no other session can write to SQLite.
    run.state = "success"
    session.flush()
    run_note.on_dag_run_success(run, "")
""",
}
SHOW = """
with create_session() as session:
    print("NOTE", session.scalars(select(DagRun)).one().note)
"""


@pytest.mark.parametrize("ends", ENDS)
def test_run_has_note(tmp_path, ends):
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
    }
    command = [sys.executable, "-c", SET_UP + ENDS[ends] + SHOW]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.stdout.splitlines()[-1] == "NOTE 1 chunk with 2 rows; nothing exported.", done.stderr
