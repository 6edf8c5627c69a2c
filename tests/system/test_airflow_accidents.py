"""Accidents in a real Airflow with a real S3 server: killed tasks and workers, and manual interference with runs.

The accidents happen one after the other to the same stream. At the end, its files equal those of an undisturbed replay.
``make test-faults`` kills more often, also kills a worker, and writes docs/reliability/airflow.md.
"""

import json
import os
import random
import shutil
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psutil
import pytest
from support import figures
from support.four_chunks import VARS, rows_of, settings
from support.streams import HEADER, csv_text, detected, exported, write_importance
from tallymark.audit import audit
from tallymark.local import stack as local_stack
from tallymark.local.processes import stop
from tallymark.local.replay import replay
from tallymark.recovery.verify import verify
from tallymark.store.folder import FolderStore
from tallymark.warehouse.ledger_index import LedgerIndex

pytestmark = pytest.mark.system

KILLS = int(os.environ.get("TALLYMARK_AIRFLOW_KILLS", 2))
PATTERNS = "/api/v2/dags/detect_patterns"
WRITERS = ("load", "build", "export")
FIGURES: Counter[str] = Counter()

only_in_full = pytest.mark.skipif(not figures.WANTED, reason="Takes a minute or more. Run make test-faults.")


class Airflow:
    """A running stack, its REST API, and the stream that lands in it."""

    def __init__(self, stack: local_stack.Stack, scheduler: psutil.Process):
        self.stack, self.scheduler, self.chunks, self.token = stack, scheduler, 0, None
        self.token = self.api("/auth/token", {"username": "admin", "password": stack.password})["access_token"]

    def api(self, path: str, body: dict | None = None, method: str | None = None) -> dict:
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.stack.ui_url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def land(self) -> None:
        self.chunks += 1
        body = csv_text(rows_of(self.chunks)).encode()
        key = f"input/transactions/chunk_{self.chunks}"
        self.stack.bucket.client.put_object(Bucket=self.stack.settings.bucket, Key=key, Body=body)

    def trigger(self) -> str:
        """Trigger a run, like the button in the UI, and return its id."""
        return self.api(f"{PATTERNS}/dagRuns", {"logical_date": None})["dag_run_id"]

    def backfills(self, span: dict) -> bool:
        """Request a backfill, and return whether Airflow accepted it. It rejects it while its database is locked."""
        try:
            self.api("/api/v2/backfills", {"dag_id": "detect_patterns", **span})
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return False
        return True

    def run(self, run_id: str) -> dict:
        return self.api(f"{PATTERNS}/dagRuns/{run_id}")

    def is_running(self) -> bool:
        return self.api(f"{PATTERNS}/dagRuns?state=running&state=queued")["total_entries"] > 0

    def tasks(self, condition: str = "") -> list[dict]:
        return self.api(f"{PATTERNS}/dagRuns/~/taskInstances?limit=1000&{condition}")["task_instances"]

    def instance(self, task: dict) -> dict:
        """Return the current state of a task instance."""
        return self.api(f"{PATTERNS}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}")

    def writing(self) -> dict | None:
        """Return the task that currently writes to the warehouse, or None."""
        running = self.tasks("state=running")
        return next((task for task in running if task["task_id"] in WRITERS and task["pid"]), None)

    def processes(self, task: dict) -> list[psutil.Process]:
        """Return the process that does a task's work and the worker that supervises it; empty if the task has ended."""
        work = [process for process in self.scheduler.children(recursive=True) if process.pid == task["pid"]]
        return [*work, *(process.parent() for process in work)]

    def is_done(self) -> bool:
        settings = self.stack.settings
        return (
            len(LedgerIndex(settings.warehouse, settings.limits).last_keys(self.chunks + 1)) == self.chunks
            and not LedgerIndex(settings.warehouse, settings.limits).is_open()
        )

    def finish(self) -> None:
        """Wait until all landed chunks are exported; trigger a run whenever none is active."""

        def is_done() -> bool:
            if not self.is_done() and not self.is_running():
                self.trigger()
            return self.is_done() and not self.writing()

        self.wait_for(is_done, "all landed chunks are exported")

    def wait_for(self, question: Callable[[], object], what: str, seconds: float = 150) -> object:
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            assert time.monotonic() < deadline, f"Did not happen within {seconds} s: {what}"
            time.sleep(0.05)
        return answer


@pytest.fixture(scope="module", autouse=True)
def page(request) -> Iterator[None]:
    yield
    figures.write(
        request.session,
        "airflow",
        "# Accidents in Airflow\n\nWritten by `make test-faults`. The accidents below happened to one stream in a real "
        "Airflow with a real S3 server. Airflow's retries and the next runs continued each time. At the end, the "
        "detection files had the same rows as an undisturbed replay, no row was missing or duplicated, and `make "
        "verify` and the audit found no differences. "
        f"{sum(times for what, times in FIGURES.items() if 'killed' in what)} kills in total.",
        ("accident", "count"),
        sorted(FIGURES.items()),
    )


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """A stack with a run every minute, whose feed has no rows."""
    root = tmp_path_factory.mktemp("accidents")
    (root / "source").mkdir()
    (root / "source/transactions.csv").write_text(HEADER + "\n")
    write_importance(root / "source", [(f"U{index}", "M3", str(9 - index)) for index in range(8)])
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TALLYMARK_VARS", json.dumps(VARS))
        environment.setenv("TALLYMARK_SCHEDULE", "* * * * *")
        stack = local_stack.new_stack(root / "stack", root / "source/transactions.csv")
        processes = local_stack.start(stack)
        try:
            importance = (root / "source/input/customers/customer_importance.csv").read_bytes()
            stack.bucket.put("input/customers/customer_importance.csv", importance)
            yield Airflow(stack, psutil.Process(processes["scheduler"].pid))
        finally:
            stop(stack.root)


