"""Does a chunk take longer with more customers?

Measures micro-batches on warehouses with 10^5, 10^6 and 10^7 pairs of merchant and customer, at ten merchants and with
a weight for every third pair. A plain lookup of 10,000 pairs in the state is the minimum that a chunk requires.
"""

import logging
import resource
from collections import defaultdict
from itertools import count
from logging.handlers import BufferingHandler
from pathlib import Path
from statistics import median

from tallymark.pipeline import build

from benchmarks import common, plain
from benchmarks.history import land_random, make_past, put_importance

MERCHANTS = 10
SIZES = (10**5, 10**6, 10**7)
TURNS = 5
SLOWEST = 5
ANSWER = "With a hundred times as many pairs of merchant and customer, a chunk takes {pairs_chunk_ratio} as long."
PLOT = "pairs"
targets = common.target_table(
    ("one chunk, most pairs compared with fewest", "pairs_chunk_ratio", 1.5),
    ("60 chunks, most pairs compared with fewest", "pairs_backlog_ratio", 2),
    ("one chunk compared with a plain lookup, most pairs", "pairs_chunk_over_look_up", 6),
)
COLUMNS = {
    "chunk": "one chunk",
    "over_look_up": "compared with a plain lookup",
    "backlog": "60 chunks",
    "new_importance": "one chunk with a new importance",
    "memory_with_backlog": "peak memory",
}
KEYS = """
    create or replace temp table keys as
    select distinct 'C' || hash(i, $turn) % $customers as customer, 'M' || hash(i, $turn, 1) % $merchants as merchant
    from range(10000) as keys (i)
"""
LOOK_UP = """
    select count(*), sum(state.transactions)
    from merchant_customers as state
    inner join keys on state.merchant = keys.merchant and state.customer = keys.customer
"""


def table(result: dict) -> str:
    figures = result["figures"]
    rows = [[f"{size:,}", *(common.shown(figures, f"pairs_{size}_{column}") for column in COLUMNS)] for size in SIZES]
    parts = [common.markdown(["pairs", *COLUMNS.values()], rows), targets(result)]
    if nodes := result["series"].get("nodes"):
        listed = (f"`{node}` {seconds:.2f} s" for node, seconds in nodes[:SLOWEST])
        parts.append(f"The slowest nodes of a build with the most pairs: {', '.join(listed)}.")
    return "\n\n".join(parts)


def measure(data: Path, quick: bool) -> dict:
    sizes = SIZES[:-1] if quick else SIZES
    figures, nodes = {}, []
    for size in sizes:
        found, nodes = common.in_child(_measure_one, data, size // MERCHANTS)
        figures |= {f"pairs_{size}_{name}": figure for name, figure in found.items()}
    small, large = f"pairs_{sizes[0]}", f"pairs_{sizes[-1]}"
    for what in ("chunk", "backlog"):
        figures[f"pairs_{what}_ratio"] = (figures[f"{large}_{what}"][0] / figures[f"{small}_{what}"][0], "times")
    figures["pairs_chunk_over_look_up"] = figures[f"{large}_over_look_up"]
    seconds = [figures[f"pairs_{size}_chunk"][0] for size in sizes]
    return {"figures": figures, "series": {"pairs": sizes, "seconds": seconds, "nodes": nodes}}


def _measure_one(data: Path, customers: int) -> tuple[dict[str, tuple[float, str]], list[tuple[str, float]]]:
    """Return the figures of one warehouse, and the nodes of its builds with their median seconds, slowest first."""
    root, numbers = common.fresh("pairs"), count(10**6)
    common.in_child(make_past, root, max(customers * MERCHANTS * 3 // 2, 600_000), customers, MERCHANTS)
    common.warm_up(data)

    def batch(chunks: int = 1) -> float:
        objects = [land_random(root, next(numbers), customers, MERCHANTS) for _ in range(chunks)]
        return common.micro_batch(root, objects)["seconds"]

    batch()  # makes the detections of the history, and counts the lightest customers of each merchant
    build.log.setLevel(logging.INFO)
    build.log.propagate = False
    build.log.addHandler(lines := BufferingHandler(10**6))
    chunk = median(batch() for _ in range(TURNS))
    build.log.removeHandler(lines)
    nodes = defaultdict(list)
    for _, seconds, _, node in (line.args for line in lines.buffer if len(line.args) == 4):
        nodes[node].append(seconds)
    look_up = median(_look_up(root, customers, turn) for turn in range(TURNS))
    figures = {"chunk": (chunk, "s"), "over_look_up": (chunk / look_up, "times"), "backlog": (batch(60), "s")}
    put_importance(root, customers, MERCHANTS, version=2)
    figures["new_importance"] = (batch(), "s")
    figures["memory_with_backlog"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, "GB")
    return figures, sorted(((node, median(of)) for node, of in nodes.items()), key=lambda node: -node[1])


def _look_up(root: Path, customers: int, turn: int) -> float:
    """Return the seconds of one plain lookup of random pairs in the state."""
    with plain.connect(common.settings_of(root).warehouse, read_only=True) as database:
        database.execute(KEYS, {"customers": customers, "merchants": MERCHANTS, "turn": turn})
        return common.timed(lambda: database.execute(LOOK_UP).fetchall())
