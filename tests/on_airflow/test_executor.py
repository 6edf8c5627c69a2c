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
    """How long each call of sync would rest, seconds."""
    from tallymark.on_airflow import executor

    asked = []

    def wait(connections, timeout):
        asked.append(timeout)
        return [connection for connection in connections if connection.poll()]

    monkeypatch.setattr(executor, "wait", wait)
    return asked


def let_pass(executor, seconds: float) -> None:
    executor.happened_at -= seconds


def test_it_rests_the_longer_the_longer_nothing_has_happened():
    from tallymark.on_airflow.executor import LONGEST_REST_SECONDS, rest_seconds

    assert [rest_seconds(quiet) for quiet in (0, 0.5)] == [0, 0]
    assert 0 < rest_seconds(1) < rest_seconds(3) < LONGEST_REST_SECONDS
    assert rest_seconds(60) == rest_seconds(86_400) == LONGEST_REST_SECONDS


def test_a_task_that_starts_keeps_it_awake(executor, rests):
    let_pass(executor, 86_400)
    executor.sync()
    executor._process_workloads([])
    executor.sync()
    longest, after = rests
    assert longest > 1
    assert after < longest


def test_a_task_that_ends_wakes_it_and_is_read_at_once(executor, rests):
    let_pass(executor, 86_400)
    executor.running.add("task")
    executor.result_queue.put(("task", "success", None))
    executor.sync()
    assert executor.event_buffer == {"task": ("success", None)}
    executor.sync()
    assert rests[1] < rests[0]
