"""The ledger: which chunks were taken, and what else was found in the bucket.

The ledger itself is ``raw.chunks`` and ``raw.conflicts`` in the warehouse. Beside the warehouse lies a copy
of its keys and ETags, one JSON array a line, for whoever only wants to know whether there is work. The copy
may lag behind after a crash; then it names work that is done already, which costs one empty run, and never
hides work that is not.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import duckdb

from tallymark.chunks import Chunk, natural_order
from tallymark.settings import Settings
from tallymark.warehouse import as_utc, transaction, utc_now


@dataclass(frozen=True)
class Entry:
    """A chunk that is being taken.

    Attributes:
        importance_version: of the customer importance that it is looked at with; None: there is none.
        y_started_at: when work on it began, UTC.
        rows_in_file: counted in its text, before any row is judged; None: it could not be read.
    """

    chunk: Chunk
    importance_version: int | None
    y_started_at: datetime
    rows_in_file: int | None = None


def unknown_chunks(settings: Settings, chunks: Iterable[Chunk]) -> list[Chunk]:
    """Those that the published copy of the ledger lacks, in the order given."""
    try:
        known = set(published(settings).read_text().splitlines())
    except FileNotFoundError:
        known = set()
    return [chunk for chunk in chunks if _line(chunk.key, chunk.etag) not in known]


def seen_as(warehouse: duckdb.DuckDBPyConnection, chunk: Chunk) -> Literal["known", "conflict", "new"]:
    """What the ledger says of a chunk: ``conflict`` when its key was accepted with another ETag."""
    known, accepted = warehouse.execute(
        """
        select
            coalesce(bool_or(etag = $etag), false),
            coalesce(bool_or(state = 'accepted'), false)
        from (
            select etag, state from raw.chunks where chunk_key = $key
            union all
            select etag, 'conflict' from raw.conflicts where chunk_key = $key
        )
        """,
        {"key": chunk.key, "etag": chunk.etag},
    ).fetchone()
    return "known" if known else "conflict" if accepted else "new"


def remarks(warehouse: duckdb.DuckDBPyConnection, chunk: Chunk) -> list[str]:
    """What is odd about a new chunk that is taken all the same, in words: it is late, or was taken under another key.

    Two folders are never called the same: the ETag of a folder depends on the keys in it.
    """
    found = []
    before = warehouse.execute("select chunk_key from raw.chunks order by chunk_seq desc limit 1").fetchone()
    if before and natural_order(chunk.key) < natural_order(before[0]):
        found.append(f"LATE: {chunk.key} turned up after {before[0]} was taken. It is taken now, as the next chunk.")
    twins = warehouse.execute(
        "select chunk_key from raw.chunks where etag = ? and chunk_key <> ? and rows_accepted > 0 order by chunk_seq",
        [chunk.etag, chunk.key],
    ).fetchall()
    if twins:
        found.append(
            f"TWICE: {chunk.key} has the same content as {', '.join(key for (key,) in twins)}. Its rows count again, "
            "as a chunk is known by its key. If it was put twice by mistake, tell its sender."
        )
    return found


def next_chunk_seq(warehouse: duckdb.DuckDBPyConnection) -> int:
    """Numbers begin at 1 and have no gaps."""
    return warehouse.execute("select coalesce(max(chunk_seq), 0) + 1 from raw.chunks").fetchone()[0]


def record_accepted(warehouse: duckdb.DuckDBPyConnection, entry: Entry, chunk_seq: int) -> tuple[int, int]:
    """Write the ledger row of a chunk whose rows are in; returns rows accepted and rejected."""
    accepted, rejected = warehouse.execute(
        """
        select
            (select count(*) from raw.transactions where chunk_seq = $chunk_seq),
            (select count(*) from raw.rejected_rows where chunk_seq = $chunk_seq)
        """,
        {"chunk_seq": chunk_seq},
    ).fetchone()
    _record(warehouse, entry, chunk_seq, "accepted", accepted, rejected, None)
    return accepted, rejected


def record_rejected(warehouse: duckdb.DuckDBPyConnection, entry: Entry, reason: str) -> None:
    """Write the ledger row of a chunk that was rejected whole."""
    with transaction(warehouse):
        _record(warehouse, entry, next_chunk_seq(warehouse), "rejected", 0, 0, reason)


def _record(
    warehouse: duckdb.DuckDBPyConnection,
    entry: Entry,
    chunk_seq: int,
    state: str,
    accepted: int,
    rejected: int,
    reason: str | None,
) -> None:
    warehouse.execute(
        "insert into raw.chunks by name select unnest($row)",
        {
            "row": {
                "chunk_seq": chunk_seq,
                "chunk_key": entry.chunk.key,
                "etag": entry.chunk.etag,
                "state": state,
                "reason": reason,
                "rows_in_file": entry.rows_in_file,
                "rows_accepted": accepted,
                "rows_rejected": rejected,
                "importance_version": entry.importance_version,
                "landed_at": as_utc(entry.chunk.landed_at),
                "y_started_at": entry.y_started_at,
                "loaded_at": utc_now(),
            }
        },
    )


def record_conflict(warehouse: duckdb.DuckDBPyConnection, chunk: Chunk) -> None:
    """Write down that a key that was taken has another ETag now."""
    warehouse.execute(
        "insert into raw.conflicts (chunk_key, etag, landed_at, seen_at) values (?, ?, ?, ?)",
        [chunk.key, chunk.etag, as_utc(chunk.landed_at), utc_now()],
    )


def publish(settings: Settings, warehouse: duckdb.DuckDBPyConnection, chunks: Iterable[Chunk]) -> None:
    """Add chunks to the published copy of the ledger; without any, write the copy anew."""
    copy = published(settings)
    if added := [_line(chunk.key, chunk.etag) for chunk in chunks]:
        with copy.open("a") as file:
            file.writelines(f"{line}\n" for line in added)
        return
    seen = warehouse.execute(
        "select chunk_key, etag from raw.chunks union all select chunk_key, etag from raw.conflicts"
    )
    unfinished = copy.with_suffix(".unfinished")
    unfinished.write_text("".join(f"{_line(*row)}\n" for row in seen.fetchall()))
    unfinished.replace(copy)


def published(settings: Settings) -> Path:
    """The copy for those who only want to know whether there is work."""
    return settings.warehouse.with_suffix(".ledger.jsonl")


def _line(key: str, etag: str) -> str:
    return json.dumps([key, etag])
