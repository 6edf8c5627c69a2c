"""Compares the cost of each step with another cost in the same run, to find regressions on any machine.

The bounds are wide, because other tests run at the same time. docs/performance.md has the measured figures.
"""

import sys
from statistics import median

import pytest
from tallymark.local import generate
from tallymark.settings import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT))

from benchmarks import common, history, plain

pytestmark = pytest.mark.system

CUSTOMERS, MERCHANTS = 2_000, 5
TURNS = 5


@pytest.fixture(scope="module")
def pasts(tmp_path_factory) -> dict[int, list[dict[str, float]]]:
    """Figures of micro-batches on two warehouses with histories of different length, by number of rows."""
    roots = {rows: tmp_path_factory.mktemp("past") for rows in (200_000, 2_000_000)}
    chunks = {rows: history.make_past(root, rows, CUSTOMERS, MERCHANTS) for rows, root in roots.items()}
    batches = {rows: [] for rows in roots}
    for turn in range(1, TURNS + 3):
        for rows, root in roots.items():
            chunk = history.land_random(root, chunks[rows] + turn, CUSTOMERS, MERCHANTS)
            batches[rows].append(common.micro_batch(root, [chunk]))
    return {rows: taken[2:] for rows, taken in batches.items()}


@pytest.mark.parametrize("step", ["load", "build", "export"])
def test_step_does_not_slow_down_with_history(pasts, step):
    """One history is ten times as long. The fastest turns count, because other tests disturb them least."""
    short, long = (min(batch[f"seconds_{step}"] for batch in batches) for batches in pasts.values())
    assert long < 1.5 * short + 0.03, f"{short:.3f} s, and {long:.3f} s with ten times the history"


def test_backlog_costs_a_few_plain_passes(tmp_path):
    """Compared with one pass of plain DuckDB over the same files, plus a constant for dbt and the sanity tests."""
    data, root = tmp_path / "data", tmp_path / "stream"
    generate.generate(data, rows=120_000)
    files = [root / chunk.key for chunk in common.lay_out(root, data)]
    common.micro_batch(root, [])
    took = common.micro_batch(root)["seconds"]
    passes = []
    for _ in range(3):
        with plain.connect() as database:
            plain.read_weights(database, root / common.IMPORTANCE)
            passes.append(common.timed(plain.one_pass, database, files))
    one_pass = median(passes)
    assert took < 12 * one_pass + 3, f"took {took:.2f} s; one plain pass took {one_pass:.2f} s"
