"""The ledger of chunks that were taken, rejected or in conflict, and the inputs that could not be taken.

The ledger is ``raw.chunks`` and ``raw.conflicts`` in the warehouse. ``raw.unreadable_inputs`` and
``raw.ignored_inputs`` record the other inputs. The ledger index can be read without opening the warehouse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal, NamedTuple

import duckdb

from tallymark.intake.chunks import Chunk, Ignored
from tallymark.intake.folders import natural_order
from tallymark.settings import Limit, Limits
from tallymark.warehouse.connection import as_utc, fetch_row, run_sql, utc_now
from tallymark.warehouse.ledger_index import LedgerIndex

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 60, 900
# Messages name at most this many parts of a folder.
MAX_NAMED = 20


@dataclass(frozen=True)
class Entry:
    """A chunk that is being taken.

    Attributes:
        importance_version: version of the customer importance in use; None if there is none.
        y_started_at: when processing of the chunk began, UTC.
        content_bytes: stored size of the objects that count; None if they were not read.
        content_sha256: SHA-256 of their content; None if they were not read.
        rows_in_file: rows counted in the text, before validation; None if the chunk was rejected before that.
        reason: why the chunk is rejected as a whole; None if it is not.
        limit: the limit that the chunk exceeds, if that is the reason.
    """

    chunk: Chunk
    importance_version: int | None
    y_started_at: datetime
    content_bytes: int | None = None
    content_sha256: str | None = None
    rows_in_file: int | None = None
    reason: str | None = None
    limit: Limit | None = None


# conflict: the key was accepted with different content. compare: the key is known under a different ETag, and only the
# content can show whether it is the same chunk.
State = Literal["known", "compare", "conflict", "new"]


class Outcome(NamedTuple):
    """Row counts of a chunk that was taken, and the reason if it was rejected as a whole."""

    accepted: int
    rejected: int
    reason: str | None


def create_ledger_views(warehouse: duckdb.DuckDBPyConnection, limits: Limits) -> None:
    """Define the views and macros of ledger.sql on a connection, for the given limits."""
    warehouse.execute("create or replace temp table limits_in_force (setting varchar, bytes bigint)")
    warehouse.executemany("insert into limits_in_force values (?, ?)", list(limits._asdict().items()))
    run_sql(warehouse, "intake/ledger")


def seen_as(warehouse: duckdb.DuckDBPyConnection, chunks: Sequence[Chunk]) -> list[tuple[State, bool]]:
    """Return for each chunk its state in the ledger, and whether its key is new. Call ``create_ledger_views`` first."""
    asked = {
        "keys": [chunk.key for chunk in chunks],
        "etags": [chunk.etag for chunk in chunks],
        "sizes": [chunk.size for chunk in chunks],
    }
    return warehouse.execute("from seen_as($keys, $etags, $sizes)", asked).fetchall()


def compare(
    warehouse: duckdb.DuckDBPyConnection, chunk: Chunk, content_bytes: int | None, content_sha256: str | None
) -> State:
    """Return the state of a chunk by its content; pass None for content that was rejected without being read.

    If the content is known, the ledger row gets the new ETag. ETags change without the content when a bucket is copied,
    restored or re-encrypted, or when an object is uploaded again in parts.
    """
    same = warehouse.execute(
        """
        update raw.chunks set etag = $etag
        where
            chunk_key = $key
            and content_bytes = $content_bytes
            and content_sha256 = $content_sha256
            and chunk_seq in (select chunk_seq from known_chunks)
        returning chunk_seq
        """,
        {"key": chunk.key, "etag": chunk.etag, "content_bytes": content_bytes, "content_sha256": content_sha256},
    )
    if same.fetchone():
        return "known"
    was_accepted = "from raw.chunks where chunk_key = ? and state = 'accepted' limit 1"
    return "conflict" if warehouse.execute(was_accepted, [chunk.key]).fetchone() else "new"


def rejected(warehouse: duckdb.DuckDBPyConnection, since: int) -> list[tuple[str, str]]:
    """Return keys and open issue messages of chunks that were rejected as a whole, in order of ``chunk_seq``.

    Args:
        since: the lowest ``chunk_seq`` to include.
    """
    run_sql(warehouse, "intake/open_issues")
    return warehouse.execute(
        """
        select issues.about, issues.message
        from open_issues($now) as issues
        join raw.chunks on issues.about = chunks.chunk_key
        where issues.kind = 'rejected chunk' and chunks.state = 'rejected' and chunks.chunk_seq >= $since
        order by chunks.chunk_seq
        """,
        {"now": utc_now(), "since": since},
    ).fetchall()


def warnings(warehouse: duckdb.DuckDBPyConnection, since: int) -> list[str]:
    """Return warnings about late chunks, and about chunks with the content of an earlier chunk under another key.

    Args:
        since: the lowest ``chunk_seq`` to include.
    """
    found = []
    keys = warehouse.execute(
        "select chunk_key from raw.chunks where chunk_seq >= ? order by chunk_seq", [since - 1]
    ).fetchall()
    for (before,), (key,) in pairwise(keys):
        if natural_order(key) < natural_order(before):
            found.append(f"LATE: {key} landed after {before} was taken. It was taken as the next chunk.")
    duplicates = warehouse.execute(
        """
        select chunks.chunk_key, list(earlier.chunk_key order by earlier.chunk_seq)
        from raw.chunks as chunks
        inner join raw.chunks as earlier
            on chunks.content_sha256 = earlier.content_sha256
            and chunks.chunk_key <> earlier.chunk_key
            and chunks.chunk_seq > earlier.chunk_seq
        where chunks.chunk_seq >= ? and earlier.rows_accepted > 0
        group by chunks.chunk_seq, chunks.chunk_key
        order by chunks.chunk_seq
        """,
        [since],
    ).fetchall()
    for key, others in duplicates:
        all_of_them = "Both count" if len(others) == 1 else "All of them count"
        found.append(
            f"DUPLICATE CONTENT: {key} has the same content as {', '.join(others)}. {all_of_them}, because chunks are "
            "identified by key. If this was a mistake, contact the producer."
        )
    return found


def next_chunk_seq(warehouse: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the next chunk. Numbers start at 1 and have no gaps."""
    return fetch_row(warehouse, "select coalesce(max(chunk_seq), 0) + 1 from raw.chunks")[0]


