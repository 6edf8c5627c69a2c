"""Airflow's LocalExecutor, at which the scheduler rests while nothing happens: docs/decisions/quick-tasks.md."""

import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Any

from airflow.executors.local_executor import LocalExecutor

# So long after a task has ended, the scheduler may take a few looks until the next one starts.
AWAKE_SECONDS = 0.15
SHORTEST_REST_SECONDS = 0.2
LONGEST_REST_SECONDS = 2
REST_SHARE = 0.25


def rest_seconds(quiet: float, ended: bool) -> float:
    """How long the scheduler rests when the last task started, or ended, so many seconds ago."""
    if ended and quiet < AWAKE_SECONDS:
        return 0
    return min(max(quiet * REST_SHARE, SHORTEST_REST_SECONDS), LONGEST_REST_SECONDS)


class RestingLocalExecutor(LocalExecutor):
    """Holds up the scheduler's loop, which calls it each time, for ``rest_seconds`` or until a task ends."""

    def start(self) -> None:
        super().start()
        self._note(ended=False)

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        super()._process_workloads(workload_list)
        self._note(ended=False)

    def sync(self) -> None:
        """Rest, and read which tasks have ended."""
        if wait([self.result_queue._reader], rest_seconds(time.monotonic() - self._noted_at, self._ended)):
            self._note(ended=True)
        super().sync()

    def _note(self, ended: bool) -> None:
        self._noted_at, self._ended = time.monotonic(), ended
