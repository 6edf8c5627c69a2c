"""Accidents in a real Airflow with a real S3 server: killed tasks and workers, and what people do to runs by hand.

The accidents happen one after the other to one stream; in the end its files are those of an undisturbed replay.
``make test-faults`` kills more often, kills a worker too, and writes docs/reliability/airflow.md.
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

only_in_full = pytest.mark.skipif(not figures.WANTED, reason="takes a minute or more: make test-faults runs it")


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
        """Start a run by hand, as the button in the UI does; returns its id."""
        return self.api(f"{PATTERNS}/dagRuns", {"logical_date": None})["dag_run_id"]

    def backfills(self, span: dict) -> bool:
        """Begin a backfill; returns whether Airflow did, which it refuses while its database is locked."""
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
        """How a task that was seen before is now."""
        return self.api(f"{PATTERNS}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}")

    def writing(self) -> dict | None:
        """The task that writes the warehouse just now, if there is one."""
        running = self.tasks("state=running")
        return next((task for task in running if task["task_id"] in WRITERS and task["pid"]), None)

    def processes(self, task: dict) -> list[psutil.Process]:
        """The process that does a task's work, and behind it the worker that looks after it; none, if it has ended."""
        work = [process for process in self.scheduler.children(recursive=True) if process.pid == task["pid"]]
        return [*work, *(process.parent() for process in work)]

    def is_done(self) -> bool:
        settings = self.stack.settings
        return (
            len(LedgerIndex(settings.warehouse, settings.limits).last_keys(self.chunks + 1)) == self.chunks
            and not LedgerIndex(settings.warehouse, settings.limits).is_open()
        )

    def finish(self) -> None:
        """Wait until everything that landed is out; a run is begun whenever none is there."""

        def is_done() -> bool:
            if not self.is_done() and not self.is_running():
                self.trigger()
            return self.is_done() and not self.writing()

        self.wait_for(is_done, "everything that landed is out")

    def wait_for(self, question: Callable[[], object], what: str, seconds: float = 150) -> object:
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.05)
        return answer


@pytest.fixture(scope="module", autouse=True)
def page(request) -> Iterator[None]:
    yield
    figures.write(
        request.session,
        "airflow",
        "# Accidents in Airflow\n\nWritten by `make test-faults`, from one stream through a real Airflow with a real "
        "S3 server. Airflow's own retries and the next runs went on each time. In the end the detection files held the "
        "rows of an undisturbed replay, none missing, none twice; `make verify` and the audit found nothing wrong. "
        f"{sum(times for what, times in FIGURES.items() if 'killed' in what)} kills in all.",
        ("what happened", "how many"),
        sorted(FIGURES.items()),
    )


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """A stack with a run every minute, whose Mechanism X has nothing to put."""
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


def test_killed_tasks_are_tried_again(airflow):
    """Each of the three tasks that write is killed at random moments, with SIGKILL."""
    chance, killed, tried_again = random.Random(2), Counter(), []

    def is_killed() -> bool:
        """Kill the task that writes, and say whether that was before it had told Airflow of its success.

        One that is tried again already is left alone: Airflow waits longer before each further try.
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
        airflow.wait_for(lambda: airflow.instance(task)["state"] != "running", "the death is noticed")
        if airflow.instance(task)["state"] == "success":
            return False
        killed[task["task_id"]] += 1
        tried_again.append(task)
        return True

    for _ in range(KILLS):
        airflow.wait_for(is_killed, "a task is killed")
    airflow.finish()
    for task in tried_again:
        again = airflow.instance(task)
        assert again["try_number"] > 1
        assert again["state"] == "success"
    FIGURES.update({f"process of task {name} killed": times for name, times in killed.items()})


@only_in_full
def test_a_killed_worker_is_noticed(airflow):
    """Nobody is left who could tell Airflow that the task failed; only its heartbeats are missing."""
    airflow.land()
    airflow.trigger()
    task = airflow.wait_for(airflow.writing, "a task that writes")
    killed_at = time.monotonic()
    for process in airflow.processes(task):
        process.kill()

    def again() -> bool:
        now = airflow.instance(task)
        return now["try_number"] > task["try_number"] and now["state"] in ("running", "success")

    airflow.wait_for(again, "the task is tried again")
    seconds = time.monotonic() - killed_at
    assert seconds < 90
    FIGURES["worker killed, and the task with it"] += 1
    FIGURES["seconds from a worker's death to the next try"] = round(seconds)
    airflow.finish()


def test_a_run_is_aborted(airflow):
    """Marked as failed in the middle; its task is still at work when the next run begins."""
    airflow.land()
    airflow.land()
    airflow.trigger()
    task = airflow.wait_for(airflow.writing, "a task that writes")
    airflow.api(f"{PATTERNS}/dagRuns/{task['dag_run_id']}", {"state": "failed"}, "PATCH")
    assert airflow.run(task["dag_run_id"])["state"] == "failed"
    airflow.finish()
    FIGURES["run aborted by hand"] += 1


def test_paused_in_the_middle(airflow):
    """What runs comes to its end, nothing new begins, and afterwards it goes on."""
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
    FIGURES["DAG paused in the middle"] += 1


def test_runs_by_hand_and_a_backfill_beside_the_schedule(airflow):
    """However many runs there are, one task at a time writes the warehouse."""
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
    FIGURES["backfill and a run by hand beside the scheduled one"] += 1


def test_in_the_end_it_is_as_if_undisturbed(airflow, tmp_path):
    bucket = airflow.stack.root / "s3" / airflow.stack.settings.bucket
    shutil.copytree(bucket / "input", tmp_path / "input")
    replay(tmp_path, tmp_path / "undisturbed", vars=VARS)
    (airflow.stack.root / "output").symlink_to(bucket / "output")
    assert detected(airflow.stack.root) == detected(tmp_path / "undisturbed")
    assert len(exported(airflow.stack.root)) > 40 * airflow.chunks
    store = FolderStore(bucket)
    assert verify(store, settings(airflow.stack.root).output_prefix)["rows"] == len(exported(airflow.stack.root))
    audit(settings(airflow.stack.root), store)
