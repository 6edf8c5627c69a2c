"""How does Tallymark compare with recomputing everything for each chunk?

Tallymark, a design on Spark and plain DuckDB take the same chunks in turns, one at a time, without a scheduler.
"""

import shutil
from pathlib import Path
from statistics import median

from tallymark.warehouse.connection import connect

from benchmarks import common, plain, spark

ANSWER = (
    "For one of the last chunks, Tallymark takes {rivals_chunk_over_spark} as long as Spark, and "
    "{rivals_chunk_over_recompute} as long as plain DuckDB. Neither of them validates rows, keeps a ledger, evaluates "
    "every chunk boundary, tests its results or writes each detection exactly once."
)
RIVALS = {
    "tallymark": "Tallymark",
    "spark": "Spark, recomputing everything (needs Java)",
    "recompute": "plain DuckDB, recomputing everything",
}
COLUMNS = {
    "rivals_{}_total": "all chunks",
    "rivals_{}_last_chunks": "one of the last chunks",
    "rivals_total_over_{}": "Tallymark compared, all chunks",
    "rivals_chunk_over_{}": "Tallymark compared, one of the last chunks",
}


def table(result: dict) -> str:
    rows = [
        [label, *(common.shown(result["figures"], column.format(rival)) for column in COLUMNS)]
        for rival, label in RIVALS.items()
    ]
    rows[0][-2:] = ["", ""]
    return common.markdown(["system", *COLUMNS.values()], rows)


def measure(data: Path, quick: bool) -> dict:
    common.warm_up(data)
    root = common.fresh("rivals")
    objects = common.lay_out(root, data)[: 10 if quick else None]
    rivals = {"recompute": plain.Recompute(root, root / common.IMPORTANCE)}
    if shutil.which("java"):
        rivals["spark"] = spark.Recompute(root, root / common.IMPORTANCE)
    common.micro_batch(root, [])  # loads the customer importance
    seconds = {name: [] for name in ("tallymark", *rivals)}
    for chunk in objects:
        seconds["tallymark"].append(common.micro_batch(root, [chunk])["seconds"])
        for name, rival in rivals.items():
            seconds[name].append(common.timed(rival.take, root / chunk.key))
    with connect(common.settings_of(root), read_only=True) as warehouse:
        ours = warehouse.execute("select pattern_id, action_type, merchant, customer from detections").fetchall()
    if set(ours) != rivals["recompute"].seen:
        raise RuntimeError("Tallymark and plain DuckDB have different detections, so their times cannot be compared.")
    last = {name: median(values[-max(1, len(objects) // 6) :]) for name, values in seconds.items()}
    figures = {}
    for name, values in seconds.items():
        figures[f"rivals_{name}_total"] = (sum(values), "s")
        figures[f"rivals_{name}_last_chunks"] = (last[name], "s")
        figures[f"rivals_total_over_{name}"] = (sum(seconds["tallymark"]) / sum(values), "times")
        figures[f"rivals_chunk_over_{name}"] = (last["tallymark"] / last[name], "times")
    return {"figures": figures}
