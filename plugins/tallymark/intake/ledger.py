"""The ledger: which chunks were taken, and what else was found in the bucket.

It is ``raw.chunks`` and ``raw.conflicts`` in the warehouse. tallymark.warehouse.ledger_copy tells of it without opening
the warehouse.

What was rejected is known until something was accepted under its key, and, where the reason was a limit that is a
setting, as long as the setting is the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

import duckdb

from tallymark.intake.chunks import Chunk, natural_order
from tallymark.settings import Settings
from tallymark.warehouse import ledger_copy
from tallymark.warehouse.connection import as_utc, run_sql, utc_now


@dataclass(frozen=True)
class Entry:
    """A chunk that is being taken.

    Attributes:
        importance_version: of the customer importance that it is looked at with; None: there is none.
        y_started_at: when work on it began, UTC.
        rows_in_file: counted in its text, before any row is judged; None: it could not be read.
        reason: why it is rejected whole; None: it is not.
    """

    chunk: Chunk
    importance_version: int | None
    y_started_at: datetime
    rows_in_file: int | None = None
    reason: str | None = None


def ledger_views(warehouse: duckdb.DuckDBPyConnection) -> None:
    """Give a connection the view ``found_before`` and the macro ``rejected_by_limit``."""
    run_sql(warehouse, "intake/rejected_by_limit")
    run_sql(warehouse, "intake/ledger_views")


def seen_as(
    settings: Settings, warehouse: duckdb.DuckDBPyConnection, chunks: Sequence[Chunk]
) -> list[Literal["known", "conflict", "new"]]:
    """What the ledger says of each chunk: ``conflict`` when its key was accepted with another ETag."""
    asked = {
        "keys": json.dumps([chunk.key for chunk in chunks]),
        "etags": json.dumps([chunk.etag for chunk in chunks]),
    }
    ledger_views(warehouse)
    found = run_sql(warehouse, "intake/seen_as", **asked, limits=settings.limits)
    return [how for (how,) in found.fetchall()]


def remarks(warehouse: duckdb.DuckDBPyConnection, since: int) -> list[str]:
    """What is odd about chunks that were taken all the same, in words: one is late, or was taken under another key.

    Two folders are never called the same: the ETag of a folder depends on the keys in it.

    Args:
        since: the ``chunk_seq`` of the first of them.
    """
    found = []
    keys = warehouse.execute(
        "select chunk_key from raw.chunks where chunk_seq >= ? order by chunk_seq", [since - 1]
    ).fetchall()
    for (before,), (key,) in pairwise(keys):
        if natural_order(key) < natural_order(before):
            found.append(f"LATE: {key} turned up after {before} was taken. It is taken now, as the next chunk.")
    twins = warehouse.execute(
        """
        select chunks.chunk_key, list(earlier.chunk_key order by earlier.chunk_seq)
        from raw.chunks as chunks
        inner join raw.chunks as earlier
            on chunks.etag = earlier.etag
            and chunks.chunk_key <> earlier.chunk_key
            and chunks.chunk_seq > earlier.chunk_seq
        where chunks.chunk_seq >= ? and earlier.rows_accepted > 0
        group by chunks.chunk_seq, chunks.chunk_key
        order by chunks.chunk_seq
        """,
        [since],
    ).fetchall()
    for key, others in twins:
        found.append(
            f"TWICE: {key} has the same content as {', '.join(others)}. Its rows count again, as a chunk is known by "
            "its key. If it was put twice by mistake, tell its sender."
        )
    return found


def next_chunk_seq(warehouse: duckdb.DuckDBPyConnection) -> int:
    """Numbers begin at 1 and have no gaps."""
    return warehouse.execute("select coalesce(max(chunk_seq), 0) + 1 from raw.chunks").fetchone()[0]


def record(
    warehouse: duckdb.DuckDBPyConnection, first_chunk_seq: int, entries: Sequence[Entry]
) -> list[tuple[int, int]]:
    """Write the ledger rows of chunks whose rows are in; returns rows accepted and rejected of each."""
    counted = warehouse.execute(
        """
        select chunk_seq, count_if(is_accepted), count_if(not is_accepted)
        from (
            select chunk_seq, true as is_accepted from raw.transactions where chunk_seq >= $first
            union all
            select chunk_seq, false from raw.rejected_rows where chunk_seq >= $first
        )
        group by chunk_seq
        """,
        {"first": first_chunk_seq},
    )
    by_chunk_seq = {chunk_seq: counts for chunk_seq, *counts in counted.fetchall()}
    counts = [by_chunk_seq.get(first_chunk_seq + place, (0, 0)) for place in range(len(entries))]
    rows = [
        {
            "chunk_seq": first_chunk_seq + place,
            "chunk_key": entry.chunk.key,
            "etag": entry.chunk.etag,
            "state": "rejected" if entry.reason else "accepted",
            "reason": entry.reason,
            "rows_in_file": entry.rows_in_file,
            "rows_accepted": accepted,
            "rows_rejected": rejected,
            "importance_version": entry.importance_version,
            "landed_at": as_utc(entry.chunk.landed_at),
            "y_started_at": entry.y_started_at,
            "loaded_at": utc_now(),
        }
        for place, (entry, (accepted, rejected)) in enumerate(zip(entries, counts, strict=True))
    ]
    warehouse.execute("insert into raw.chunks by name select unnest($rows, recursive := true)", {"rows": rows})
    return counts


def record_unreadable(warehouse: duckdb.DuckDBPyConnection, reasons: Mapping[Chunk, str]) -> None:
    """Record which chunks could not be read, and why; those that were taken meanwhile are no longer unreadable."""
    warehouse.execute("delete from raw.unreadable_inputs where input_key in (select chunk_key from raw.chunks)")
    for chunk, reason in reasons.items():
        warehouse.execute("delete from raw.unreadable_inputs where input_key = ?", [chunk.key])
        warehouse.execute(
            "insert into raw.unreadable_inputs (input_key, etag, reason, last_failed_at) values (?, ?, ?, ?)",
            [chunk.key, chunk.etag, reason, utc_now()],
        )


def record_conflict(warehouse: duckdb.DuckDBPyConnection, chunk: Chunk) -> None:
    """Write down that a key that was taken has another ETag now."""
    warehouse.execute(
        "insert into raw.conflicts (chunk_key, etag, landed_at, seen_at) values (?, ?, ?, ?)",
        [chunk.key, chunk.etag, as_utc(chunk.landed_at), utc_now()],
    )


def update_copy(settings: Settings, warehouse: duckdb.DuckDBPyConnection, chunks: Sequence[Chunk]) -> None:
    """Tell the copy of the ledger what is known of chunks; without any, or when it is lost, make the copy anew."""
    ledger_views(warehouse)
    keys = [chunk.key for chunk in chunks]
    if keys:
        known = run_sql(warehouse, "intake/known_chunks", keys=json.dumps(keys)).fetchall()
        if ledger_copy.replace(settings, keys, known):
            return
    known = run_sql(warehouse, "intake/known_chunks", keys=None).fetchall()
    (taken_at,) = warehouse.execute("select max(loaded_at) from raw.chunks").fetchone()
    ledger_copy.make(settings, known, (taken_at or utc_now()).replace(tzinfo=UTC).timestamp())
