"""What does a backtest cost the stream?

The stream of ``latency``, alone and beside backtests of all that has landed, one after the other without a pause.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from statistics import median, quantiles

import duckdb
from tallymark.local.stack import Stack, new_stack

from benchmarks import common
from benchmarks.latency import lags_of

ANSWER = (
    "Beside {backtest_count}, one after the other, the median landing-to-file time is {backtest_median_ratio} that "
    "without them. The detections are the same."
)
table = common.target_table(
    ("median, alone", "backtest_alone_p50"),
    ("median, beside backtests", "backtest_beside_p50"),
    ("median beside over alone", "backtest_median_ratio"),
    ("95 of 100 chunks, alone", "backtest_alone_p95"),
    ("95 of 100 chunks, beside backtests", "backtest_beside_p95"),
    ("last chunk beside backtests, which shows whether the pipeline keeps up", "backtest_last_chunk", 10),
)
COMMAND = (sys.executable, "-m", "tallymark", "backtest", "--vars", "{child_min_transactions: 60}")
DETECTED = "select pattern_id, merchant, customer, chunk_seq from detections order by all"


def measure(data: Path, quick: bool) -> dict:
    os.environ["TALLYMARK_SCHEDULE"] = "@continuous"
    alone, beside, last, ended = [], [], [], 0
    for _ in range(1 if quick else 2):
        stack = new_stack(common.fresh("alone"), data / "transactions.csv.gz")
        alone += lags_of(stack)
        disturbed = new_stack(common.fresh("beside"), data / "transactions.csv.gz")
        lags, count = _beside_backtests(disturbed)
        beside += lags
        last.append(lags[-1])
        ended += count
        if _detected(stack) != _detected(disturbed):
            raise RuntimeError("A stream beside backtests detected something else")
        if not count:
            raise RuntimeError("No backtest succeeded beside the stream")
    return {
        "figures": {
            "backtest_alone_p50": (median(alone), "s"),
            "backtest_beside_p50": (median(beside), "s"),
            "backtest_median_ratio": (median(beside) / median(alone), "times"),
            "backtest_alone_p95": (quantiles(alone, n=20, method="inclusive")[-1], "s"),
            "backtest_beside_p95": (quantiles(beside, n=20, method="inclusive")[-1], "s"),
            "backtest_last_chunk": (max(last), "s"),
            "backtest_count": (ended, "backtests"),
        }
    }


def _beside_backtests(stack: Stack) -> tuple[list[float], int]:
    """Seconds from landing to file of each chunk, and how many backtests ended meanwhile."""
    is_over, ended = threading.Event(), []

    def try_thresholds() -> None:
        # Before the first export there is no history yet, and the command fails.
        while not is_over.wait(0.5):
            done = subprocess.run(COMMAND, env=stack.environment(), capture_output=True)
            if done.returncode == 0:
                ended.append(done)

    thread = threading.Thread(target=try_thresholds)
    thread.start()
    try:
        lags = lags_of(stack)
    finally:
        is_over.set()
        thread.join()
    return lags, len(ended)


def _detected(stack: Stack) -> list[tuple]:
    with duckdb.connect(str(stack.settings.warehouse), read_only=True) as warehouse:
        return warehouse.execute(DETECTED).fetchall()
