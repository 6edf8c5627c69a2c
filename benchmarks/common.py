"""Shared parts of the measurements: folders laid out like the bucket, timed micro-batches, tables of figures."""

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate
from tallymark.intake.folders import natural_order
from tallymark.local.feed import feed_transactions
from tallymark.local.generate import generate
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store import StoredObject
from tallymark.store.folder import FolderStore

BENCH = PROJECT_ROOT / ".local" / "bench"
CHUNK_ROWS = 10_000
IMPORTANCE = "input/customers/customer_importance.csv.gz"


def find_data(given: Path | None) -> Path:
    """Return the given folder, or that of TALLYMARK_BANKSIM, or one with generated data in the shape of BankSim."""
    if folder := given or os.environ.get("TALLYMARK_BANKSIM"):
        return Path(folder).absolute()
    if not (BENCH / "generated" / Path(IMPORTANCE).name).exists():
        generate(fresh("generated"), rows=60 * CHUNK_ROWS)
    return BENCH / "generated"


def fresh(folder: str) -> Path:
    """Create an empty folder in .local/bench."""
    shutil.rmtree(BENCH / folder, ignore_errors=True)
    (BENCH / folder).mkdir(parents=True)
    return BENCH / folder


def lay_out(root: Path, data: Path) -> list[StoredObject]:
    """Put all chunks of the data and the customer importance into a folder, and return the listing of the chunks."""
    feed_transactions(data / "transactions.csv.gz", Settings(feed_interval_seconds=0), FolderStore(root))
    return sorted(FolderStore(root).list("input/transactions/"), key=lambda stored: natural_order(stored.key))


def settings_of(root: Path) -> Settings:
    """Return settings for a folder. All warehouses have the same file name, on which dbt's parsed project depends."""
    return Settings(warehouse=root / "warehouse.duckdb", vars={}, hold_remainder_seconds=0, max_chunks_per_run=1000)


def micro_batch(root: Path, objects: Sequence[StoredObject] | None = None, name: str = "seconds") -> dict[str, float]:
    """Process a folder without a scheduler, and return the total seconds as ``name`` and those of ``<name>_<step>``.

    Args:
        objects: the listing of the chunks to take. If not given, the load lists the folder.
    """
    settings, store = settings_of(root), FolderStore(root)
    steps = {
        f"{name}_load": timed(load_chunks, settings, store, objects=objects),
        f"{name}_build": timed(build_models, settings),
        f"{name}_export": timed(export_detections, settings, store),
    }
    return {name: sum(steps.values())} | steps


def warm_up(data: Path) -> None:
    """Import, parse and build once in this process."""
    root = fresh("warm-up")
    for chunk in lay_out(root, data)[:2]:
        micro_batch(root, [chunk])


def in_child(call: Callable, *arguments: Any) -> Any:
    """Call a module-level function in a new process, so that memory is measured from zero, and return its result."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def timed(call: Callable, *arguments: Any, **named: Any) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call(*arguments, **named)
    return time.perf_counter() - start


def medians(samples: Sequence[dict[str, float]], unit: str) -> dict[str, tuple[float, str]]:
    return {name: (median(sample[name] for sample in samples), unit) for name in samples[0]}


def shown(figures: dict[str, tuple[float, str]], name: str) -> str:
    """Return a figure with its unit, formatted for display."""
    value, unit = figures.get(name, ("not measured", ""))
    return f"{value:{',.0f' if abs(value) >= 1000 else '.3g'}} {unit}" if unit else value


def markdown(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    return tabulate(rows, list(columns), tablefmt="github", disable_numparse=True)


def target_table(*targets: tuple) -> Callable[[dict], str]:
    """Return a function that formats a result as a table.

    Results of quick variants are not compared with targets, which assume the full variants.

    Args:
        targets: a row each: the label, the name of the figure, and optionally its target, the largest allowed value.
    """

    def table(result: dict) -> str:
        rows = []
        for label, figure, *maximum in targets:
            value, unit = result["figures"].get(figure, (None, ""))
            is_compared = maximum and value is not None and not result["about"]["quick"]
            met = ("yes" if value <= maximum[0] else "**no**") if is_compared else ""
            target = f"≤ {maximum[0]:g} {unit}" if maximum else ""
            rows.append((label, shown(result["figures"], figure), target, met))
        return markdown(("measurement", "result", "target", "met"), rows)

    return table
