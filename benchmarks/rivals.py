"""Tallymark beside what else could be done, one chunk at a time over the same chunks in one run."""

from pathlib import Path
from statistics import median

from tallymark.warehouse.connection import connect

from benchmarks import plain, spark
from benchmarks.common import (
    Measured,
    Options,
    fresh,
    lay_out,
    load_importance,
    micro_batch,
    new_objects,
    settings_of,
    timed,
    warm_up,
)


def measure(options: Options) -> Measured:
    warm_up(options.data)
    root = fresh("rivals")
    files = lay_out(root, options.data, 10 if options.quick else 60)
    importance = root / "input/customers/customer_importance.csv.gz"
    recompute = plain.Recompute(root / "recompute", importance)
    load_importance(root)
    prototype, notes = spark.find(root / "spark", importance)
    found = Measured(notes=notes)
    seconds = {"tallymark": [], "spark": [], "recompute": []}
    for number, file in enumerate(files, start=1):
        seconds["tallymark"].append(sum(micro_batch(root, 1, new_objects(root, number)).values()))
        seconds["recompute"].append(timed(lambda file=file: recompute.take([file])))
        if prototype:
            seconds["spark"].append(timed(lambda file=file: prototype.take([file])))
    if prototype:
        prototype.close()
    _must_find_the_same(root, recompute)
    database = plain.open_with_weights(importance)
    one_pass = median(timed(lambda: plain.one_pass(database, files)) for _ in range(3))
    last = max(1, len(files) // 6)
    of_all = {name: sum(values) for name, values in seconds.items() if values} | {"one_pass": one_pass}
    of_last = {name: median(values[-last:]) for name, values in seconds.items() if values} | {"one_pass": one_pass}
    for name, total in of_all.items():
        found.figures[f"rivals_{name}_total"] = (total, "s")
        found.figures[f"rivals_{name}_last_chunks"] = (of_last[name], "s")
        if name != "tallymark":
            found.figures[f"rivals_total_over_{name}"] = (of_all["tallymark"] / total, "times")
            found.figures[f"rivals_chunk_over_{name}"] = (of_last["tallymark"] / of_last[name], "times")
    found.figures["rivals_chunks"] = (len(files), "chunks")
    found.series = {name: values for name, values in seconds.items() if values}
    return found


def _must_find_the_same(root: Path, recompute: plain.Recompute) -> None:
    """Raise a RuntimeError when plain DuckDB and Tallymark disagree, as then times say nothing."""
    with connect(settings_of(root), read_only=True) as warehouse:
        ours = warehouse.execute("select pattern_id, action_type, merchant, customer from detections").fetchall()
    if set(ours) != recompute.seen:
        raise RuntimeError(f"{len(ours)} detections of Tallymark are not the {len(recompute.seen)} of plain DuckDB")
