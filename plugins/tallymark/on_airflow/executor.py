"""Airflow's LocalExecutor, at which the scheduler rests while nothing happens: docs/decisions/quick-tasks.md."""

import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Any

from airflow.executors.local_executor import LocalExecutor

BUSY_SECONDS = 0.5
REST_SHARE = 0.2
LONGEST_REST_SECONDS = 1.5


def rest_seconds(quiet: float) -> float:
    """How long to rest when no task has started or ended for so many seconds."""
    return min(max(quiet - BUSY_SECONDS, 0) * REST_SHARE, LONGEST_REST_SECONDS)


class RestingLocalExecutor(LocalExecutor):
    """Holds up the scheduler's loop, which calls it each time, for ``rest_seconds`` or until a task ends."""

    def start(self) -> None:
        super().start()
        self.happened_at = time.monotonic()

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        self.happened_at = time.monotonic()
        super()._process_workloads(workload_list)

    def sync(self) -> None:
        """Rest, and read which tasks have ended."""
        if wait([self.result_queue._reader], rest_seconds(time.monotonic() - self.happened_at)):
            self.happened_at = time.monotonic()
        super().sync()
