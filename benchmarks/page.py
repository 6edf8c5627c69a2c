"""docs/performance.md and its plots, from the latest result of each measurement in .local/bench."""

import json
import platform
from collections.abc import Iterable
from pathlib import Path

from tallymark.settings import PROJECT_ROOT

from benchmarks.common import BENCH

PAGE = PROJECT_ROOT / "docs" / "performance.md"
IMAGES = PROJECT_ROOT / "docs" / "images"
# What is promised, the limit as words, the figure, and the limit as a number where "met" can be judged from it alone.
TARGETS = (
    ("landed to detected, median, over the same DAG with empty steps", "<= 1.5 times", "latency_over_empty", 1.5),
    (
        "backlog of 60 chunks over one plain DuckDB pass, importance on both sides",
        "<= 5 times",
        "backlog_with_importance_ratio",
        5,
    ),
    ("one warm build over its SQL statements", "<= 3 times", "chunk_build_over_sql", 3),
    ("landed to detected, median", "<= 2 s", "latency_p50", 2),
    ("landed to detected, 95 of 100", "<= 4 s", "latency_p95", 4),
    ("keeping up: last chunk after its landing", "<= 5 s", "latency_last_chunk", 5),
    ("keeping up: lag gained in a second of the run", "does not grow", "latency_slope", 0.01),
    ("every-minute schedule, 95 of 100", "<= 65 s", "minute_p95", 65),
    ("every-minute schedule, the work itself, 95 of 100", "<= 4 s", "minute_work_p95", 4),
    ("backlog of 60 chunks over one plain DuckDB pass", "<= 10 times", "backlog_ratio", 10),
    ("one chunk, warm, without scheduler", "<= 1.5 s", "chunk", 1.5),
    ("growth: the longest past over 1 million rows", "<= 1.2 times", "growth_ratio", 1.2),
    ("one chunk at the most pairs over the same at 100,000", "<= 1.5 times", "pairs_chunk_ratio", 1.5),
    ("the same over one look-up of its keys", "<= 6 times", "pairs_chunk_over_look_up", 6),
    ("a backlog of 60 chunks at the most pairs over the same at 100,000", "<= 2 times", "pairs_backlog_ratio", 2),
    ("looking for work among 100,000 chunks", "<= 2 LIST calls", "listing_calls", 2),
    ("idle, all processes", "<= 10 percent of one core", "idle_cpu", 10),
    ("idle, memory", "<= 1.5 GB", "idle_memory", 1.5),
    ("a day of micro-batches: time, last over first", "flat", "day_ratio", 1.2),
    ("a day of micro-batches: memory, last over first", "flat", "day_memory_ratio", 1.2),
    (
        "a day of micro-batches: disk of its second half over its first",
        "in proportion",
        "day_disk_second_half_over_first",
        1.2,
    ),
)
# Their quick variants measure something smaller than the target names, so that nothing is judged from them.
SMALLER_WHEN_QUICK = ("growth", "pairs", "listing", "idle", "day")
RIVALS = {
    "spark": "the prototype's method on Spark",
    "recompute": "recompute everything, plain DuckDB",
    "one_pass": "one plain DuckDB pass, at the end only",
}
# Where a target can be held against the rivals: the stem of the ratios' names.
OVER_RIVALS = {
    "backlog_ratio": "backlog",
    "chunk": "rivals_chunk",
    "growth_ratio": "growth",
}


