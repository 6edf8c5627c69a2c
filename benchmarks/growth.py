"""Does a chunk take longer as the history grows?

Measures one chunk in turns on warehouses with 1, 10 and 100 million past transactions of the same 50,000 pairs of
merchant and customer. For comparison, plain DuckDB without state reads all past rows.
"""

from pathlib import Path
from statistics import median

from benchmarks import common, plain
from benchmarks.history import land_random, make_past

CUSTOMERS, MERCHANTS = 5_000, 10
SIZES = (10**6, 10**7, 10**8)
WARM_UP = 2
ANSWER = "With the longest history, a chunk takes {growth_ratio} as long as with the shortest."
PLOT = "rows"
table = common.target_table(
    *((f"one chunk after {size:,} rows", f"growth_batch_{size}") for size in SIZES),
    ("longest history compared with shortest", "growth_ratio", 1.2),
    (f"plain DuckDB over all {SIZES[-1]:,} rows", f"growth_recompute_{SIZES[-1]}"),
)


def measure(data: Path, quick: bool) -> dict:
    sizes = SIZES[:-1] if quick else SIZES
    common.warm_up(data)
    roots = {size: common.fresh(f"growth-{size}") for size in sizes}
    chunks = {size: make_past(roots[size], size, CUSTOMERS, MERCHANTS, repeat=20) for size in sizes}
    turns = []
    for turn in range(1, 8 if quick else 12):
        landed = {size: land_random(roots[size], chunks[size] + turn, CUSTOMERS, MERCHANTS) for size in sizes}
        turns.append({size: common.micro_batch(roots[size], [landed[size]])["seconds"] for size in sizes})
    # The first turns read parts of the file for the first time, and make the detections of the history.
    turns = turns[WARM_UP:]
    seconds = {size: median(turn[size] for turn in turns) for size in sizes}
    recomputed = common.timed(plain.recompute_warehouse, common.settings_of(roots[sizes[-1]]).warehouse)
    figures = {f"growth_batch_{size}": (seconds[size], "s") for size in sizes} | {
        "growth_ratio": (median(turn[sizes[-1]] / turn[sizes[0]] for turn in turns), "times"),
        f"growth_recompute_{sizes[-1]}": (recomputed, "s"),
    }
    return {"figures": figures, "series": {"rows": sizes, "seconds": list(seconds.values())}}
