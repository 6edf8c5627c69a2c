"""The same as latency with the every-minute schedule, for 5 minutes."""

from benchmarks.common import Measured, Options
from benchmarks.latency import through_airflow

CHUNKS = 300


def measure(options: Options) -> Measured:
    return through_airflow(options, "minute", "* * * * *", CHUNKS)
