"""From landing to detection through S3 and Airflow: 60 chunks, one a second, X and Y start together.

Beside it the same with a DAG of the same shape whose steps do nothing (empty_steps.py): what Airflow alone costs.
"""

import gzip
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from itertools import cycle, islice, pairwise
from pathlib import Path
from statistics import median

import duckdb
from tallymark.local.feed import open_source
from tallymark.local.stack import Stack, check_alive, new_stack, running
from tallymark.settings import PROJECT_ROOT
from tallymark.warehouse.ledger_index import LedgerIndex

from benchmarks.common import CHUNK_ROWS, Measured, Options, fresh, quantile

CHUNKS = 60
STALL_SECONDS = 180


class EmptyStack(Stack):
    """A stack with the DAG empty_steps instead of detect_patterns."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.root / "dags"),
            "BENCHMARK_ROOT": str(self.root),
            "BENCHMARK_BUCKET": self.settings.bucket,
        }


def measure(options: Options) -> Measured:
    found = through_airflow(options, "latency", "@continuous", CHUNKS)
    # A run with empty steps takes nearly the second between two chunks, so that its median hangs on when it began.
    empty = [lag for _ in range(1 if options.quick else 3) for lag in _empty(options, CHUNKS)]
    found.figures["latency_empty_p50"] = (quantile(empty, 0.5), "s")
    found.figures["latency_empty_p95"] = (quantile(empty, 0.95), "s")
    found.figures["latency_over_empty"] = (found.figures["latency_p50"][0] / quantile(empty, 0.5), "times")
    return found


def _empty(options: Options, chunks: int) -> list[float]:
    """Seconds from each chunk's landing to the end of the empty steps of the run that found it."""
    root = fresh("empty")
    made = new_stack(root, _source(root / "source", options.data, chunks) / "transactions.csv.gz")
    stack = EmptyStack(**{part.name: getattr(made, part.name) for part in fields(made)})
    (root / "dags").mkdir()
    shutil.copy(PROJECT_ROOT / "benchmarks/empty_steps.py", root / "dags")
    noted = root / "noted.json"

    def count() -> int:
        return len(json.loads(noted.read_text())) if noted.exists() else 0

    with running(stack) as processes:
        _wait(stack, processes, count, lambda done: done >= chunks)
    return [at - _landed_at(stack, key) for key, at in json.loads(noted.read_text()).items()]


def through_airflow(options: Options, name: str, schedule: str, chunks: int) -> Measured:
    """Let X and Y run over so many chunks; figures are called after the measurement."""
    os.environ["TALLYMARK_SCHEDULE"] = schedule
    root = fresh(name)
    stack = new_stack(root, _source(root / "source", options.data, chunks) / "transactions.csv.gz")
    with running(stack) as processes:
        _wait_until_done(stack, processes, chunks)
    return _read(stack, name)


def _source(folder: Path, data: Path, chunks: int) -> Path:
    """So many full chunks of the data as a source for X, with the customer importance; over again when it has fewer."""
    folder.mkdir()
    with open_source(data / "transactions.csv.gz") as whole:
        header, rows = whole.readline(), whole.readlines()
    with gzip.open(folder / "transactions.csv.gz", "wb", compresslevel=1) as file:
        file.write(header)
        file.writelines(islice(cycle(rows), chunks * CHUNK_ROWS))
    importance = data / "customer_importance.csv.gz"
    (folder / importance.name).write_bytes(importance.read_bytes())
    return folder


def _wait_until_done(stack: Stack, processes: dict, chunks: int) -> None:
    def taken() -> int:
        return len(LedgerIndex(stack.settings.warehouse, stack.settings.limits).last_keys(chunks))

    _wait(
        stack,
        processes,
        taken,
        lambda done: done >= chunks and not LedgerIndex(stack.settings.warehouse, stack.settings.limits).is_open(),
    )
    time.sleep(3)  # Airflow writes down the end of the last export.


def _wait(stack: Stack, processes: dict, count: Callable[[], int], is_enough: Callable[[int], bool]) -> None:
    """Wait until enough chunks were counted.

    Raises:
        RuntimeError: when the count has not changed for STALL_SECONDS.
    """
    before, moved_at = None, time.monotonic()
    while not is_enough(done := count()):
        check_alive(stack, processes)
        if done != before:
            before, moved_at = done, time.monotonic()
        if time.monotonic() > moved_at + STALL_SECONDS:
            raise RuntimeError(f"nothing has moved for {STALL_SECONDS} s; logs are in {stack.root / 'logs'}")
        time.sleep(0.5)


