"""docs/performance.md is generated from the available benchmark results."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
from tallymark.settings import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT))

from benchmarks import page

ABOUT = {
    "quick": False,
    "measured_at": "2026-01-02T03:04:05+00:00",
    "cores": 2,
    "core_seconds": 0.5,
    "python": "3.11.7",
    "data": "BankSim",
}
IDLE = {"idle_cpu": [12.5, "percent of one core"], "idle_memory": [1250, "MB"]}


@pytest.fixture
def docs(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path


def written(docs: Path, about: dict, figures: dict = IDLE) -> str:
    (docs / "idle.json").write_text(json.dumps({"figures": figures, "about": ABOUT | about}))
    page.write_page(docs, docs)
    return " ".join((docs / "performance.md").read_text().split())


def test_figure_is_compared_with_its_target(docs):
    says = written(docs, {})
    assert "12.5 percent of one core and 1,250 MB of memory." in says
    assert "| CPU | 12.5 percent of one core | ≤ 10 percent of one core | **no** |" in says
    assert "| memory | 1,250 MB | ≤ 1500 MB | yes |" in says


def test_quick_variant_has_no_verdict(docs):
    says = written(docs, {"quick": True})
    assert "| CPU | 12.5 percent of one core | ≤ 10 percent of one core | |" in says
    assert "**quick variant**" in says


def test_missing_results_are_shown(docs):
    says = written(docs, {}, {"idle_memory": IDLE["idle_memory"]})
    assert "not measured and 1,250 MB of memory." in says
    missing = [name for name in page.MEASUREMENTS if f"Not measured yet: `make bench ONLY={name}`." in says]
    assert missing == [name for name in page.MEASUREMENTS if name != "idle"]


@pytest.mark.parametrize("name", page.MEASUREMENTS)
def test_every_measurement_has_the_same_interface(name):
    module = import_module(f"benchmarks.{name}")
    assert module.__doc__.splitlines()[0].endswith("?")
    assert callable(module.measure) and callable(module.table) and module.ANSWER


def test_performance_page_is_complete():
    says = (PROJECT_ROOT / "docs" / "performance.md").read_text()
    questions = [import_module(f"benchmarks.{name}").__doc__.splitlines()[0] for name in page.MEASUREMENTS]
    assert [line.removeprefix("## ") for line in says.splitlines() if line.startswith("## ")] == questions
