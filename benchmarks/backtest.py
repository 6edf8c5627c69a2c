"""How much does a backtest slow down the stream?

Runs the stream of ``latency`` without backtests, and again while backtests of all landed chunks run back to back.
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
    "During {backtest_count}, one after the other, the median landing-to-file time is {backtest_median_ratio} as long "
    "as without them. The detections are the same."
)
table = common.target_table(
    ("median without backtests", "backtest_alone_p50"),
    ("median during backtests", "backtest_beside_p50"),
    ("median during backtests compared with without", "backtest_median_ratio"),
    ("95th percentile without backtests", "backtest_alone_p95"),
    ("95th percentile during backtests", "backtest_beside_p95"),
    ("last chunk during backtests, which shows whether the pipeline keeps up", "backtest_last_chunk", 10),
)
COMMAND = (sys.executable, "-m", "tallymark", "backtest", "--vars", "{child_min_transactions: 60}")
DETECTED = "select pattern_id, merchant, customer, chunk_seq from detections order by all"


def measure(data: Path, quick: bool) -> dict:
    os.environ["TALLYMARK_SCHEDULE"] = "@continuous"
    alone, during, last, ended = [], [], [], 0
    for _ in range(1 if quick else 2):
        stack = new_stack(common.fresh("alone"), data / "transactions.csv.gz")
        alone += lags_of(stack)
        disturbed = new_stack(common.fresh("disturbed"), data / "transactions.csv.gz")
        lags, count = _lags_during_backtests(disturbed)
        during += lags
        last.append(lags[-1])
        ended += count
        if _detected(stack) != _detected(disturbed):
            raise RuntimeError("The streams with and without backtests have different detections.")
        if not count:
            raise RuntimeError("No backtest succeeded during the stream.")
    return {
        "figures": {
            "backtest_alone_p50": (median(alone), "s"),
            "backtest_beside_p50": (median(during), "s"),
            "backtest_median_ratio": (median(during) / median(alone), "times"),
            "backtest_alone_p95": (quantiles(alone, n=20, method="inclusive")[-1], "s"),
            "backtest_beside_p95": (quantiles(during, n=20, method="inclusive")[-1], "s"),
            "backtest_last_chunk": (max(last), "s"),
            "backtest_count": (ended, "backtests"),
        }
    }


def _lags_during_backtests(stack: Stack) -> tuple[list[float], int]:
    """Return the seconds from landing to file of each chunk, and the number of backtests that succeeded meanwhile."""
    is_over, ended = threading.Event(), []

    def try_thresholds() -> None:
        # Before the first export there is no history, so the command fails.
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