def test_killed_tasks_are_retried(airflow):
    """The three tasks that write are killed with SIGKILL at random moments."""
    chance, killed, retried = random.Random(2), Counter(), []

    def is_killed() -> bool:
        """Kill the task that writes, and return whether it died before it reported success to Airflow.

        A task that is already a retry is left alone, because Airflow waits longer before each further retry.
        """
        if not airflow.chunks or airflow.is_done():
            airflow.land()
        if not airflow.is_running():
            airflow.trigger()
        task = airflow.writing()
        if not task or task["try_number"] > 1:
            return False
        time.sleep(chance.uniform(0, 0.7))
        processes = airflow.processes(task)
        if not processes:
            return False
        processes[0].kill()
        airflow.wait_for(lambda: airflow.instance(task)["state"] != "running", "Airflow notices the killed task")
        if airflow.instance(task)["state"] == "success":
            return False
        killed[task["task_id"]] += 1
        retried.append(task)
        return True

    for _ in range(KILLS):
        airflow.wait_for(is_killed, "a task is killed")
    airflow.finish()
    for task in retried:
        now = airflow.instance(task)
        assert now["try_number"] > 1
        assert now["state"] == "success"
    FIGURES.update({f"process of the {name} task killed": times for name, times in killed.items()})


@only_in_full
def test_killed_worker_is_noticed(airflow):
    """No process is left to report the failed task; Airflow only misses its heartbeats."""
    airflow.land()
    airflow.trigger()
    task = airflow.wait_for(airflow.writing, "a task that writes")
    killed_at = time.monotonic()
    for process in airflow.processes(task):
        process.kill()

    def is_retried() -> bool:
        now = airflow.instance(task)
        return now["try_number"] > task["try_number"] and now["state"] in ("running", "success")

    airflow.wait_for(is_retried, "the task is retried")
    seconds = time.monotonic() - killed_at
    assert seconds < 90
    FIGURES["worker and task process killed"] += 1
    FIGURES["seconds from the worker's death to the retry"] = round(seconds)
    airflow.finish()


def test_aborted_run_loses_nothing(airflow):
    """The run is marked as failed while a task works. The task may still work when the next run starts."""
    airflow.land()
    airflow.land()
    airflow.trigger()
    task = airflow.wait_for(airflow.writing, "a task that writes")
    airflow.api(f"{PATTERNS}/dagRuns/{task['dag_run_id']}", {"state": "failed"}, "PATCH")
    assert airflow.run(task["dag_run_id"])["state"] == "failed"
    airflow.finish()
    FIGURES["run marked as failed by hand"] += 1


def test_dag_paused_during_a_run(airflow):
    """The active task ends, no new task starts, and after unpausing the stream continues."""
    airflow.land()
    airflow.trigger()
    airflow.wait_for(airflow.writing, "a task that writes")
    airflow.api(PATTERNS, {"is_paused": True}, "PATCH")
    airflow.land()
    airflow.wait_for(lambda: not airflow.writing(), "the task that ran has ended")
    started = [task["start_date"] for task in airflow.tasks()]
    time.sleep(3)
    assert [task["start_date"] for task in airflow.tasks()] == started
    assert not airflow.is_done()
    airflow.api(PATTERNS, {"is_paused": False}, "PATCH")
    airflow.finish()
    FIGURES["DAG paused during a run"] += 1


def test_manual_runs_and_backfills_take_turns(airflow):
    """With any number of active runs, only one task at a time writes to the warehouse."""
    began_at = datetime.now(UTC)
    yesterday = began_at - timedelta(days=1)
    span = {"from_date": yesterday.isoformat(), "to_date": (yesterday + timedelta(minutes=2)).isoformat()}
    airflow.land()
    airflow.wait_for(lambda: airflow.backfills({"max_active_runs": 2, **span}), "a backfill is accepted")
    airflow.trigger()
    airflow.wait_for(airflow.writing, "a task that writes")
    for _ in range(2):
        airflow.land()
        time.sleep(2)
    airflow.finish()
    began = f"start_date_gte={began_at.isoformat().replace('+00:00', 'Z')}"
    tasks = [task for task in airflow.tasks(began) if task["task_id"] in WRITERS and task["end_date"]]
    assert {task["dag_run_id"].partition("__")[0] for task in tasks} >= {"backfill"}
    tasks.sort(key=lambda task: task["start_date"])
    for before, after in pairwise(tasks):
        assert before["end_date"] <= after["start_date"]
    FIGURES["backfill and manual run during a scheduled run"] += 1


def test_result_equals_undisturbed_replay(airflow, tmp_path):
    bucket = airflow.stack.root / "s3" / airflow.stack.settings.bucket
    shutil.copytree(bucket / "input", tmp_path / "input")
    replay(tmp_path, tmp_path / "undisturbed", vars=VARS)
    (airflow.stack.root / "output").symlink_to(bucket / "output")
    assert detected(airflow.stack.root) == detected(tmp_path / "undisturbed")
    assert len(exported(airflow.stack.root)) > 40 * airflow.chunks
    store = FolderStore(bucket)
    assert verify(store, settings(airflow.stack.root).output_prefix)["rows"] == len(exported(airflow.stack.root))
    audit(settings(airflow.stack.root), store)
