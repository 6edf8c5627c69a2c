"""The scheduler rests at its executor while nothing happens, and no longer than until a task ends."""

import pytest


@pytest.fixture
def executor():
    from tallymark.on_airflow.executor import RestingLocalExecutor

    made = RestingLocalExecutor(parallelism=1)
    # Workers would start with the executor.
    made.is_mp_using_fork = False
    made.start()
    yield made
    made.end()


@pytest.fixture
def rests(monkeypatch):
    """How long each call of sync may rest, seconds."""
    from tallymark.on_airflow import executor

    asked = []

    def wait(connections, timeout):
        asked.append(timeout)
        return [connection for connection in connections if connection.poll()]

    monkeypatch.setattr(executor, "wait", wait)
    return asked


def let_a_day_pass(executor) -> None:
    executor._noted_at -= 86_400


def test_it_rests_the_longer_the_longer_nothing_has_happened():
    from tallymark.on_airflow.executor import LONGEST_REST_SECONDS, SHORTEST_REST_SECONDS, rest_seconds

    assert [rest_seconds(quiet, ended=True) for quiet in (0, 0.1)] == [0, 0]
    assert rest_seconds(0, ended=False) == rest_seconds(0.2, ended=True) == SHORTEST_REST_SECONDS
    assert SHORTEST_REST_SECONDS < rest_seconds(2, ended=False) < rest_seconds(3, ended=True) < LONGEST_REST_SECONDS
    assert rest_seconds(60, ended=False) == rest_seconds(86_400, ended=True) == LONGEST_REST_SECONDS


def test_it_rests_shortly_once_a_task_has_started(executor, rests):
    let_a_day_pass(executor)
    executor.sync()
    executor._process_workloads([])
    executor.sync()
    quiet, after = rests
    assert quiet > after > 0


def test_a_task_that_ends_wakes_it_and_is_read_at_once(executor, rests, monkeypatch):
    from tallymark.on_airflow import executor as module

    monkeypatch.setattr(module, "AWAKE_SECONDS", 3600)
    let_a_day_pass(executor)
    executor.running.add("task")
    executor.result_queue.put(("task", "success", None))
    executor.sync()
    assert executor.event_buffer == {"task": ("success", None)}
    executor.sync()
    executor._process_workloads([])
    executor.sync()
    quiet, woken, started = rests
    assert quiet > started > woken == 0
