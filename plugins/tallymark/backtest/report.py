"""The result of a backtest: its summary and its detections, as objects in the bucket.

Each backtest has a folder below ``<output prefix>backtests/``. ``summary.json`` is written last, so a folder without it
belongs to a backtest that did not finish.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import duckdb

from tallymark.backtest.plan import amount
from tallymark.lake.in_warehouse import as_dicts
from tallymark.outbox.safe_csv import as_csv
from tallymark.patterns import explain_evidence, patterns, shown, thresholds
from tallymark.store import Store
from tallymark.warehouse.connection import fetch_row, run_sql

SIDES = ("stream", "backtest")
CHANGES = ("added", "lost", "earlier", "later", "unchanged")
COUNTS = (*SIDES, *CHANGES)
MERCHANTS_SHOWN = 10
WIDTH_IN_FILE = 120
SUMMARY = "summary.json"
FILES = ("detections.csv", "detections.json", SUMMARY)


def folder(output_prefix: str, name: str = "") -> str:
    """Return the prefix of a backtest's objects. Without ``name``, return the prefix of all backtests."""
    return f"{output_prefix}backtests/{name}/" if name else f"{output_prefix}backtests/"


def save(
    store: Store, output_prefix: str, name: str, warehouse: duckdb.DuckDBPyConnection, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the files of a backtest to the store. Returns its summary.

    Args:
        warehouse: contains the tables that ``run.py`` creates for the comparison.
        facts: more entries for the summary.
    """
    first, last = fetch_row(
        warehouse,
        """
        select min_by(chunk_key, chunk_seq), max_by(chunk_key, chunk_seq)
        from compared_chunk_thresholds left join raw.chunks using (chunk_seq)
        """,
    )
    ends = {"first_chunk": first, "last_chunk": last}
    summary = {"name": name, **facts, **ends, "thresholds": _thresholds(warehouse), **_counts(warehouse)}
    rows = list(_detections(warehouse))
    columns = list(rows[0]) if rows else []
    prefix = folder(output_prefix, name)
    bodies = as_csv([columns, *(list(row.values()) for row in rows)]), _json(rows), _json(summary)
    for file, body in zip(FILES, bodies, strict=True):
        store.put_new(f"{prefix}{file}", body)
    return summary


def show(summary: Mapping[str, Any], where: str) -> None:
    """Print a summary as tables.

    Args:
        where: the folder or bucket with the files of the backtest.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_IN_FILE

    def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
        made = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            made.add_column(column, justify="right" if column in COUNTS else "left")
        for row in rows:
            made.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
        console.print(made, "")

    changed = [row for row in summary["thresholds"] if row["stream"] != row["backtest"]]
    table(
        "Thresholds that differ" if changed else "All thresholds are the same as in the stream",
        ("threshold", *SIDES),
        ([row["name"], *(", ".join(row[side]) for side in SIDES)] for row in changed),
    )
    table("Detections", ("pattern", "action", *COUNTS), _cells(summary["patterns"], "pattern_id", "action_type"))
    merchants = [row for row in summary["merchants"] if row["unchanged"] < sum(row[name] for name in CHANGES)]
    shown_merchants = sorted(merchants, key=lambda row: row["unchanged"] - sum(row[name] for name in CHANGES))
    table(
        f"Merchants with changes: {len(merchants):,}"
        + (f" (the {MERCHANTS_SHOWN} with the most changes)" if len(merchants) > MERCHANTS_SHOWN else ""),
        ("pattern", "merchant", *COUNTS),
        _cells(shown_merchants[:MERCHANTS_SHOWN], "pattern_id", "merchant"),
    )
    console.print(
        f"{amount(summary['rows'], 'row')} in {amount(summary['chunks'], 'chunk')} took {summary['seconds']:,.1f} s. "
        f"All detections with their evidence: {where}"
    )


def _cells(rows: Iterable[Mapping[str, Any]], *names: str) -> Iterator[list[Any]]:
    return ([row[name] for name in (*names, *COUNTS)] for row in rows)


def _thresholds(warehouse: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Return each threshold with its values in the stream and in the backtest. A changed threshold has several."""
    decided = {
        side: as_dicts(warehouse.execute("select distinct * exclude (chunk_seq) from query_table(?)", [table]))
        for side, table in (("stream", "live_chunk_thresholds"), ("backtest", "compared_chunk_thresholds"))
    }
    return [
        {"name": name, "meaning": threshold.meaning, **{side: _values(rows, name) for side, rows in decided.items()}}
        for name, threshold in thresholds().items()
    ]


def _values(rows: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    return sorted({shown(row[name]) for row in rows if row.get(name) is not None})


def _counts(warehouse: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    by_pattern = {row["pattern_id"]: row for row in _counted(warehouse, by_merchant=False)}
    nothing = dict.fromkeys(COUNTS, 0)
    for pattern in patterns():
        by_pattern.setdefault(pattern.id, {"pattern_id": pattern.id, "action_type": pattern.action, **nothing})
    counts = [by_pattern[id] for id in sorted(by_pattern)]
    return {
        "totals": {name: sum(row[name] for row in counts) for name in nothing},
        "patterns": counts,
        "merchants": _counted(warehouse, by_merchant=True),
    }


def _counted(warehouse: duckdb.DuckDBPyConnection, by_merchant: bool) -> list[dict[str, Any]]:
    rows = as_dicts(run_sql(warehouse, "backtest/counts", by_merchant=by_merchant))
    return [row if by_merchant else {name: row[name] for name in row if name != "merchant"} for row in rows]


def _detections(warehouse: duckdb.DuckDBPyConnection) -> Iterator[dict[str, Any]]:
    """Yield one row per detection: its change, and its chunk and evidence in the stream and in the backtest."""
    for row in as_dicts(warehouse.execute("from changes")):
        sides = {side: row.pop(side) for side in SIDES}
        for side, detection in sides.items():
            row[f"{side}_chunk_seq"] = detection and detection["chunk_seq"]
            row[f"{side}_chunk"] = detection and detection["chunk_key"]
            row[f"{side}_evidence"] = detection and explain_evidence(detection)
        yield row


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1).encode()
