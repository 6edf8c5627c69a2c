"""The ledger index: what readers know of the ledger without opening the warehouse."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tallymark.settings import Limits

BUSY_SECONDS = 30
# The sensor lists every second.
NOTE_SECONDS = 10
INSERT = "insert or ignore into chunks (chunk_key, etag) values (?, ?)"
TABLES = (
    # retry_at, in seconds since 1970, is that of an unreadable chunk: the ledger does not have it.
    "create table chunks "
    "(place integer primary key, chunk_key text, etag text, retry_at real, unique (chunk_key, etag))",
    "create table ignored (kind text, about text)",
    "create table about (warehouse text, due_at text, taken_at real, listed_at real)",
)


class LedgerIndex:
    """A small SQLite file beside the warehouse, ``<warehouse>.ledger_index``.

    It holds keys and ETags of the chunks that the ledger knows, and whether something is begun and not finished. It is
    valid only while the warehouse is in the state that it names (size and time of the last change of its file and its
    log), and while the size limits are the same. Each writer names the new state when it is done. If a writer was
    killed before that, or somebody else changed, deleted or restored the warehouse, the index is not valid: then there
    is work, and the load rebuilds the index from the ledger.
    """

    def __init__(self, warehouse: Path, limits: Limits):
        self.path = warehouse.with_name(f"{warehouse.name}.ledger_index")
        self._warehouse = warehouse
        self._wal = warehouse.with_name(f"{warehouse.name}.wal")
        self._limits = limits

    def is_valid(self) -> bool:
        """Whether it describes the warehouse as it is now."""
        return self._ask("select warehouse from about") == [(self._state(),)]

    def discard(self) -> None:
        """Delete it; the next load rebuilds it."""
        for file in (self.path, self.path.with_name(f"{self.path.name}-journal")):
            file.unlink(missing_ok=True)

    def discard_unless_valid(self) -> None:
        """For a writer that has just opened the warehouse."""
        if not self.is_valid():
            self.discard()

    def confirm(self) -> None:
        """For a writer that has closed the warehouse and brought the index up to date: it is valid now."""
        self._tell("update about set warehouse = ?", [(self._state(),)])

    def create(self, known: Iterable[tuple[str, str]], taken_at: float) -> None:
        """Create it anew.

        Args:
            known: keys and ETags of all chunks that the ledger knows.
            taken_at: when the last chunk was taken, in seconds since 1970.
        """
        self.discard()
        with self._open("rwc") as index:
            for statement in TABLES:
                index.execute(statement)
            index.executemany(INSERT, known)
            index.execute("insert into about (taken_at) values (?)", [taken_at])

    def replace(self, keys: Iterable[str], known: Iterable[tuple[str, str]]) -> bool:
        """Replace what it holds of some keys, now that chunks were taken; returns whether there is an index.

        Args:
            known: as in ``create``, of these keys alone.
        """
        return (
            self._tell("delete from chunks where chunk_key = ?", [(key,) for key in keys])
            and self._tell(INSERT, known)
            and self._tell("update about set taken_at = ?", [(time.time(),)])
        )

    def add_unreadable(self, chunks: Iterable[tuple[str, str, float]]) -> None:
        """Add unreadable chunks by key, ETag and the time before which they are no reason for a run."""
        self._tell("replace into chunks (chunk_key, etag, retry_at) values (?, ?, ?)", chunks)

    def set_ignored(self, found: Iterable[tuple[str, str]]) -> None:
        """Replace what it holds of ignored objects, each by its kind and subject."""
        if self._tell("delete from ignored", [()]):
            self._tell("insert into ignored (kind, about) values (?, ?)", found)

    def ignored(self) -> set[tuple[str, str]]:
        """Ignored objects, each by its kind and subject."""
        return set(self._ask("select kind, about from ignored") or ())

    def are_known(self, chunks: Sequence[tuple[str, str]], before: float = float("inf")) -> list[bool]:
        """Whether it holds each chunk, given by key and ETag; false without an index or a warehouse.

        Args:
            before: an unreadable chunk whose next attempt is due before this time, in seconds since 1970, is not known.
        """
        known = """
            select exists (
                select 1 from chunks where chunk_key = ? and etag = ? and coalesce(retry_at > ?, true)
            )
        """
        if self._warehouse.exists():
            with suppress(sqlite3.DatabaseError), self._open() as index:
                return [bool(index.execute(known, (*chunk, before)).fetchone()[0]) for chunk in chunks]
        return [False] * len(chunks)

    def last_keys(self, count: int) -> list[str]:
        """Keys of the last chunks, in the order in which they were taken; none without a warehouse."""
        last = "select chunk_key from chunks where retry_at is null order by place desc limit ?"
        found = self._ask(last, [count]) if self._warehouse.exists() else None
        return [key for (key,) in reversed(found or [])]

    def taken_at(self) -> float | None:
        """When chunks were taken last, in seconds since 1970; None without an index."""
        return next((taken for (taken,) in self._ask("select taken_at from about") or ()), None)

    def listed_at(self) -> float:
        """When a listing of everything left no chunk to be taken, in seconds since 1970; 0: not yet."""
        return next((listed for (listed,) in self._ask("select listed_at from about") or () if listed), 0)

    def note_full_listing(self) -> None:
        """Note that a listing of everything left no chunk to be taken; at most every ``NOTE_SECONDS``."""
        now = time.time()
        self._tell("update about set listed_at = ? where coalesce(listed_at, 0) < ?", [(now, now - NOTE_SECONDS)])

    def has_unfinished_work(self) -> bool:
        """Whether a run loaded chunks whose detections are not all out yet, or nobody can tell.

        True after a run that failed or was killed between load and export, when somebody else changed the warehouse,
        and once detections that were held back to fill a file (``hold_remainder_seconds``) have waited long enough.
        """
        if not self.is_open():
            return False
        due_at = self.is_valid() and self._due_at()
        return not due_at or datetime.fromisoformat(due_at) <= datetime.now(UTC)

    def is_open(self) -> bool:
        """Whether anything is begun and not finished, held back detections included, or nobody can tell."""
        if not self._warehouse.exists():
            return False
        return not self.is_valid() or self._due_at() is not None

    def begin(self) -> None:
        """Note, before the first change, that there will be something to finish."""
        self._tell("update about set due_at = ''", [()])

    def finish(self, held_until: datetime | None = None) -> None:
        """Note that everything is out, or is held back until a time (aware)."""
        self._tell("update about set due_at = ?", [(held_until and held_until.isoformat(),)])

    def _due_at(self) -> str | None:
        """When what is begun is to be finished, ISO 8601; empty: now; None: nothing is begun."""
        return next((due for (due,) in self._ask("select due_at from about") or ()), None)

    def _state(self) -> str:
        """Size and time of the last change of the warehouse's file and its log, and the size limits."""

        def of(file: Path) -> tuple[int, int] | None:
            try:
                status = file.stat()
            except FileNotFoundError:
                return None
            return status.st_size, status.st_mtime_ns

        return json.dumps([of(self._warehouse), of(self._wal), self._limits])

    def _ask(self, question: str, parameters: Sequence[Any] = ()) -> list[tuple] | None:
        """The rows; None if there is no index or it is torn."""
        try:
            with self._open() as index:
                return index.execute(question, parameters).fetchall()
        except sqlite3.DatabaseError:
            return None

    def _tell(self, statement: str, rows: Iterable[tuple]) -> bool:
        """Write to it; returns whether that worked, and deletes it if not."""
        try:
            with self._open() as index:
                index.executemany(statement, rows)
        except sqlite3.DatabaseError:
            self.discard()
            return False
        return True

    @contextmanager
    def _open(self, mode: str = "rw") -> Iterator[sqlite3.Connection]:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as index, index:
            yield index