def write_page(names: Iterable[str]) -> None:
    """Write the page and its plots; a figure that was never measured is shown as missing."""
    results = {name: json.loads(path.read_text()) for name in names if (path := BENCH / f"{name}.json").is_file()}
    figures = {key: value for result in results.values() for key, value in result["figures"].items()}
    smaller = {
        figure
        for name in SMALLER_WHEN_QUICK
        if name in results and results[name]["about"]["quick"]
        for figure in results[name]["figures"]
    }
    plots = _plots({name: result["series"] for name, result in results.items()})
    parts = [
        "# Performance",
        "Written by `make bench` from its measurements; a change by hand is lost. How it measures is in "
        "[decisions/benchmarks.md](decisions/benchmarks.md).",
        "## Targets",
        _table(
            ("what", "target", "here", "met", *(f"over {title}" for title in RIVALS.values())),
            [_target(figures, smaller, *target) for target in TARGETS],
        ),
        "The last columns: Tallymark's time over theirs for the same work in the same run. Theirs is without a ledger, "
        "judged rows, chunk boundaries, tests, exactly-once files; the rows without one are about Airflow, S3 or a "
        "process that stays, which they do not have.",
        "## Beside what else could be done",
        *_rivals(figures),
        *plots,
        "## All figures",
        _table(
            ("figure", "value", "unit"), [(f"`{key}`", _number(value), unit) for key, (value, unit) in figures.items()]
        ),
        "## How and when",
        _table(
            ("measurement", "when (UTC)", "variant", "seconds", "data", "machine", "its core"),
            [_about(name, result["about"]) for name, result in results.items()],
        ),
        "Its core: how long Python took right after it to add up ten million numbers; figures of machines that differ "
        "in that differ likewise.",
        *(f"- `{name}`: {note}" for name, result in results.items() for note in result["notes"]),
        (Path(__file__).parent / "tried.md").read_text().strip(),
    ]
    PAGE.write_text("\n\n".join(parts) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table(columns: tuple[str, ...], rows: Iterable[tuple]) -> str:
    lines = [" | ".join(map(str, row)) for row in (columns, ["---"] * len(columns), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _target(
    figures: dict, smaller: set[str], what: str, limit: str, figure: str, number: float | None
) -> tuple[str, ...]:
    stem = OVER_RIVALS.get(figure)
    over = [f"{_number(figures[key][0])} times" if (key := f"{stem}_over_{name}") in figures else "" for name in RIVALS]
    if figure not in figures:
        return what, limit, "not measured", "", *over
    value, unit = figures[figure]
    if figure in smaller:
        met = "not judged: smaller, quick variant"
    else:
        met = "" if number is None else "yes" if value <= number else "**no**"
    return what, limit, f"{_number(value)} {unit}", met, *over


def _rivals(figures: dict) -> list[str]:
    if "rivals_chunks" not in figures:
        return ["Not measured."]

    def shown(name: str) -> str:
        return f"{_number(figures[name][0])} {figures[name][1]}" if name in figures else "not measured"

    rows = []
    for name, title in {"tallymark": "Tallymark", **RIVALS}.items():
        total, last = shown(f"rivals_{name}_total"), shown(f"rivals_{name}_last_chunks")
        over = (
            ("", "")
            if name == "tallymark"
            else (shown(f"rivals_total_over_{name}"), shown(f"rivals_chunk_over_{name}"))
        )
        rows.append((title, total, last, *over))
    columns = ("what", "all chunks", "one of the last", "Tallymark over it", "Tallymark over it, one of the last")
    return [
        f"The same {figures['rivals_chunks'][0]:.0f} chunks one at a time, in one run, without a scheduler. Only "
        "Tallymark keeps a ledger, judges each row, looks at every chunk boundary, tests itself, writes exactly once.",
        _table(columns, rows),
    ]


def _about(name: str, about: dict) -> tuple:
    variant = "quick" if about["quick"] else "full"
    machine = f"{about['cores']} cores, {platform.system()}, Python {about['python']}"
    took, core = f"{about['took_seconds']:.0f}", f"{about['core_seconds']:.2f} s"
    return name, about["measured_at"], variant, took, about["data"], machine, core


def _plots(series: dict[str, dict]) -> list[str]:
    """The plots of what was measured, as Markdown."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    made = []

    def plot(name: str, title: str, x: str, y: str, draw) -> None:
        figure, axes = pyplot.subplots(figsize=(8, 3.5), dpi=110)
        draw(axes)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(IMAGES / f"performance-{name}.png", metadata={"Software": None})
        pyplot.close(figure)
        made.append(f"![{title}](images/performance-{name}.png)")

    if latency := series.get("latency"):

        def lag(axes):
            axes.plot(latency["landed"], latency["lag"], "o-", markersize=3)
            axes.set_ylim(bottom=0)

        def steps(axes):
            axes.barh(list(latency["steps"])[::-1], list(latency["steps"].values())[::-1])

        plot("latency", "From landing to detection, each chunk", "landed at, s into the run", "s", lag)
        plot("steps", "Time by step, median of a run of the DAG", "s", "", steps)
    if growth := series.get("growth"):

        def history(axes):
            axes.semilogx(growth["rows"], growth["seconds"], "o-")
            axes.set_ylim(bottom=0)

        plot("growth", "A micro-batch of 10,000 rows over the length of the past", "past transactions", "s", history)
    if day := series.get("day"):

        def batches(axes):
            axes.plot(day["seconds"], ".", markersize=2)
            axes.set_ylim(0, sorted(day["seconds"])[int(len(day["seconds"]) * 0.99)] * 1.2)

        plot("day", "Micro-batches of a day, one after the other", "micro-batch", "s", batches)
    if rivals := series.get("rivals"):

        def side_by_side(axes):
            for name, seconds in rivals.items():
                axes.semilogy(range(1, len(seconds) + 1), seconds, label=name)
            axes.legend()

        plot("rivals", "One chunk after the other", "chunk", "s", side_by_side)
    return made
