"""What the measurements share: chunks in a folder laid out like the bucket, a timed micro-batch, tables of figures."""

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
    """The given folder, or TALLYMARK_BANKSIM, or generated data of BankSim's shape."""
    if folder := given or os.environ.get("TALLYMARK_BANKSIM"):
        return Path(folder).absolute()
    if not (BENCH / "generated" / Path(IMPORTANCE).name).exists():
        generate(fresh("generated"), rows=60 * CHUNK_ROWS)
    return BENCH / "generated"


def fresh(folder: str) -> Path:
    """An empty folder below .local/bench."""
    shutil.rmtree(BENCH / folder, ignore_errors=True)
    (BENCH / folder).mkdir(parents=True)
    return BENCH / folder


def lay_out(root: Path, data: Path) -> list[StoredObject]:
    """Let all chunks of the data and the customer importance land in a folder; returns the listing of the chunks."""
    feed_transactions(data / "transactions.csv.gz", Settings(feed_interval_seconds=0), FolderStore(root))
    return sorted(FolderStore(root).list("input/transactions/"), key=lambda stored: natural_order(stored.key))


def settings_of(root: Path) -> Settings:
    """Settings of a folder. All warehouses have one file name, because dbt's parsed project depends on it."""
    return Settings(warehouse=root / "warehouse.duckdb", vars={}, hold_remainder_seconds=0, max_chunks_per_run=1000)


def micro_batch(root: Path, objects: Sequence[StoredObject] | None = None, name: str = "seconds") -> dict[str, float]:
    """Process a folder without a scheduler; returns seconds in total by ``name``, and by ``<name>_<step>``.

    Args:
        objects: the listing of the chunks to take; the load lists the folder unless given.
    """
    settings, store = settings_of(root), FolderStore(root)
    steps = {
        f"{name}_load": timed(load_chunks, settings, store, objects=objects),
        f"{name}_build": timed(build_models, settings),
        f"{name}_export": timed(export_detections, settings, store),
    }
    return {name: sum(steps.values())} | steps


def warm_up(data: Path) -> None:
    """Let this process import, parse and build once."""
    root = fresh("warm-up")
    for chunk in lay_out(root, data)[:2]:
        micro_batch(root, [chunk])


def in_child(call: Callable, *arguments: Any) -> Any:
    """Call a module's function in a new process, whose memory starts at nothing; returns what it returns."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def timed(call: Callable, *arguments: Any, **named: Any) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call(*arguments, **named)
    return time.perf_counter() - start


def medians(samples: Sequence[dict[str, float]], unit: str) -> dict[str, tuple[float, str]]:
    return {name: (median(sample[name] for sample in samples), unit) for name in samples[0]}


def shown(figures: dict[str, tuple[float, str]], name: str) -> str:
    """A figure with its unit, for people."""
    value, unit = figures.get(name, ("not measured", ""))
    return f"{value:{',.0f' if abs(value) >= 1000 else '.3g'}} {unit}" if unit else value


def markdown(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    return tabulate(rows, list(columns), tablefmt="github", disable_numparse=True)


def target_table(*targets: tuple) -> Callable[[dict], str]:
    """A function that shows a result as a table: what a figure says, its name, and optionally the most it may be.

    A quick variant is not judged, because targets assume the full one.
    """

    def table(result: dict) -> str:
        rows = []
        for what, figure, *limit in targets:
            value, unit = result["figures"].get(figure, (None, ""))
            is_judged = limit and value is not None and not result["about"]["quick"]
            met = ("yes" if value <= limit[0] else "**no**") if is_judged else ""
            target = f"≤ {limit[0]:g} {unit}" if limit else ""
            rows.append((what, shown(result["figures"], figure), target, met))
        return markdown(("what", "here", "target", "met"), rows)

    return table
