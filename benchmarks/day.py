"""24 hours of micro-batches, sped up: do time, memory and disk stay in proportion?"""

from statistics import median

import psutil
from tallymark.warehouse.connection import connect

from benchmarks.common import Measured, Options, chunk_bodies, fresh, micro_batch, new_objects, put_chunk, settings_of

ROWS = 500


def measure(options: Options) -> Measured:
    count, window = (150, 25) if options.quick else (1440, 100)
    root = fresh("day")
    importance = options.data / "customer_importance.csv.gz"
    (root / "input/customers").mkdir(parents=True)
    (root / "input/customers" / importance.name).write_bytes(importance.read_bytes())
    bodies = list(chunk_bodies(options.data, count, ROWS))
    process = psutil.Process()
    batches, memory, disk = [], [], []
    for number in range(1, count + 1):
        put_chunk(root, number, bodies[(number - 1) % len(bodies)])
        batches.append(micro_batch(root, 1, new_objects(root, number)))
        memory.append(process.memory_info().rss / 2**20)
        disk.append(settings_of(root).warehouse.stat().st_size / 2**20)
    # The first micro-batches import and parse.
    first, last = slice(5, 5 + window), slice(-window, None)
    totals = [sum(batch.values()) for batch in batches]
    found = Measured(series={"seconds": totals, "memory_mb": memory, "disk_mb": disk})
    found.figures["day_batches"] = (count, "micro-batches")
    found.figures["day_first"] = (median(totals[first]), "s")
    found.figures["day_last"] = (median(totals[last]), "s")
    found.figures["day_ratio"] = (median(totals[last]) / median(totals[first]), "times")
    for step in batches[0]:
        ratio = median(batch[step] for batch in batches[last]) / median(batch[step] for batch in batches[first])
        found.figures[f"day_{step}_ratio"] = (ratio, "times")
    found.figures["day_memory_first"] = (median(memory[first]), "MB")
    found.figures["day_memory_last"] = (median(memory[last]), "MB")
    found.figures["day_memory_ratio"] = (median(memory[last]) / median(memory[first]), "times")
    found.figures["day_disk"] = (disk[-1], "MB")
    found.figures["day_disk_per_row"] = (disk[-1] * 2**20 / (count * ROWS), "bytes")
    with connect(settings_of(root), read_only=True) as warehouse:
        rows = warehouse.execute(
            "select estimated_size, table_name from duckdb_tables() order by 1 desc limit 5"
        ).fetchall()
    found.notes.append("Largest tables: " + ", ".join(f"{table} {count:,} rows" for count, table in rows))
    half = disk[count // 2]
    found.figures["day_disk_second_half_over_first"] = ((disk[-1] - half) / half, "times")
    return found
