"""How much CPU and memory do all processes use while nothing lands?

Measures the S3 server, Airflow and its tasks with the ``@continuous`` schedule. Memory is PSS, which divides shared
memory among the processes that share it.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil
from tallymark.local.generate import TRANSACTIONS_HEADER
from tallymark.local.stack import check_alive, new_stack, running

from benchmarks import common

SAMPLES = 10
ANSWER = "They use {idle_cpu} and {idle_memory} of memory."
table = common.target_table(("CPU", "idle_cpu", 10), ("memory", "idle_memory", 1500))


def measure(data: Path, quick: bool) -> dict:
    settle, period = (15, 30) if quick else (30, 120)
    os.environ["TALLYMARK_SCHEDULE"] = "@continuous"
    # The feed rejects an empty source. Its one transaction is processed before the measurement starts.
    source = common.fresh("idle") / "transactions.csv"
    source.write_text(f"{TRANSACTIONS_HEADER}\n0,'C1','2','F','28007','M1','28007','es_food',1,0\n")
    stack = new_stack(source.parent, source)
    memory = []
    with running(stack) as processes:
        # The feed ends when it has sent its only transaction.
        roots = [psutil.Process(process.pid) for name, process in processes.items() if name != "feed"]
        time.sleep(settle)
        before, start = _total(roots, _cpu_seconds), time.monotonic()
        for _ in range(SAMPLES):
            time.sleep(period / SAMPLES)
            memory.append(_total(roots, lambda process: process.memory_full_info().pss / 1e6))
        check_alive(stack, processes)
        share = (_total(roots, _cpu_seconds) - before) / (time.monotonic() - start)
    return {"figures": {"idle_cpu": (100 * share, "percent of one core"), "idle_memory": (max(memory), "MB")}}


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and of its children that have ended."""
    return sum(process.cpu_times()[:4])


def _total(roots: Iterable[psutil.Process], value: Callable[[psutil.Process], float]) -> float:
    """Return the sum of a value over processes and their descendants, ignoring those that end meanwhile."""
    total = 0.0
    for process in [*roots, *(child for root in roots for child in root.children(recursive=True))]:
        with suppress(psutil.NoSuchProcess):
            total += value(process)
    return total
