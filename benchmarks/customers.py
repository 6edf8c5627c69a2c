"""A merchant with 1 million customers, and one micro-batch of 10 chunks that all touch it."""

import resource
from pathlib import Path

import psutil

from benchmarks import plain
from benchmarks.common import STEPS, Measured, Options, fresh, in_child, micro_batch, settings_of, timed, warm_up
from benchmarks.history import make_past, put_rows

CHUNKS = 10
LIMIT_GB = 2.0


def measure(options: Options) -> Measured:
    customers = 200_000 if options.quick else 1_000_000
    root = fresh("customers")
    in_child(_make, root, customers)
    steps, peak = in_child(_batch, options, root)
    path = settings_of(root).warehouse
    recomputed = timed(lambda: plain.recompute_warehouse(path))
    found = Measured()
    found.figures["customers_recompute"] = (recomputed, "s")
    found.figures["customers_over_recompute"] = (sum(steps.values()) / recomputed, "times")
    found.figures["customers_batch"] = (sum(steps.values()), "s")
    for name in STEPS:
        found.figures[f"customers_{name}"] = (steps[name], "s")
    found.figures["customers_memory"] = (peak, "GB")
    found.figures["customers_of_merchant"] = (customers, "customers")
    found.notes.append(
        f"The limit of memory is {LIMIT_GB} GB of the {psutil.virtual_memory().total / 1e9:.0f} GB that are here; it "
        f"is the peak of the process, {'kept' if peak <= LIMIT_GB else 'NOT KEPT'}."
    )
    return found


def _make(root: Path, customers: int) -> None:
    past = make_past(root, rows=int(customers * 5.5), customers=customers, merchants=1)
    for number in range(past + 1, past + 1 + CHUNKS):
        put_rows(root, number, customers, merchants=1)


def _batch(options: Options, root: Path) -> tuple[dict[str, float], float]:
    """Seconds by step, and the peak of this process's memory in GB."""
    warm_up(options.data)
    steps = micro_batch(root, CHUNKS)
    return steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
