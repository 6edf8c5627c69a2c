"""How long does it take from a chunk's landing to its detection file?

One chunk lands per second in S3, and Airflow runs with the ``@continuous`` schedule. Feed and DAG start together. The
same is measured with a DAG of the same shape and empty steps (empty_steps.py), which shows the cost of Airflow alone.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median, quantiles

import duckdb
from tallymark.local.stack import Stack, check_alive, new_stack, running
from tallymark.settings import PROJECT_ROOT
from tallymark.warehouse.ledger_index import LedgerIndex

from benchmarks import common

ANSWER = (
    "The median is {latency_p50} and the 95th percentile {latency_p95}, at one chunk per second. Airflow alone, with "
    "empty steps in the same DAG, takes {latency_empty_p50}."
)
table = common.target_table(
    ("median", "latency_p50", 2),
    ("95th percentile", "latency_p95", 4),
    ("median compared with empty steps", "latency_over_empty", 1.5),
    ("last chunk, which shows whether the pipeline keeps up", "latency_last_chunk", 5),
    ("`load` task, median", "latency_step_load"),
    ("`build` task, median", "latency_step_build"),
    ("`export` task, median", "latency_step_export"),
)
STALL_SECONDS = 180
# A chunk without detections is done when an export releases it.
DONE = """
    select chunks.chunk_key, epoch(coalesce(max(files.put_at), min(releases.released_at)))
    from raw.chunks
    left join detections on chunks.chunk_seq = detections.chunk_seq
    left join output.files on detections.file_number = files.file_number
    asof left join output.releases on chunks.chunk_seq <= releases.chunk_seq
    group by chunks.chunk_key
"""
TASKS = """
    select task_id, 86400 * (julianday(end_date) - julianday(start_date))
    from task_instance
    where dag_id = 'detect_patterns' and state = 'success'
"""


class EmptyStack(Stack):
    """A stack with the `empty_steps` DAG instead of `detect_patterns`."""

    def environment(self) -> dict[str, str]:
        dags = {"AIRFLOW__CORE__DAGS_FOLDER": str(self.root / "dags")}
        return super().environment() | dags | {"BENCH_ROOT": str(self.root), "BENCH_BUCKET": self.settings.bucket}


def measure(data: Path, quick: bool) -> dict:
    os.environ["TALLYMARK_SCHEDULE"] = "@continuous"
    stack = new_stack(common.fresh("latency"), data / "transactions.csv.gz")
    lags = lags_of(stack)
    with closing(sqlite3.connect(stack.root / "airflow" / "airflow.db")) as metadata:
        tasks = metadata.execute(TASKS).fetchall()
    # A run with empty steps takes about one second, the interval between chunks, so its median depends on the start.
    empty = [lag for _ in range(1 if quick else 3) for lag in _empty_lags(data)]
    figures = {
        "latency_p50": (median(lags), "s"),
        "latency_p95": (quantiles(lags, n=20, method="inclusive")[-1], "s"),
        "latency_last_chunk": (lags[-1], "s"),
        "latency_empty_p50": (median(empty), "s"),
        "latency_over_empty": (median(lags) / median(empty), "times"),
    }
    for step in ("load", "build", "export"):
        figures[f"latency_step_{step}"] = (median(seconds for task, seconds in tasks if task == step), "s")
    return {"figures": figures}


def lags_of(stack: Stack) -> list[float]:
    """Run a stack until all chunks of the feed are done, and return their seconds from landing to file, in order."""
    index = LedgerIndex(stack.settings.warehouse, stack.settings.limits)
    landed = _run(stack, lambda: 0 if index.is_open() else len(index.last_keys(10**6)))
    with duckdb.connect(str(stack.settings.warehouse), read_only=True) as warehouse:
        return _lags(landed, warehouse.execute(DONE).fetchall())


def _empty_lags(data: Path) -> list[float]:
    root = common.fresh("empty")
    (root / "dags").mkdir()
    shutil.copy(PROJECT_ROOT / "benchmarks" / "empty_steps.py", root / "dags")
    (root / "done").touch()
    stack = EmptyStack(**vars(new_stack(root, data / "transactions.csv.gz")))
    landed = _run(stack, lambda: len((root / "done").read_text().splitlines()))
    return _lags(landed, [line.split() for line in (root / "done").read_text().splitlines()])


def _run(stack: Stack, count_done: Callable[[], int]) -> dict[str, float]:
    """Run until all chunks of the feed are done, and return when each key landed, in seconds since 1970."""
    bucket = stack.root / "s3" / stack.settings.bucket
    chunks = bucket / stack.settings.transactions_prefix
    with running(stack) as processes:
        processes["feed"].wait()
        deadline = time.monotonic() + STALL_SECONDS
        while count_done() < len(list(chunks.iterdir())):
            check_alive(stack, processes)
            if time.monotonic() > deadline:
                raise RuntimeError(f"Not all chunks were done within {STALL_SECONDS} s. See {stack.root / 'logs'}.")
            time.sleep(0.5)
    # The S3 server finishes an object's file just before it answers the PUT.
    return {path.relative_to(bucket).as_posix(): path.stat().st_mtime for path in chunks.iterdir()}


def _lags(landed: dict[str, float], done: list[tuple[str, float]]) -> list[float]:
    """Return the seconds from landing to done of each chunk, in order of landing."""
    return [float(dict(done)[key]) - at for key, at in sorted(landed.items(), key=lambda chunk: chunk[1])]
