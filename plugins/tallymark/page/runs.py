"""The latest runs of detect_patterns, read from Airflow's database, which the api-server can access."""

from datetime import datetime
from typing import Any

from airflow.models import DagModel, DagRun, TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

DAG_ID = "detect_patterns"


def last_runs() -> dict[str, Any]:
    """Return the active run and the last one that ended, with their tasks' states, and whether the DAG is paused."""
    with create_session() as session:
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == DAG_ID))
        newest = select(DagRun).where(DagRun.dag_id == DAG_ID).order_by(DagRun.run_after.desc()).limit(1)
        running = session.scalar(newest.where(DagRun.state.in_(("running", "queued"))))
        ended = session.scalar(newest.where(DagRun.state.in_(("success", "failed"))))
        return {
            "is_paused": paused,
            "running": running and _described(session, running),
            "ended": ended and _described(session, ended),
        }


def _described(session: Any, run: DagRun) -> dict[str, Any]:
    tasks = select(TaskInstance.task_id, TaskInstance.state).where(
        TaskInstance.dag_id == run.dag_id, TaskInstance.run_id == run.run_id
    )
    return {
        "run_id": run.run_id,
        "state": run.state,
        "started_at": _shown(run.start_date),
        "ended_at": _shown(run.end_date),
        "tasks": {task: state for task, state in session.execute(tasks)},
    }


def _shown(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None
