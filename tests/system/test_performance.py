"""Each step's cost beside another cost of the same run: guards against regressions, on any machine.

The limits are wide, as other tests run at the same time; docs/performance.md has the figures themselves.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from tallymark.local import generate
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.settings import PROJECT_ROOT
from tallymark.store.folder import FolderStore

sys.path.insert(0, str(PROJECT_ROOT))

from benchmarks import plain
from benchmarks.common import lay_out, micro_batch, new_objects, settings_of
from benchmarks.history import make_past, put_rows

pytestmark = pytest.mark.system

CUSTOMERS, MERCHANTS = 2_000, 5
TURNS = 5


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.fixture(scope="module")
def pasts(tmp_path_factory) -> dict[int, list[dict[str, float]]]:
    """Seconds by step of micro-batches in turn on warehouses with a past of two lengths, by length."""
    chunks, roots = {}, {rows: tmp_path_factory.mktemp("past") for rows in (200_000, 2_000_000)}
    for rows, root in roots.items():
        chunks[rows] = make_past(root, rows, CUSTOMERS, MERCHANTS)
    batches = {rows: [] for rows in roots}
    for turn in range(1, TURNS + 3):
        for rows, root in roots.items():
            put_rows(root, chunks[rows] + turn, CUSTOMERS, MERCHANTS)
            batches[rows].append(micro_batch(root, 1, new_objects(root, chunks[rows] + turn)))
    return {rows: taken[2:] for rows, taken in batches.items()}


@pytest.mark.parametrize("step", ["load", "build", "export"])
def test_a_step_does_not_grow_with_the_past(pasts, step):
    """Ten times the past. Of each the quickest of the turns counts, which other tests disturb least."""
    short, long = (min(batch[step] for batch in batches) for batches in pasts.values())
    assert long < 1.5 * short + 0.03, f"{short:.3f} s, and {long:.3f} s on ten times the past"


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> tuple[Path, list[Path]]:
    """Twelve chunks of generated data, and their files."""
    data, root = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("stream")
    generate.generate(data, rows=120_000)
    return root, lay_out(root, data, 12)


def test_a_backlog_is_a_few_plain_passes(stream, tmp_path):
    """Beside one pass of plain DuckDB over as many files; the constant is what dbt and the tests take."""
    root, files = stream
    importance = root / "input/customers/customer_importance.csv.gz"
    store, settings = FolderStore(root, target=tmp_path), settings_of(tmp_path)

    def process() -> None:
        load_chunks(settings, store)
        build_models(settings)
        export_detections(settings, store)

    load_chunks(settings, store, objects=[])
    build_models(settings)
    export_detections(settings, store)
    took = seconds(process)
    database = plain.open_with_weights(importance)
    limit = median(seconds(lambda: plain.one_pass(database, files)) for _ in range(3))
    assert took < 12 * limit + 3, f"{took:.2f} s for what one plain pass does in {limit:.2f} s"
