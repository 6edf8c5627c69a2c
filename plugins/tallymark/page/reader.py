"""The published snapshot, opened: an in-memory DuckDB that follows the object in the bucket."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from tallymark.intake import ledger
from tallymark.intake.chunks import Chunk
from tallymark.publish.snapshot import current_key
from tallymark.settings import Settings
from tallymark.store import ObjectChangedError, Store
from tallymark.warehouse.connection import run_sql

log = logging.getLogger(__name__)

APPEND = {
    "ledger": "insert into sealed_ledger by name select * from read_parquet($files, union_by_name => true)",
    "detections": "insert into sealed_detections by name select * from read_parquet($files, union_by_name => true)",
}
LOOK_AGAIN_SECONDS = 1.0


class Reader:
    """Answers queries from the newest snapshot.

    It looks for a new one at most once in ``LOOK_AGAIN_SECONDS``, by its ETag, and fetches only parts it lacks. When
    the bucket is away it answers from what it has, and ``problem`` says why.
    """

    def __init__(self, settings: Settings, open_store: Callable[[], Store]):
        self.settings = settings
        self.problem: str | None = None
        self._open_store = open_store
        self._store: Store | None = None
        self._database = duckdb.connect()
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._etag: str | None = None
        self._parts: list[str] = []

    @property
    def store(self) -> Store:
        """The bucket; opened once."""
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def is_published(self) -> bool:
        """Whether there is a snapshot; brings it up to date."""
        with self._lock:
            if time.monotonic() - self._looked_at > LOOK_AGAIN_SECONDS:
                try:
                    self._look()
                    self.problem = None
                except Exception as error:
                    log.exception("The snapshot cannot be read")
                    self.problem = str(error)
                self._looked_at = time.monotonic()
        return self._etag is not None

    def query(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """Rows of ``sql/<name>.sql``; times as ISO 8601 in UTC. There must be a snapshot."""
        columns, rows = self.table(name, **parameters)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def table(self, name: str, **parameters: Any) -> tuple[list[str], list[list[Any]]]:
        """The same as names of columns and rows."""
        with self._database.cursor() as cursor:
            found = run_sql(cursor, f"page/{name}", **parameters)
            return [column[0] for column in found.description], [[*map(_shown, row)] for row in found.fetchall()]

    def seen_as(self, chunks: Sequence[Chunk]) -> list[tuple[ledger.State, bool]]:
        """What the published ledger says of chunks, as ``ledger.seen_as`` does of the warehouse's."""
        with self._database.cursor() as cursor:
            ledger.create_ledger_views(cursor, self.settings.limits)
            return ledger.seen_as(cursor, chunks)

    def _look(self) -> None:
        key = current_key(self.settings)
        stored = next((found for found in self.store.list(key) if found.key == key), None)
        if stored is None or stored.etag == self._etag:
            return
        try:
            self._load(self.store.get(stored))
        except ObjectChangedError:
            return
        self._etag = stored.etag

    def _load(self, current: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder, self._database.cursor() as cursor:
            path = Path(folder) / "current.parquet"
            path.write_bytes(current)
            cursor.begin()
            try:
                run_sql(cursor, "page/current", path=str(path))
                parts = cursor.execute("select coalesce(parts, []) from current").fetchone()[0]
                self._load_parts(cursor, Path(folder), parts)
                run_sql(cursor, "page/open")
            except BaseException:
                cursor.rollback()
                self._parts = []
                raise
            cursor.commit()
        self._parts = parts

    def _load_parts(self, cursor: duckdb.DuckDBPyConnection, folder: Path, parts: list[str]) -> None:
        known = [] if set(self._parts) - set(parts) else self._parts
        if not known:
            run_sql(cursor, "page/forget")

        def fetch(part: str) -> Path:
            (stored,) = self.store.list(part)
            path = folder / part.rpartition("/")[2]
            path.write_bytes(self.store.get(stored))
            return path

        missing = [part for part in parts if part not in known]
        with ThreadPoolExecutor(8) as pool:
            paths = list(pool.map(fetch, missing))
        for kind, append in APPEND.items():
            if files := [str(path) for path in paths if path.name.startswith(f"{kind}-")]:
                cursor.execute(append, {"files": files})


def _shown(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") + "Z" if isinstance(value, datetime) else value
