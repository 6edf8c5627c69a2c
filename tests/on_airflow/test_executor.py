"""The executor: pauses of the scheduler, shutdown, and the locked queue."""

import os
import signal
import subprocess
import sys
from itertools import count
from threading import Thread
from types import SimpleNamespace

import psutil
import pytest
from support.waiting import DEADLINE_SECONDS, wait_for

# Ignores SIGINT and SIGTERM, like a task that hangs in native code.
HANGS = (
    "import signal, time; [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]; "
    "print('ready', flush=True); time.sleep(3600)"
)


@pytest.fixture
def executor():
    from tallymark.on_airflow.executor import PausingLocalExecutor

    made = PausingLocalExecutor(parallelism=2)
    # Otherwise, the workers would start together with the executor.
    made.is_mp_using_fork = False
    made.start()
    yield made
    for worker in filter(psutil.pid_exists, made.workers):
        for process in [*psutil.Process(worker).children(recursive=True), psutil.Process(worker)]:
            process.kill()
    if not made.activity_queue._reader.closed:
        made.end()


@pytest.fixture
def pauses(monkeypatch):
    """The pause that each call of sync asks for, in seconds. Nothing waits."""
    from tallymark.on_airflow import executor

    requested = []

    monkeypatch.setattr(executor, "wait_for_result", lambda results, seconds: requested.append(seconds))
    return requested


def let_a_day_pass(executor) -> None:
    executor._noted_at -= 86_400


def test_pause_grows_with_quiet_time():
    from tallymark.on_airflow.executor import LONGEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS, pause_seconds

    assert [pause_seconds(quiet, ended=True) for quiet in (0, 0.1)] == [0, 0]
    assert pause_seconds(0, ended=False) == pause_seconds(0.2, ended=True) == SHORTEST_PAUSE_SECONDS
    assert SHORTEST_PAUSE_SECONDS < pause_seconds(2, ended=False) < pause_seconds(3, ended=True) < LONGEST_PAUSE_SECONDS
    assert pause_seconds(60, ended=False) == pause_seconds(86_400, ended=True) == LONGEST_PAUSE_SECONDS


def test_pause_is_short_after_task_start(executor, pauses):
    let_a_day_pass(executor)
    executor.sync()
    executor._process_workloads([])
    executor.sync()
    quiet, after = pauses
    assert quiet > after > 0


def test_end_of_task_interrupts_pause(executor, monkeypatch):
    from tallymark.on_airflow import executor as module

    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        executor.result_queue.put(("task", "success", None))

    monkeypatch.setattr(module.time, "sleep", nap)
    module.wait_for_result(executor.result_queue, 3600)
    assert len(naps) == 1


def test_scheduler_is_awake_after_task_end(executor, pauses, monkeypatch):
    from tallymark.on_airflow import executor as module

    monkeypatch.setattr(module, "AWAKE_SECONDS", 3600)
    let_a_day_pass(executor)
    executor.result_queue.put(("task", "success", None))
    executor.sync()
    assert executor.event_buffer == {"task": ("success", None)}
    executor.sync()
    executor._process_workloads([])
    executor.sync()
    quiet, woken, started = pauses
    assert quiet > started > woken == 0


@pytest.fixture
def run(executor, monkeypatch):
    """Return a function that runs a Python program in a child process of a worker, like Airflow's supervisor.

    ``run.pid()`` waits for the program's first line of output, and returns the process id.
    """
    from airflow.executors.base_executor import BaseExecutor

    def supervise(workload, **_):
        with subprocess.Popen([sys.executable, "-c", workload.program], stdout=-1, start_new_session=True) as task:
            task.stdout.readline()
            os.write(written, b"%d\n" % task.pid)

    def start(program: str) -> None:
        key = ("task", next(numbers))
        states = {"running_state": None, "success_state": "success", "failure_state": "failed"}
        executor.queued_tasks[key] = SimpleNamespace(key=key, display_name="task", program=program, **states)
        executor._process_workloads([executor.queued_tasks[key]])

    numbers = count()
    read, written = os.pipe()
    monkeypatch.setattr(BaseExecutor, "run_workload", staticmethod(supervise))
    with open(read) as pids:
        start.pid = lambda: int(pids.readline())
        yield start
    os.close(written)


def ends(executor) -> bool:
    thread = Thread(target=executor.end, daemon=True)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    return not thread.is_alive()


def test_end_kills_task_that_ignores_signals(executor, run, monkeypatch):
    from tallymark.on_airflow import executor as module

    monkeypatch.setattr(module, "END_SECONDS", 0.1)
    run(HANGS)
    task = psutil.Process(run.pid())
    worker = task.parent()
    assert worker.pid in executor.workers
    assert ends(executor)
    wait_for(lambda: not task.is_running() and not worker.is_running(), "worker and task have ended")


def test_end_waits_for_short_task(executor, run):
    run("print(flush=True); import time; time.sleep(1)")
    run.pid()
    assert ends(executor)
    assert executor.event_buffer == {("task", 0): ("success", None)}


def test_busy_workers_are_not_stuck(executor, run, monkeypatch):
    """Every worker runs a task that takes longer than ``STUCK_SECONDS``, and another task waits."""
    from tallymark.on_airflow import executor as module

    monkeypatch.setattr(module, "STUCK_SECONDS", 0)
    for _ in range(executor.parallelism):
        run(HANGS)
        run.pid()
    run(HANGS)
    for _ in range(5):
        executor.sync()
    assert not executor.activity_queue.empty()
    monkeypatch.setattr(module, "END_SECONDS", 0.1)
    assert ends(executor)


def test_locked_queue_ends_the_scheduler(executor, run, monkeypatch):
    """A worker is killed while it waits for a task, and leaves the queue locked."""
    from tallymark.on_airflow import executor as module

    run("print(flush=True)")
    run.pid()
    wait_for(lambda: executor.sync() or executor.event_buffer, "the first task has ended")
    lock = executor.activity_queue._rlock
    wait_for(lambda: not lock.acquire(block=False) or lock.release(), "the worker waits for the next task")
    (worker,) = executor.workers
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(worker) or executor.sync(), "the worker has ended")
    run("print(flush=True)")
    monkeypatch.setattr(module, "STUCK_SECONDS", 2)

    def stuck() -> bool:
        try:
            executor.sync()
        except module.StuckError:
            return True
        return False

    wait_for(stuck, "the executor notices that it is stuck")
    monkeypatch.setattr(module, "END_SECONDS", 0.1)
    assert ends(executor)
