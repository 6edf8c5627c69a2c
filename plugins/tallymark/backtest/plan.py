"""The plan of a backtest: its portions, and estimates of its duration and disk space."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from tallymark import machine
from tallymark.errors import UserError
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect, fetch_row, run_sql

# Measured: docs/performance.md. A fast machine processes twice as many rows.
ROWS_PER_SECOND = 100_000
SECONDS_PER_PORTION = 2
BYTES_PER_ROW = 60
BYTES_PER_PAIR = 200


class BacktestError(UserError, RuntimeError):
    """The backtest cannot run, or was stopped at a limit. The message says what to do. The stream is unaffected."""


@dataclass(frozen=True)
class Portion:
    """Consecutive chunks that are built in one batch.

    Attributes:
        first, last: the first and last chunk_seq.
        chunks, rows: the number of each.
        thresholds: the stream's thresholds for these chunks, by name; None if ``is_given``.
        is_given: whether the backtest uses the stream's detections instead of its own.
    """

    first: int
    last: int
    chunks: int
    rows: int
    thresholds: Mapping[str, Any] | None
    is_given: bool


@dataclass(frozen=True)
class Plan:
    """The work of a backtest, determined before it starts.

    Attributes:
        vars: the thresholds to try, by name.
        first, last: the chunk_seq where the comparison starts and ends.
        portions: all chunks up to ``last``, in order.
        pairs: number of (merchant, customer) pairs in the live state.
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
        """Estimated duration."""
        return self.rows / ROWS_PER_SECOND + SECONDS_PER_PORTION * len(self.portions)

    @property
    def bytes(self) -> int:
        """Estimated peak disk space, on the disk of the warehouse."""
        return max(portion.rows for portion in self.portions) * BYTES_PER_ROW + self.pairs * BYTES_PER_PAIR

    def __str__(self) -> str:
        return (
            f"{amount(self.rows, 'row')} in {amount(self.chunks, 'chunk')}: about {duration(self.seconds)}, and up to "
            f"{machine.human_size(self.bytes)} of disk space"
        )


def plan(settings: Settings, vars: Mapping[str, Any], first: str = "", last: str = "") -> Plan:
    """Plan a backtest of the released history.

    Args:
        vars: the thresholds to try, by name. Other thresholds keep the value that they had at each chunk.
        first: where these thresholds start: a chunk's key, the last part of its key, or its chunk_seq.
            Default: the first chunk.
        last: where the backtest ends, in the same format. Default: the last released chunk.

    Raises:
        SettingsError: when a threshold is unknown or out of bounds.
        BacktestError: when a chunk is unknown, or the estimates exceed a limit in the settings.
    """
    Settings(vars=dict(vars))
    if not settings.warehouse.exists():
        raise BacktestError(
            f"There is no warehouse {settings.warehouse}, so there is no history to backtest. Run the pipeline first, "
            "or correct TALLYMARK_WAREHOUSE."
        )
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
        raise BacktestError("No chunk has been released yet, so there is no history to backtest. Wait for an export.")
    if found.first > found.last:
        raise BacktestError(
            f"The first chunk ({first}) comes after the last chunk ({last or found.last}). Choose an earlier first "
            "chunk or a later last chunk."
        )
    _check_limits(settings, found)
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
            f"There is no released chunk {chunk}. Give the key of a chunk, such as "
            f"{settings.transactions_prefix}chunk_7, the last part of its key, or its number in the ledger."
        )
    return row[0]


def _check_limits(settings: Settings, plan: Plan) -> None:
    if plan.seconds > settings.backtest_seconds:
        raise BacktestError(
            f"The backtest would take too long: {plan}. TALLYMARK_BACKTEST_SECONDS allows "
            f"{duration(settings.backtest_seconds)}. Choose an earlier last chunk, or raise this setting."
        )
    if plan.bytes > settings.backtest_bytes:
        raise BacktestError(
            f"The backtest would need too much disk space: {plan}. TALLYMARK_BACKTEST_BYTES allows "
            f"{machine.human_size(settings.backtest_bytes)}. Choose an earlier last chunk, or raise this setting."
        )


def amount(number: int, noun: str) -> str:
    """Format a number with its noun, such as ``1 row`` or ``2,000 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Format a duration, such as ``20 s``, ``5 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
