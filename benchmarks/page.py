"""Writes docs/performance.md and its plots from the latest result of each measurement in .local/bench."""

import json
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from tallymark.settings import PROJECT_ROOT

from benchmarks.common import BENCH, shown

MEASUREMENTS = ("latency", "chunk", "backlog", "growth", "pairs", "idle", "listing", "backtest", "rivals")
INTRODUCTION = """# Performance

`make bench` writes this page from the latest result of each measurement; manual changes are lost.
[How it measures](decisions/benchmarks.md) explains the methods. Times depend on the machine. For comparison, each
section ends with the seconds that its Python took to add ten million numbers."""


def write_page(results: Path = BENCH, docs: Path = PROJECT_ROOT / "docs") -> None:
    """Write ``performance.md`` and its plots in ``images``, both in the docs folder.

    Args:
        results: folder with ``<measurement>.json``; missing ones are shown as not measured.
        docs: the docs folder.
    """
    sections = [_section(name, results / f"{name}.json", docs) for name in MEASUREMENTS]
    (docs / "performance.md").write_text("\n\n".join([INTRODUCTION, *sections]) + "\n")


def _section(name: str, path: Path, docs: Path) -> str:
    module = import_module(f"benchmarks.{name}")
    heading = f"## {module.__doc__.splitlines()[0]}"
    if not path.is_file():
        return f"{heading}\n\nNot measured yet: `make bench ONLY={name}`."
    result = json.loads(path.read_text())
    about, figures = result["about"], result["figures"]
    values = defaultdict(lambda: "not measured", {name: shown(figures, name) for name in figures})
    parts = [heading, module.ANSWER.format_map(values), module.table(result)]
    if hasattr(module, "PLOT"):
        parts.append(_plot(name, module.PLOT, result["series"], docs / "images"))
    variant = f"{'**quick variant**, ' if about['quick'] else ''}{about['measured_at'][:10]}, {about['data']}"
    machine = f"{about['cores']} cores, Python {about['python']}, {about['core_seconds']:.2f} s"
    return "\n\n".join([*parts, f"`make bench ONLY={name}`: {variant}, {machine}"])


def _plot(name: str, size: str, series: dict[str, list[float]], folder: Path) -> str:
    """Plot seconds over a growing size, and return the image link in Markdown."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.semilogx(series[size], series["seconds"], "o-")
    axes.set(xlabel=size, ylabel="s for one chunk", ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.savefig(folder / f"performance-{name}.png", metadata={"Software": None})
    return f"![Seconds for one chunk over {size}](images/performance-{name}.png)"
