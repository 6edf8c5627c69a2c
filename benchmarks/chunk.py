"""One chunk, warm, without the scheduler: load, build, export in a process that has built before."""

from statistics import median

from benchmarks.common import STEPS, Measured, Options, fresh, lay_out, medians, micro_batch, new_objects, warm_up


def measure(options: Options) -> Measured:
    warm_up(options.data)
    root = fresh("chunk")
    count = len(lay_out(root, options.data, 15 if options.quick else 60))
    batches = [micro_batch(root, 1, new_objects(root, number)) for number in range(1, count + 1)]
    warm = batches[3:]
    found = Measured(series={"seconds": [sum(batch.values()) for batch in batches], "steps": medians(warm)})
    found.figures["chunk"] = (median(sum(batch.values()) for batch in warm), "s")
    for name in STEPS:
        found.figures[f"chunk_{name}"] = (found.series["steps"][name], "s")
    return found
