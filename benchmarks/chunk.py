"""How long does one chunk take without the scheduler?

Measures load, build and export in a process that has built before, the time that DuckDB spends on the statements of a
build, and the size of the warehouse, which keeps every row.
"""

import time
from pathlib import Path

from dbt.adapters.duckdb.environments.local import DuckDBCursorWrapper

from benchmarks import common

ANSWER = "It takes {chunk}: {chunk_build} of that for the build, including {chunk_build_sql} for SQL statements."
table = common.target_table(
    ("one chunk", "chunk", 1.5),
    ("`load`", "chunk_load"),
    ("`build`", "chunk_build"),
    ("`export`", "chunk_export"),
    ("`build` compared with its SQL statements", "chunk_build_over_sql", 3),
    ("growth of the warehouse per row", "chunk_disk_per_row"),
)
FIRST_WARM = 3


def measure(data: Path, quick: bool) -> dict:
    common.warm_up(data)
    statements = _time_statements()
    root = common.fresh("chunk")
    objects = common.lay_out(root, data)[: 15 if quick else None]
    seconds, ratios, sizes = [], [], []
    for chunk in objects:
        statements.clear()
        seconds.append(common.micro_batch(root, [chunk], "chunk") | {"chunk_build_sql": sum(statements)})
        ratios.append({"chunk_build_over_sql": seconds[-1]["chunk_build"] / sum(statements)})
        sizes.append(common.settings_of(root).warehouse.stat().st_size)
    figures = common.medians(seconds[FIRST_WARM:], "s") | common.medians(ratios[FIRST_WARM:], "times")
    rows = sum((root / chunk.key).read_bytes().count(b"\n") - 1 for chunk in objects[FIRST_WARM:])
    figures["chunk_disk_per_row"] = ((sizes[-1] - sizes[FIRST_WARM - 1]) / rows, "bytes")
    return {"figures": figures}


def _time_statements() -> list[float]:
    """Return a list that collects the seconds of every statement dbt executes from now on."""
    execute, seconds = DuckDBCursorWrapper.execute, []

    def execute_timed(*arguments):
        start = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            seconds.append(time.perf_counter() - start)

    DuckDBCursorWrapper.execute = execute_timed
    return seconds
