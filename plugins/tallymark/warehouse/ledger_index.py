"""The ledger index: a copy of parts of the ledger that is read without opening the warehouse."""

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
# A full listing is recorded at most this often, although the sensor lists every second.
NOTE_SECONDS = 10
INSERT = "insert or ignore into chunks (chunk_key, etag) values (?, ?)"
TABLES = (
    # retry_at, in seconds since 1970, is set for unreadable chunks only. They are not in the ledger.
    "create table chunks "
    "(place integer primary key, chunk_key text, etag text, retry_at real, unique (chunk_key, etag))",
    "create table ignored (kind text, about text)",
    "create table about (warehouse text, due_at text, taken_at real, listed_at real)",
)


class LedgerIndex:
    """A small SQLite file next to the warehouse, ``<warehouse>.ledger_index``.

    It holds the keys and ETags of the chunks in the ledger, and whether work is unfinished. It is valid only for the
    warehouse state that it records (size and modification time of the warehouse file and its WAL) and for the current
    size limits. Each writer records the new state when it is done. If a writer was killed before that, or somebody
    else changed, deleted or restored the warehouse, the index is invalid: readers assume that there is work, and the
    load recreates the index from the ledger.
    """

    def __init__(self, warehouse: Path, limits: Limits):
        self.path = warehouse.with_name(f"{warehouse.name}.ledger_index")
        self._warehouse = warehouse
        self._wal = warehouse.with_name(f"{warehouse.name}.wal")
        self._limits = limits

    def is_valid(self) -> bool:
        """Whether the index matches the current state of the warehouse."""
        return self._query("select warehouse from about") == [(self._state(),)]

    def discard(self) -> None:
        """Delete the index; the next load recreates it."""
        for file in (self.path, self.path.with_name(f"{self.path.name}-journal")):
            file.unlink(missing_ok=True)

    def discard_unless_valid(self) -> None:
        """Delete the index if it is invalid; for a writer that has just opened the warehouse."""
        if not self.is_valid():
            self.discard()

    def confirm(self) -> None:
        """Mark the index as valid; for a writer that has updated it and closed the warehouse."""
        self._write("update about set warehouse = ?", [(self._state(),)])

    def create(self, known: Iterable[tuple[str, str]], taken_at: float) -> None:
        """Create the index, replacing an existing one.

        Args:
            known: key and ETag of every chunk in the ledger.
            taken_at: when the last chunk was taken, in seconds since 1970.
        """
        self.discard()
        with self._open("rwc") as index:
            for statement in TABLES:
                index.execute(statement)
            index.executemany(INSERT, known)
            index.execute("insert into about (taken_at) values (?)", [taken_at])

    def replace(self, keys: Iterable[str], known: Iterable[tuple[str, str]]) -> bool:
        """Replace the entries of some keys after chunks were taken; returns whether the index exists.

        Args:
            known: key and ETag of every chunk in the ledger that has one of these keys.
        """
        return (
            self._write("delete from chunks where chunk_key = ?", [(key,) for key in keys])
            and self._write(INSERT, known)
            and self._write("update about set taken_at = ?", [(time.time(),)])
        )

    def add_unreadable(self, chunks: Iterable[tuple[str, str, float]]) -> None:
        """Add unreadable chunks by key, ETag and retry time in seconds since 1970. Until then they cause no run."""
        self._write("replace into chunks (chunk_key, etag, retry_at) values (?, ?, ?)", chunks)

    def set_ignored(self, found: Iterable[tuple[str, str]]) -> None:
        """Replace the ignored objects, each given by kind and subject."""
        if self._write("delete from ignored", [()]):
            self._write("insert into ignored (kind, about) values (?, ?)", found)

    def ignored(self) -> set[tuple[str, str]]:
        """Ignored objects by kind and subject."""
        return set(self._query("select kind, about from ignored") or ())

    def are_known(self, chunks: Sequence[tuple[str, str]], before: float = float("inf")) -> list[bool]:
        """Whether the index has each chunk, given by key and ETag; all false without an index or a warehouse.

        Args:
            before: an unreadable chunk counts as unknown if its retry is due by this time, in seconds since 1970.
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
        """Keys of the last ``count`` chunks, in the order in which they were taken; empty without a warehouse."""
        last = "select chunk_key from chunks where retry_at is null order by place desc limit ?"
        found = self._query(last, [count]) if self._warehouse.exists() else None
        return [key for (key,) in reversed(found or [])]

    def taken_at(self) -> float | None:
        """When chunks were last taken, in seconds since 1970; None without an index."""
        return next((taken for (taken,) in self._query("select taken_at from about") or ()), None)

    def listed_at(self) -> float:
        """When a full listing last found no new chunk, in seconds since 1970; 0 if there was none."""
        return next((listed for (listed,) in self._query("select listed_at from about") or () if listed), 0)

    def note_full_listing(self) -> None:
        """Record that a full listing found no new chunk, at most once per ``NOTE_SECONDS``."""
        now = time.time()
        self._write("update about set listed_at = ? where coalesce(listed_at, 0) < ?", [(now, now - NOTE_SECONDS)])

    def has_unfinished_work(self) -> bool:
        """Whether a run must finish earlier work, or the index cannot tell.

        True if a run failed or was killed between load and export, if somebody else changed the warehouse, or if
        detections were held back to fill a file and ``hold_remainder_seconds`` have passed.
        """
        if not self.is_open():
            return False
        due_at = self.is_valid() and self._due_at()
        return not due_at or datetime.fromisoformat(due_at) <= datetime.now(UTC)

    def is_open(self) -> bool:
        """Whether any work is unfinished, including detections that are held back, or the index cannot tell."""
        if not self._warehouse.exists():
            return False
        return not self.is_valid() or self._due_at() is not None

    def begin(self) -> None:
        """Record that work begins; call it before the first change."""
        self._write("update about set due_at = ''", [()])

    def finish(self, held_until: datetime | None = None) -> None:
        """Record that everything is exported, or that the rest is held back until a time (aware)."""
        self._write("update about set due_at = ?", [(held_until and held_until.isoformat(),)])

    def _due_at(self) -> str | None:
        """When unfinished work is due, as ISO 8601; empty: now; None: no work is unfinished."""
        return next((due for (due,) in self._query("select due_at from about") or ()), None)

    def _state(self) -> str:
        """Size and modification time of the warehouse file and its WAL, and the size limits, as JSON."""

        def of(file: Path) -> tuple[int, int] | None:
            try:
                status = file.stat()
            except FileNotFoundError:
                return None
            return status.st_size, status.st_mtime_ns

        return json.dumps([of(self._warehouse), of(self._wal), self._limits])

    def _query(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple] | None:
        """Rows of a query; None if the index is missing or corrupt."""
        try:
            with self._open() as index:
                return index.execute(query, parameters).fetchall()
        except sqlite3.DatabaseError:
            return None

    def _write(self, statement: str, rows: Iterable[tuple]) -> bool:
        """Run a statement for each row; if that fails, delete the index and return False."""
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
