"""What is known without opening the warehouse, by a small SQLite file beside it: ``<warehouse>.ledger_copy``.

It holds the keys and ETags of the ledger and of its conflicts, and whether something is begun and not finished. It
counts only while the warehouse is in the very state that it names: size and time of the last change of its file and
of its log. Whoever writes to the warehouse names its new state at the end. When it was killed before that, and when
the warehouse was changed, deleted or restored by somebody else, the copy is not true: then there is work, and the
load makes it anew from the ledger.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tallymark.settings import Settings

BUSY_SECONDS = 30
INSERT = "insert or ignore into chunks (chunk_key, etag, rejected_by_limit) values (?, ?, ?)"
TABLES = (
    # rejected_by_limit is the limit, with its value, that a rejection hangs on, or empty.
    # retry_at, in seconds since 1970, is that of an unreadable chunk: the ledger does not have it.
    "create table chunks (place integer primary key, chunk_key text, etag text, "
    "rejected_by_limit text not null default '', retry_at real, unique (chunk_key, etag, rejected_by_limit))",
    "create table ignored (kind text, about text)",
    "create table about (warehouse text, due_at text, taken_at real)",
)


def path(settings: Settings) -> Path:
    """The file."""
    return settings.beside("ledger_copy")


def is_true(settings: Settings) -> bool:
    """Whether it tells what is in the warehouse as it is now."""
    return _ask(settings, "select warehouse from about") == [(_state(settings),)]


def forget(settings: Settings) -> None:
    """Take it away; the next load makes it anew."""
    for file in (path(settings), path(settings).with_name(f"{path(settings).name}-journal")):
        file.unlink(missing_ok=True)


def forget_unless_true(settings: Settings) -> None:
    """For whoever has the warehouse open and is about to write."""
    if not is_true(settings):
        forget(settings)


def confirm(settings: Settings) -> None:
    """For whoever wrote to the warehouse and has closed it; what it did to the ledger is in the copy."""
    _tell(settings, "update about set warehouse = ?", [(_state(settings),)])


def make(settings: Settings, known: Iterable[tuple[str, str, str]], taken_at: float) -> None:
    """Make it anew.

    Args:
        known: rows of ``intake/sql/known_chunks.sql``: key, ETag, and the limit that a rejection hangs on.
        taken_at: when that was, in seconds since 1970.
    """
    forget(settings)
    with _open(settings, "rwc") as copy:
        for statement in TABLES:
            copy.execute(statement)
        copy.executemany(INSERT, known)
        copy.execute("insert into about (taken_at) values (?)", [taken_at])


def replace(settings: Settings, keys: Iterable[str], known: Iterable[tuple[str, str, str]]) -> bool:
    """Replace what is known of some keys, now that chunks were taken; false when there is no copy.

    Args:
        known: as in ``make``, of these keys alone.
    """
    return (
        _tell(settings, "delete from chunks where chunk_key = ?", [(key,) for key in keys])
        and _tell(settings, INSERT, known)
        and _tell(settings, "update about set taken_at = ?", [(time.time(),)])
    )


def add_unreadable(settings: Settings, chunks: Iterable[tuple[str, str, float]]) -> None:
    """Add unreadable chunks by key and ETag: no reason for a run before a time, in seconds since 1970."""
    _tell(settings, "replace into chunks (chunk_key, etag, retry_at) values (?, ?, ?)", chunks)


def set_ignored(settings: Settings, found: Iterable[tuple[str, str]]) -> None:
    """Replace what is known of ignored objects, each by its kind and what it is about."""
    if _tell(settings, "delete from ignored", [()]):
        _tell(settings, "insert into ignored (kind, about) values (?, ?)", found)


def ignored(settings: Settings) -> set[tuple[str, str]]:
    """What is known of ignored objects, each by its kind and what it is about."""
    return set(_ask(settings, "select kind, about from ignored") or ())


def are_known(settings: Settings, chunks: Sequence[tuple[str, str]], before: float = float("inf")) -> list[bool]:
    """Whether it has each chunk, given by key and ETag; it has none, if there is no copy or no warehouse.

    Args:
        before: of the unreadable chunks, it lacks only those whose next attempt is due before that, in seconds since
            1970.
    """
    known = """
        select exists (
            select 1 from chunks
            where chunk_key = ? and etag = ? and rejected_by_limit in ('', ?, ?) and coalesce(retry_at > ?, true)
        )
    """
    if settings.warehouse.exists():
        with suppress(sqlite3.DatabaseError), _open(settings) as copy:
            return [bool(copy.execute(known, (*chunk, *settings.limits, before)).fetchone()[0]) for chunk in chunks]
    return [False] * len(chunks)


def last_keys(settings: Settings, count: int) -> list[str]:
    """Keys of the last so many chunks in it, in the order in which they were taken; none, if there is no warehouse."""
    last = "select chunk_key from chunks where retry_at is null order by place desc limit ?"
    found = _ask(settings, last, [count]) if settings.warehouse.exists() else None
    return [key for (key,) in reversed(found or [])]


def taken_at(settings: Settings) -> float | None:
    """When chunks were taken last, in seconds since 1970; None, if there is no copy."""
    return next((taken for (taken,) in _ask(settings, "select taken_at from about") or ()), None)


def unfinished_work(settings: Settings) -> bool:
    """Whether a run loaded chunks whose detections are not all out yet, or nobody can tell.

    True after a run that failed or was killed between load and export, when the warehouse was changed by somebody
    else, and once detections that were held back to fill a file (``hold_remainder_seconds``) have waited long enough.
    """
    if not is_open(settings):
        return False
    due_at = is_true(settings) and _due_at(settings)
    return not due_at or datetime.fromisoformat(due_at) <= datetime.now(UTC)


def is_open(settings: Settings) -> bool:
    """Whether anything is begun and not finished, held back detections included, or nobody can tell."""
    if not settings.warehouse.exists():
        return False
    return not is_true(settings) or _due_at(settings) is not None


def begin(settings: Settings) -> None:
    """Note, before the first change, that there will be something to finish."""
    _tell(settings, "update about set due_at = ''", [()])


def finish(settings: Settings, held_until: datetime | None = None) -> None:
    """Note that everything is out, or is held back until a time (aware)."""
    _tell(settings, "update about set due_at = ?", [(held_until and held_until.isoformat(),)])


def _due_at(settings: Settings) -> str | None:
    """When what is begun is to be finished, ISO 8601; empty: now; None: nothing is begun."""
    return next((due for (due,) in _ask(settings, "select due_at from about") or ()), None)


def _state(settings: Settings) -> str | None:
    """Size and time of the last change of the warehouse's file and of its log."""

    def of(file: Path) -> tuple[int, int] | None:
        try:
            status = file.stat()
        except FileNotFoundError:
            return None
        return status.st_size, status.st_mtime_ns

    return json.dumps([of(settings.warehouse), of(settings.wal)])


def _ask(settings: Settings, question: str, parameters: Iterable = ()) -> list[tuple] | None:
    """The rows; None, if there is no copy or it is torn."""
    try:
        with _open(settings) as copy:
            return copy.execute(question, parameters).fetchall()
    except sqlite3.DatabaseError:
        return None


def _tell(settings: Settings, statement: str, rows: Iterable[tuple]) -> bool:
    """Write to it; if that does not work, there is none any more."""
    try:
        with _open(settings) as copy:
            copy.executemany(statement, rows)
    except sqlite3.DatabaseError:
        forget(settings)
        return False
    return True


@contextmanager
def _open(settings: Settings, mode: str = "rw") -> Iterator[sqlite3.Connection]:
    uri = f"{path(settings).absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as copy, copy:
        yield copy
