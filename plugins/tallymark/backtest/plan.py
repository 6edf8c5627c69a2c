"""What a backtest has to do, before it begins: in which portions, how long it takes, and how much disk it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from tallymark import machine
from tallymark.errors import UserError
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect, fetch_row, run_sql

# Measured: docs/performance.md. A quick machine does twice as many.
ROWS_PER_SECOND = 100_000
SECONDS_PER_PORTION = 2
BYTES_PER_ROW = 60
BYTES_PER_PAIR = 200


class BacktestError(UserError, RuntimeError):
    """The backtest cannot be run, or took too long; the message says why. Nothing else is changed by it."""


@dataclass(frozen=True)
class Portion:
    """Consecutive chunks that are built at once.

    Attributes:
        first, last: their first and last chunk_seq.
        thresholds: what decided on them in the stream, by name; none if ``is_given``.
        is_given: whether the stream's detections are taken as they are.
    """

    first: int
    last: int
    chunks: int
    rows: int
    thresholds: Mapping[str, Any] | None
    is_given: bool


@dataclass(frozen=True)
class Plan:
    """What a backtest will do, which is known before it begins.

    Attributes:
        vars: the thresholds that it sets, by name.
        first, last: the chunks that are compared, as chunk_seq.
        pairs: of merchant and customer, in the state of the live warehouse.
    """

    vars: Mapping[str, Any]
    first: int
    last: int
    portions: list[Portion]
    pairs: int

    @property
    def chunks(self) -> int:
        return sum(portion.chunks for portion in self.portions)

    @property
    def rows(self) -> int:
        return sum(portion.rows for portion in self.portions)

    @property
    def seconds(self) -> float:
        """An estimate of how long it takes."""
        return self.rows / ROWS_PER_SECOND + SECONDS_PER_PORTION * len(self.portions)

    @property
    def bytes(self) -> int:
        """An estimate of the most that it needs on the disk of the warehouse."""
        return max(portion.rows for portion in self.portions) * BYTES_PER_ROW + self.pairs * BYTES_PER_PAIR

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows of {self.chunks:,} chunks: about {duration(self.seconds)}, and "
            f"{machine.human_size(self.bytes)} of disk while it runs"
        )


def plan(settings: Settings, vars: Mapping[str, Any], first: str = "", last: str = "") -> Plan:
    """Look how much there is to do.

    Args:
        vars: the thresholds to try, by name. Those that are not named stay what they were for each chunk.
        first: the first chunk that is decided on with them: its key, the last part of its key, or its chunk_seq.
            Empty: the first one of all.
        last: the last chunk that is looked at, in the same way. Empty: the last one that was released.

    Raises:
        SettingsError: when a threshold is unknown or out of its bounds.
        BacktestError: when there is no such chunk, or it would take longer, or more disk, than the settings allow.
    """
    Settings(vars=dict(vars))
    if not settings.warehouse.exists():
        raise BacktestError(f"There is no warehouse {settings.warehouse}, and so no history to try thresholds on")
    with connect(settings, read_only=True) as warehouse:
        (released,) = fetch_row(warehouse, "select coalesce(max(chunk_seq), 0) from output.releases")
        numbers = {
            "first": _number_of(settings, warehouse, first, released) if first else 0,
            "last": _number_of(settings, warehouse, last, released) if last else released,
        }
        portions = run_sql(warehouse, "backtest/portions", **numbers, rows=settings.backtest_rows).fetchall()
        pairs = fetch_row(warehouse, "select sum(customers)::bigint from merchants")[0] if portions else 0
    found = Plan(vars, portions=[Portion(*row) for row in portions], pairs=pairs, **numbers)
    if not found.portions:
        raise BacktestError("No chunk has been released yet, so there is no history to try thresholds on")
    if found.first > found.last:
        raise BacktestError(f"The first chunk, {first}, comes after the last one, {last or 'that was released'}")
    _must_be_allowed(settings, found)
    return found


def _number_of(settings: Settings, warehouse: duckdb.DuckDBPyConnection, chunk: str, released: int) -> int:
    row = warehouse.execute(
        """
        select chunk_seq
        from raw.chunks
        where
            state = 'accepted' and chunk_seq <= $released
            and $chunk in (chunk_key, replace(chunk_key, $prefix, ''), chunk_seq::varchar)
        """,
        {"chunk": chunk, "prefix": settings.transactions_prefix, "released": released},
    ).fetchone()
    if row is None:
        raise BacktestError(
            f"No chunk {chunk} was released. Give its key, such as {settings.transactions_prefix}chunk_7, or its "
            "number in the ledger"
        )
    return row[0]


def _must_be_allowed(settings: Settings, plan: Plan) -> None:
    if plan.seconds > settings.backtest_seconds:
        raise BacktestError(
            f"It would take too long: {plan}. TALLYMARK_BACKTEST_SECONDS allows "
            f"{duration(settings.backtest_seconds)}. Try an earlier last chunk, or raise it"
        )
    if plan.bytes > settings.backtest_bytes:
        raise BacktestError(
            f"It would take too much disk: {plan}. TALLYMARK_BACKTEST_BYTES allows "
            f"{machine.human_size(settings.backtest_bytes)}. Try an earlier last chunk, or raise it"
        )


def duration(seconds: float) -> str:
    """Such as ``20 s``, ``5 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
