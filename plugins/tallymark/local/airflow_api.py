"""Read a local stack's state from Airflow's REST API."""

import json
import urllib.request
from collections.abc import Iterator


def health(url: str) -> dict[str, str]:
    """Return the status of each part of Airflow: ``healthy``, ``unhealthy`` or None."""
    return {part: found["status"] for part, found in _ask(f"{url}/api/v2/monitor/health").items()}


def task_seconds(url: str, password: str) -> dict[str, list[float]]:
    """Return the durations, in seconds, of ``detect_patterns`` tasks in runs with work, by task in DAG order."""
    token = _ask(f"{url}/auth/token", body={"username": "admin", "password": password})["access_token"]
    tasks = f"{url}/api/v2/dags/detect_patterns/dagRuns/~/taskInstances"
    # Only a task that had work to do returns a value.
    values = _pages(f"{tasks}/~/xcomEntries?xcom_key=return_value", "xcom_entries", token)
    with_work = {(value["run_id"], value["task_id"]) for value in values}
    seconds: dict[str, list[float]] = {}
    for task in _pages(f"{tasks}?state=success&order_by=start_date", "task_instances", token):
        if (task["dag_run_id"], task["task_id"]) in with_work and task["task_id"] != "wait_for_chunk":
            seconds.setdefault(task["task_id"], []).append(task["duration"])
    return seconds


def _pages(url: str, of: str, token: str) -> Iterator[dict]:
    offset = 0
    while found := _ask(f"{url}&limit=100&offset={offset}", token=token)[of]:
        yield from found
        offset += len(found)


def _ask(url: str, body: dict | None = None, token: str | None = None) -> dict:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        return json.load(answer)