def record(warehouse: duckdb.DuckDBPyConnection, first_chunk_seq: int, entries: Sequence[Entry]) -> list[Outcome]:
    """Write the ledger rows of chunks whose rows are in the warehouse, and return their outcomes.

    A chunk that has rows but no valid one is rejected as a whole.
    """
    counted = warehouse.execute(
        """
        select chunk_seq, count_if(reason is null), count(reason), mode(reason order by reason)
        from (
            select chunk_seq, null as reason from raw.transactions where chunk_seq >= $first
            union all
            select chunk_seq, reason from raw.rejected_rows where chunk_seq >= $first
        )
        group by chunk_seq
        """,
        {"first": first_chunk_seq},
    )
    by_chunk_seq = {chunk_seq: counts for chunk_seq, *counts in counted.fetchall()}
    outcomes = []
    for chunk_seq, entry in enumerate(entries, first_chunk_seq):
        accepted, rejected, usual_reason = by_chunk_seq.get(chunk_seq, (0, 0, None))
        reason = entry.reason
        if reason is None and rejected and not accepted:
            reason = f"has no valid rows ({rejected} rejected, most often: {usual_reason})"
        outcomes.append(Outcome(accepted, rejected, reason))
    rows = [
        {
            "chunk_seq": chunk_seq,
            "chunk_key": entry.chunk.key,
            "etag": entry.chunk.etag,
            "content_bytes": entry.content_bytes,
            "content_sha256": entry.content_sha256,
            "state": "rejected" if outcome.reason else "accepted",
            "reason": outcome.reason,
            "limit_setting": entry.limit and entry.limit.setting,
            "limit_bytes": entry.limit and entry.limit.bytes,
            "rows_in_file": entry.rows_in_file,
            "rows_accepted": outcome.accepted,
            "rows_rejected": outcome.rejected,
            "importance_version": entry.importance_version,
            "landed_at": as_utc(entry.chunk.landed_at),
            "y_started_at": entry.y_started_at,
            "loaded_at": utc_now(),
        }
        for chunk_seq, (entry, outcome) in enumerate(zip(entries, outcomes, strict=True), first_chunk_seq)
    ]
    warehouse.execute("insert into raw.chunks by name select unnest($rows, recursive := true)", {"rows": rows})
    return outcomes


