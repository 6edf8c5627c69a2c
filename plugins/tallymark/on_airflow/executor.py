"""A LocalExecutor that lets an idle scheduler pause, and stops in bounded time: docs/decisions/quick-tasks.md.

It overrides only methods that Airflow intends for subclasses, and reads only public attributes of LocalExecutor.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing import SimpleQueue
from threading import Timer
from typing import Any

import psutil
from airflow.executors.local_executor import LocalExecutor

# After a task has ended, the scheduler may need several loops to start the next one.
AWAKE_SECONDS = 0.15
SHORTEST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 2
PAUSE_SHARE = 0.25
CHECKS_PER_PAUSE = 20

# Must be less than the scheduler's stop_grace_period in docker-compose.yaml.
END_SECONDS = 10
STUCK_SECONDS = 60


class StuckError(RuntimeError):
    """Workers are idle, but none of them takes the next task."""


def pause_seconds(quiet: float, ended: bool) -> float:
    """Return how many seconds the scheduler may pause.

    Args:
        quiet: seconds since the last task started or ended.
        ended: whether the last such event was the end of a task.
    """
    if ended and quiet < AWAKE_SECONDS:
        return 0
    return min(max(quiet * PAUSE_SHARE, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


def wait_for_result(results: SimpleQueue, seconds: float) -> None:
    """Wait until the queue has a result or the time is up."""
    until = time.monotonic() + seconds
    while results.empty() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, seconds / CHECKS_PER_PAUSE))


class PausingLocalExecutor(LocalExecutor):
    """Delays each scheduler loop by ``pause_seconds``, or until a task ends.

    Raises:
        StuckError: from ``sync``, which ends the scheduler. A worker that is killed while it waits for a task leaves
            the queue locked, so that no other worker can read it.
    """

    def start(self) -> None:
        super().start()
        self._stuck_since: float | None = None
        self._note(ended=False)

    def sync(self) -> None:
        """Pause, then process the results of tasks that have ended."""
        wait_for_result(self.result_queue, pause_seconds(time.monotonic() - self._noted_at, self._ended))
        super().sync()
        self._fail_if_stuck()

    def change_state(self, *arguments: Any, **named: Any) -> None:
        """Record the state of a task that has ended."""
        super().change_state(*arguments, **named)
        self._stuck_since = None
        self._note(ended=True)

    def end(self) -> None:
        """Wait ``END_SECONDS`` for running tasks, then kill them. The next scheduler starts them again."""
        workers = list(_processes(self.workers))
        timer = Timer(END_SECONDS, _kill, [workers])
        timer.start()
        try:
            super().end()
        finally:
            timer.cancel()
            # A second signal may have interrupted the wait.
            _kill(workers)

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        super()._process_workloads(workload_list)
        self._note(ended=False)

    def _fail_if_stuck(self) -> None:
        if self.activity_queue.empty() or not _has_idle(self.workers):
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = time.monotonic()
        elif time.monotonic() - self._stuck_since > STUCK_SECONDS:
            raise StuckError(
                f"No worker has taken a task for {STUCK_SECONDS} s: a killed worker left the task queue locked. "
                "The scheduler exits. Restart it if it does not restart automatically."
            )

    def _note(self, ended: bool) -> None:
        self._noted_at, self._ended = time.monotonic(), ended


def _processes(pids: Iterable[int]) -> Iterable[psutil.Process]:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            yield psutil.Process(pid)


def _has_idle(workers: Iterable[int]) -> bool:
    """Return whether a worker is idle. A running task is a child process of its worker."""
    with suppress(psutil.NoSuchProcess):
        return any(not worker.children() for worker in _processes(workers))
    return False


def _kill(workers: list[psutil.Process]) -> None:
    """Kill workers and their tasks. Each worker dies first, because it would report its task as failed."""
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            # A suspended worker cannot start another task.
            worker.suspend()
            for process in [worker, *worker.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
