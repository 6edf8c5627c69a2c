"""A backlog of 60 chunks at once, in one micro-batch, beside one plain DuckDB pass over the same files.

Once with the customer importance taken beforehand on both sides, as one target names the chunks' files only; and once
with the importance as new as the chunks, in the same micro-batch and in the same pass.
"""

from statistics import median

from benchmarks import plain, spark
from benchmarks.common import Measured, Options, fresh, lay_out, load_importance, micro_batch, timed, warm_up


def measure(options: Options) -> Measured:
    warm_up(options.data)
    ours, limits, with_importance, rivals = [], [], [], {"spark": [], "recompute": []}
    found = Measured()
    for turn in range(3 if options.quick else 5):
        root = fresh("backlog")
        files = lay_out(root, options.data, 60)
        load_importance(root)
        ours.append(micro_batch(root, len(files)))
        opened = []
        importance = root / "input/customers/customer_importance.csv.gz"
        weights_took = timed(
            lambda opened=opened, importance=importance: opened.append(plain.open_with_weights(importance))
        )
        limits.append(timed(lambda opened=opened, files=files: plain.one_pass(opened[0], files)))
        opened[0].close()
        with_importance.append(_all_at_once(options) / (limits[-1] + weights_took))
        recompute = plain.Recompute(root / "recompute", importance)
        rivals["recompute"].append(timed(lambda recompute=recompute, files=files: recompute.take(files)))
        recompute.database.close()
        prototype, notes = spark.find(root / "spark", importance)
        if prototype:
            rivals["spark"].append(timed(lambda prototype=prototype, files=files: prototype.take(files)))
            prototype.close()
        elif not turn:
            found.notes += notes
    totals = [sum(steps.values()) for steps in ours]
    found.figures["backlog"] = (median(totals), "s")
    for name in ours[0]:
        found.figures[f"backlog_{name}"] = (median(steps[name] for steps in ours), "s")
    found.figures["backlog_plain_pass"] = (median(limits), "s")
    pairs = zip(totals, limits, strict=True)
    found.figures["backlog_ratio"] = (median(total / limit for total, limit in pairs), "times")
    found.figures["backlog_with_importance_ratio"] = (median(with_importance), "times")
    for name, seconds in rivals.items():
        if seconds:
            found.figures[f"backlog_{name}"] = (median(seconds), "s")
            ratios = [total / taken for total, taken in zip(totals, seconds, strict=True)]
            found.figures[f"backlog_over_{name}"] = (median(ratios), "times")
    found.figures["backlog_over_one_pass"] = found.figures["backlog_ratio"]
    return found


def _all_at_once(options: Options) -> float:
    """Seconds of a micro-batch that takes the importance and all chunks."""
    root = fresh("backlog_and_importance")
    files = lay_out(root, options.data, 60)
    return sum(micro_batch(root, len(files)).values())
