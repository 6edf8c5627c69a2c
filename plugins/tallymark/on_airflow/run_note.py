"""An Airflow listener that adds a note with the results to each finished run of detect_patterns."""

from typing import Any

from airflow.listeners import hookimpl

DAG_ID = "detect_patterns"


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    """Note the chunks, rows, detections and files of a run that had work."""
    _note(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    """Note the results of the tasks that ended before the run failed."""
    _note(dag_run)


def _note(dag_run: Any) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import inspect
    from sqlalchemy.orm import object_session

    # The scheduler's session may hold SQLite's write lock, so a second session could not write.
    if session := object_session(dag_run):
        _write(dag_run, session)
        return
    # `airflow dags test` passes a run that has no session.
    with create_session(scoped=False) as session:
        _write(session.get(DagRun, inspect(dag_run).identity), session)


def _write(dag_run: Any, session: Any) -> None:
    from airflow.models.xcom import XComModel

    if dag_run.dag_id != DAG_ID or dag_run.note:
        return
    query = XComModel.get_many(run_id=dag_run.run_id, dag_ids=DAG_ID, task_ids=["load", "export"], key="return_value")
    values = {row.task_id: XComModel.deserialize_value(row) for row in session.scalars(query)}
    if text := summary(values.get("load"), values.get("export")):
        dag_run.note = text


def summary(load: dict[str, int] | None, export: dict[str, int] | None) -> str:
    """Return one line about the results of the two tasks, or an empty string if the run had no work."""
    if not load:
        return ""
    parts = [f"{_counted(load['chunks_accepted'], 'chunk')} with {_counted(load['rows_accepted'], 'row')}"]
    parts += [
        _counted(load[name], what)
        for name, what in {
            "rows_rejected": "rejected row",
            "chunks_rejected": "rejected chunk",
            "chunks_in_conflict": "conflict",
            "chunks_unreadable": "unreadable chunk",
        }.items()
        if load.get(name)
    ]
    if export is None:
        parts.append("nothing exported")
    else:
        parts.append(f"{_counted(export['detections'], 'detection')} in {_counted(export['files'], 'file')}")
        if export["held"]:
            parts.append(f"{_counted(export['held'], 'detection')} held back to fill a file")
        if export["open_issues"]:
            parts.append(f"{_counted(export['open_issues'], 'open issue')}: see the Detections page")
    return "; ".join(parts) + "."


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
