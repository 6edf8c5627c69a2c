"""One chunk, warm, without the scheduler: load, build, export in a process that has built before.

And how much of the build is DuckDB's work: the time inside the statements that dbt executes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from dbt.adapters.duckdb.environments.local import DuckDBCursorWrapper

from benchmarks.common import STEPS, Measured, Options, fresh, lay_out, medians, micro_batch, new_objects, warm_up


def measure(options: Options) -> Measured:
    warm_up(options.data)
    root = fresh("chunk")
    count = len(lay_out(root, options.data, 15 if options.quick else 60))
    batches, in_sql = [], []
    for number in range(1, count + 1):
        with _statements() as seconds:
            batches.append(micro_batch(root, 1, new_objects(root, number)))
        in_sql.append(sum(seconds))
    warm = batches[3:]
    ratios = [batch["build"] / sql for batch, sql in zip(warm, in_sql[3:], strict=True)]
    found = Measured(series={"seconds": [sum(batch.values()) for batch in batches], "steps": medians(warm)})
    found.figures["chunk"] = (median(sum(batch.values()) for batch in warm), "s")
    for name in STEPS:
        found.figures[f"chunk_{name}"] = (found.series["steps"][name], "s")
    found.figures["chunk_build_sql"] = (median(in_sql[3:]), "s")
    found.figures["chunk_build_over_sql"] = (median(ratios), "times")
    return found


@contextmanager
def _statements() -> Iterator[list[float]]:
    """Seconds that each statement takes which dbt executes meanwhile."""
    execute, seconds = DuckDBCursorWrapper.execute, []

    def timed(*arguments):
        start = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            seconds.append(time.perf_counter() - start)

    DuckDBCursorWrapper.execute = timed
    try:
        yield seconds
    finally:
        DuckDBCursorWrapper.execute = execute