def record_unreadable(
    warehouse: duckdb.DuckDBPyConnection,
    kind: Literal["chunk", "customer importance"],
    key: str,
    etag: str,
    reason: str,
) -> datetime:
    """Record a failed attempt to read a chunk or the customer importance; returns when to retry, UTC.

    The delay doubles with each attempt at the same ETag, from ``FIRST_RETRY_SECONDS`` to ``LAST_RETRY_SECONDS``.

    Args:
        key: the chunk's key, or the prefix of the customer importance.
    """
    before = warehouse.execute(
        "delete from raw.unreadable_inputs where input_key = ? returning etag, attempts, first_failed_at", [key]
    ).fetchone()
    now = utc_now()
    attempts, first = before[1:] if before and before[0] == etag else (0, now)
    retry_at = now + timedelta(seconds=min(FIRST_RETRY_SECONDS * 2**attempts, LAST_RETRY_SECONDS))
    warehouse.execute(
        """
        insert into raw.unreadable_inputs
            (kind, input_key, etag, reason, attempts, first_failed_at, last_failed_at, retry_at)
        values (?, ?, ?, ?, ?, ?, ?, ?)
        """,
        [kind, key, etag, reason, attempts + 1, first, now, retry_at],
    )
    return retry_at


def forget_readable(warehouse: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> None:
    """Close the open issues about unreadable or ignored inputs that have now been read."""
    for statement in (
        "delete from raw.unreadable_inputs where input_key in (select unnest(?::varchar[]))",
        "delete from raw.ignored_inputs where about in (select unnest(?::varchar[]))",
    ):
        warehouse.execute(statement, [list(keys)])


def record_ignored(warehouse: duckdb.DuckDBPyConnection, found: Sequence[Ignored]) -> set[tuple[str, str]]:
    """Replace the recorded ignored inputs; returns ``kind`` and ``about`` of those recorded before."""
    known = set(warehouse.execute("select kind, about from raw.ignored_inputs").fetchall())
    if known or found:
        warehouse.execute("delete from raw.ignored_inputs")
    for ignored in found:
        warehouse.execute(
            "insert into raw.ignored_inputs (kind, about, message, seen_at) values (?, ?, ?, ?)",
            [ignored.kind, ignored.about, ignored.message, utc_now()],
        )
    return known


def record_conflict(warehouse: duckdb.DuckDBPyConnection, chunk: Chunk) -> str:
    """Record that an accepted key now has different content; returns the message for the open issue."""
    (landed_at,) = fetch_row(
        warehouse, "select max(landed_at) from raw.chunks where chunk_key = ? and state = 'accepted'", [chunk.key]
    )
    later = [part.key.removeprefix(chunk.key) for part in chunk.parts if as_utc(part.last_modified) > landed_at]
    advice = "If it contains other transactions, put them under a new key"
    if 0 < len(later) < len(chunk.parts):
        more = f" and {len(later) - MAX_NAMED} more" if len(later) > MAX_NAMED else ""
        names = f"{', '.join(later[:MAX_NAMED])}{more}"
        advice = f"Put since then: {names}. To count their rows, put only these files into a folder with a new name"
    message = f"was accepted before and now has different content (ETag {chunk.etag}), which does not count. {advice}."
    warehouse.execute(
        "insert into raw.conflicts (chunk_key, etag, message, landed_at, seen_at) values (?, ?, ?, ?, ?)",
        [chunk.key, chunk.etag, message, as_utc(chunk.landed_at), utc_now()],
    )
    return message


def update_index(index: LedgerIndex, warehouse: duckdb.DuckDBPyConnection, chunks: Sequence[Chunk]) -> None:
    """Update the ledger index for the given chunks. Without chunks, or if the index is missing, rebuild all of it."""
    if chunks:
        keys = [chunk.key for chunk in chunks]
        known = warehouse.execute(
            """
            select chunk_key, etag
            from known_chunks
            where chunk_key in (select unnest($keys))
            order by chunk_seq nulls first
            """,
            {"keys": keys},
        ).fetchall()
        if index.replace(keys, known):
            return
    (taken_at,) = fetch_row(warehouse, "select max(loaded_at) from raw.chunks")
    taken_at = (taken_at or utc_now()).replace(tzinfo=UTC).timestamp()
    known = warehouse.execute("select chunk_key, etag from known_chunks order by chunk_seq nulls first").fetchall()
    index.create(known, taken_at)
