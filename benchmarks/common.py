"""What the measurements share: chunks, a folder laid out like the bucket, and a timed micro-batch."""

import importlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from tallymark.local import generate
from tallymark.local.feed import open_source
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store.folder import FolderStore

BENCH = PROJECT_ROOT / ".local" / "bench"
CHUNK_ROWS = 10_000
HEADER = generate.TRANSACTIONS_HEADER
STEPS = ("load", "build", "export")


@dataclass(frozen=True)
class Options:
    """What a measurement is told.

    Attributes:
        quick: a smaller variant, of seconds to a minute.
        data: folder with transactions.csv.gz and customer_importance.csv.gz.
    """

    quick: bool
    data: Path


@dataclass
class Measured:
    """What a measurement found.

    Attributes:
        figures: value and unit by name.
        series: lists of numbers to be plotted.
        notes: what has to be known to read the figures.
    """

    figures: dict[str, tuple[float, str]] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_data(given: Path | None) -> Path:
    """BankSim where it is there, or made-up data of its shape."""
    for folder in (given, Path(os.environ.get("TALLYMARK_BANKSIM", PROJECT_ROOT.parent / "shared" / "data"))):
        if folder and (folder / "transactions.csv.gz").is_file():
            return folder.absolute()
    if given:
        raise FileNotFoundError(f"There is no transactions.csv.gz in {given}")
    made = BENCH / "generated"
    if not (made / "customer_importance.csv.gz").is_file():
        generate.generate(made, rows=600_000)
    return made


def chunk_bodies(data: Path, count: int, rows: int = CHUNK_ROWS) -> Iterator[bytes]:
    """Up to so many chunks of the data's transactions, each with its header line."""
    with open_source(data / "transactions.csv.gz") as file:
        header = file.readline()
        for _ in range(count):
            if not (lines := list(islice(file, rows))):
                return
            yield header + b"".join(lines)


def fresh(folder: str) -> Path:
    """An empty folder below .local/bench."""
    path = BENCH / folder
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def lay_out(root: Path, data: Path, count: int) -> list[Path]:
    """A folder like the bucket with so many chunks and the customer importance; returns the chunks' files."""
    customers = root / "input/customers/customer_importance.csv.gz"
    customers.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(data / customers.name, customers)
    return [put_chunk(root, number, body) for number, body in enumerate(chunk_bodies(data, count), start=1)]


def put_chunk(root: Path, number: int, body: bytes) -> Path:
    """Let a chunk land in a folder like the bucket."""
    path = root / f"input/transactions/chunk_{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def settings_of(root: Path) -> Settings:
    """All warehouses have one name, as dbt's parsed project depends on it."""
    return Settings(warehouse=root / "warehouse.duckdb", vars={}, hold_remainder_seconds=0)


def micro_batch(root: Path, max_chunks: int, objects: Sequence | None = None) -> dict[str, float]:
    """Process what has landed in a folder, without a scheduler; returns seconds by step."""
    settings, store = settings_of(root), FolderStore(root)
    calls: dict[str, Callable[[], Any]] = {
        "load": lambda: load_chunks(settings, store, max_chunks=max_chunks, objects=objects),
        "build": lambda: build_models(settings),
        "export": lambda: export_detections(settings, store),
    }
    return {name: timed(calls[name]) for name in STEPS}


def load_importance(root: Path) -> None:
    """Process the customer importance of a folder before any chunk of it."""
    micro_batch(root, 1, objects=[])


def new_objects(root: Path, number: int) -> list:
    """The listing of one chunk, for measurements in which looking for work is not meant."""
    key = f"input/transactions/chunk_{number}"
    return [stored for stored in FolderStore(root).list(key) if stored.key == key]


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def warm_up(data: Path) -> None:
    """Let this process import, parse and build once."""
    root = fresh("warm-up")
    lay_out(root, data, 2)
    micro_batch(root, 1)
    micro_batch(root, 1)


def in_child(call: Callable, *arguments: Any) -> Any:
    """Run a function of a module in a new process, whose memory begins at nothing; returns what it returns."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def run(name: str, options: Options) -> Measured:
    """One measurement, by the name of its module."""
    return importlib.import_module(f"benchmarks.{name}").measure(options)


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between neighbours, as DuckDB's quantile_cont."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def medians(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """Median seconds by step over several micro-batches."""
    return {name: median(batch[name] for batch in steps) for name in STEPS}