def _landed_at(stack: Stack, key: str) -> float:
    """Seconds since 1970; the S3 server's file is finished just before it answers the PUT."""
    return (stack.root / "s3" / stack.settings.bucket / key).stat().st_mtime


def _moment(text: str) -> float:
    """Seconds since 1970 of a time in Airflow's SQLite database, which is UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _read(stack: Stack, name: str) -> Measured:
    with sqlite3.connect(stack.root / "airflow" / "airflow.db") as metadata:
        tasks = [
            (run, task, _moment(start), _moment(end))
            for run, task, start, end in metadata.execute(
                """
                select run_id, task_id, start_date, end_date
                from task_instance
                where dag_id = 'detect_patterns' and state = 'success'
                order by start_date
                """
            )
        ]
    with duckdb.connect(str(stack.settings.warehouse), read_only=True) as warehouse:
        chunks = warehouse.execute(
            """
            select chunks.chunk_key, epoch(max(files.put_at)), epoch(min(releases.released_at))
            from raw.chunks
            left join detections on chunks.chunk_seq = detections.chunk_seq
            left join output.files on detections.file_number = files.file_number
            asof left join output.releases on chunks.chunk_seq <= releases.chunk_seq
            group by chunks.chunk_seq, chunks.chunk_key
            order by chunks.chunk_seq
            """
        ).fetchall()
    exports = [(start, end) for _, task, start, end in tasks if task == "export"]
    landed, lags, work_seconds = [], [], []
    loads = {run: start for run, task, start, _ in tasks if task == "load"}
    for key, put_at, released_at in chunks:
        at = _landed_at(stack, key)
        end = put_at or next(end for start, end in exports if start <= released_at <= end)
        landed.append(at)
        lags.append(end - at)
        work_seconds.append(end - max(start for start in loads.values() if start <= end))
    order = sorted(range(len(landed)), key=landed.__getitem__)
    lags, work_seconds = [lags[place] for place in order], [work_seconds[place] for place in order]
    seconds = [landed[place] - landed[order[0]] for place in order]
    found = Measured(series={"landed": seconds, "lag": lags})
    found.figures[f"{name}_p50"] = (quantile(lags, 0.5), "s")
    found.figures[f"{name}_p95"] = (quantile(lags, 0.95), "s")
    found.figures[f"{name}_max"] = (max(lags), "s")
    found.figures[f"{name}_last_chunk"] = (lags[-1], "s")
    found.figures[f"{name}_slope"] = (_slope(seconds, lags), "s/s")
    found.figures[f"{name}_work_p95"] = (quantile(work_seconds, 0.95), "s")
    found.figures[f"{name}_micro_batches"] = (len(exports), "runs")
    steps = _by_step(tasks)
    found.series["steps"] = steps
    for step, value in steps.items():
        found.figures[f"{name}_step_{step.replace(' ', '_')}"] = (value, "s")
    return found


def _slope(x: list[float], y: list[float]) -> float:
    """Of the straight line through the points by least squares."""
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((value - middle_x) ** 2 for value in x)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread


def _by_step(tasks: list[tuple[str, str, float, float]]) -> dict[str, float]:
    """Median seconds of each task of a run that had work, and from the end of one to the start of the next."""
    runs: dict[str, dict[str, tuple[float, float]]] = {}
    for run, task, start, end in tasks:
        runs.setdefault(run, {})[task] = (start, end)
    full = [run for run in runs.values() if {"wait_for_chunk", "load", "build", "export"} <= run.keys()]
    steps = {}
    for before, task in (("wait_for_chunk", "load"), ("load", "build"), ("build", "export")):
        steps[f"hop to {task}"] = median(run[task][0] - run[before][1] for run in full)
        steps[task] = median(run[task][1] - run[task][0] for run in full)
    ordered = sorted(full, key=lambda run: run["load"][0])
    if len(ordered) > 1:
        pairs = pairwise(ordered)
        steps["hop to next run"] = median(after["wait_for_chunk"][0] - before["export"][1] for before, after in pairs)
    return steps
