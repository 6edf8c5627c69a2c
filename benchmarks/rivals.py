"""How does it compare with recomputing everything for every chunk?

The same chunks one at a time, in turns, without a scheduler: Tallymark, a design on Spark, and plain DuckDB.
"""

import shutil
from pathlib import Path
from statistics import median

from tallymark.warehouse.connection import connect

from benchmarks import common, plain, spark

ANSWER = (
    "One of the last chunks takes {rivals_chunk_over_spark} what it takes on Spark, and {rivals_chunk_over_recompute} "
    "what it takes in plain DuckDB. Neither validates rows, keeps a ledger, evaluates each chunk's boundary, tests its "
    "result or writes each detection exactly once."
)
RIVALS = {
    "tallymark": "Tallymark",
    "spark": "Spark, everything recomputed (needs Java)",
    "recompute": "plain DuckDB, everything recomputed",
}
COLUMNS = {
    "rivals_{}_total": "all chunks",
    "rivals_{}_last_chunks": "one of the last",
    "rivals_total_over_{}": "Tallymark over it, all chunks",
    "rivals_chunk_over_{}": "one of the last",
}


def table(result: dict) -> str:
    rows = [
        [what, *(common.shown(result["figures"], column.format(rival)) for column in COLUMNS)]
        for rival, what in RIVALS.items()
    ]
    rows[0][-2:] = ["", ""]
    return common.markdown(["what", *COLUMNS.values()], rows)


def measure(data: Path, quick: bool) -> dict:
    common.warm_up(data)
    root = common.fresh("rivals")
    objects = common.lay_out(root, data)[: 10 if quick else None]
    rivals = {"recompute": plain.Recompute(root, root / common.IMPORTANCE)}
    if shutil.which("java"):
        rivals["spark"] = spark.Recompute(root, root / common.IMPORTANCE)
    common.micro_batch(root, [])  # takes the customer importance
    seconds = {name: [] for name in ("tallymark", *rivals)}
    for chunk in objects:
        seconds["tallymark"].append(common.micro_batch(root, [chunk])["seconds"])
        for name, rival in rivals.items():
            seconds[name].append(common.timed(rival.take, root / chunk.key))
    with connect(common.settings_of(root), read_only=True) as warehouse:
        ours = warehouse.execute("select pattern_id, action_type, merchant, customer from detections").fetchall()
    if set(ours) != rivals["recompute"].seen:
        raise RuntimeError("The detections of Tallymark and of plain DuckDB differ, so their times say nothing.")
    last = {name: median(values[-max(1, len(objects) // 6) :]) for name, values in seconds.items()}
    figures = {}
    for name, values in seconds.items():
        figures[f"rivals_{name}_total"] = (sum(values), "s")
        figures[f"rivals_{name}_last_chunks"] = (last[name], "s")
        figures[f"rivals_total_over_{name}"] = (sum(seconds["tallymark"]) / sum(values), "times")
        figures[f"rivals_chunk_over_{name}"] = (last["tallymark"] / last[name], "times")
    return {"figures": figures}
