"""One micro-batch of 10,000 rows on a warehouse with a hundred times the past, over the same with 1 million rows."""

from statistics import median

from benchmarks import plain
from benchmarks.common import STEPS, Measured, Options, fresh, micro_batch, new_objects, settings_of, timed, warm_up
from benchmarks.history import make_past, put_rows

CUSTOMERS, MERCHANTS = 5_000, 10


def measure(options: Options) -> Measured:
    sizes = [1_000_000, 10_000_000] if options.quick else [1_000_000, 10_000_000, 100_000_000]
    warm_up(options.data)
    found, roots, chunks = Measured(), {}, {}
    for size in sizes:
        roots[size] = fresh(f"growth-{size}")
        seconds = timed(lambda size=size: chunks.update({size: make_past(roots[size], size, CUSTOMERS, MERCHANTS)}))
        found.notes.append(f"A past of {size:,} rows was made in {seconds:.0f} s.")
    batches = {size: [] for size in sizes}
    for turn in range(1, 8 if options.quick else 12):
        for size in sizes:
            number = chunks[size] + turn
            put_rows(roots[size], 10**9 + turn, CUSTOMERS, MERCHANTS)
            landed = roots[size] / f"input/transactions/chunk_{10**9 + turn}"
            landed.rename(landed.with_name(f"chunk_{number}"))
            batches[size].append(micro_batch(roots[size], 1, new_objects(roots[size], number)))
    # The first two of each size read parts of the file for the first time, and detect what the past holds.
    totals = {size: [sum(batch.values()) for batch in batches[size][2:]] for size in sizes}
    for size in sizes:
        found.figures[f"growth_batch_{size}"] = (median(totals[size]), "s")
        for name in STEPS:
            found.figures[f"growth_{name}_{size}"] = (median(batch[name] for batch in batches[size][2:]), "s")
    path = settings_of(roots[sizes[-1]]).warehouse
    recomputed = timed(lambda: plain.recompute_warehouse(path))
    found.figures[f"growth_recompute_{sizes[-1]}"] = (recomputed, "s")
    found.figures["growth_over_recompute"] = (median(totals[sizes[-1]]) / recomputed, "times")
    pairs = zip(totals[sizes[-1]], totals[sizes[0]], strict=True)
    found.figures["growth_ratio"] = (median(large / small for large, small in pairs), "times")
    found.series = {"rows": sizes, "seconds": [median(totals[size]) for size in sizes]}
    return found
