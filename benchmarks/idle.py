"""What all processes together take while nothing lands."""

import os
import time

import psutil
from tallymark.local.stack import check_alive, new_stack, running

from benchmarks.common import HEADER, Measured, Options, fresh


def measure(options: Options) -> Measured:
    settle, period = (15, 30) if options.quick else (30, 120)
    os.environ["TALLYMARK_SCHEDULE"] = "@continuous"
    root = fresh("idle")
    source = root / "source"
    source.mkdir()
    # One transaction, as the feed takes no empty source; it is processed before the measurement begins.
    (source / "transactions.csv").write_text(f"{HEADER}\n0,'C1','2','F','28007','M1','28007','es_food',1,0\n")
    stack = new_stack(root, source / "transactions.csv")
    memory, shared = [], []
    with running(stack) as processes:
        roots = [psutil.Process(process.pid) for process in processes.values()]
        time.sleep(settle)
        before, start = _cpu_seconds(roots), time.monotonic()
        while time.monotonic() < start + period:
            time.sleep(period / 10)
            proportional, resident = _memory(roots)
            memory.append(proportional)
            shared.append(resident)
        check_alive(stack, processes)
        share = (_cpu_seconds(roots) - before) / (time.monotonic() - start)
    found = Measured()
    found.figures["idle_cpu"] = (100 * share, "percent of one core")
    found.figures["idle_memory"] = (max(memory), "GB")
    found.figures["idle_memory_rss_sum"] = (max(shared), "GB")
    found.notes.append("idle_memory counts a page that several processes share once (PSS), the sum of RSS repeatedly.")
    return found


def _tree(roots: list[psutil.Process]) -> list[psutil.Process]:
    return [*roots, *(child for root in roots for child in root.children(recursive=True))]


def _cpu_seconds(roots: list[psutil.Process]) -> float:
    """Of all processes, and of those that have ended and were waited for by one of them."""
    total = 0.0
    for process in _tree(roots):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _memory(roots: list[psutil.Process]) -> tuple[float, float]:
    """PSS and RSS of all processes together, GB."""
    pss = rss = 0
    for process in _tree(roots):
        try:
            found = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        pss, rss = pss + found.pss, rss + found.rss
    return pss / 1e9, rss / 1e9
