"""The published snapshot as an in-memory DuckDB database that is reloaded when the object in the bucket changes."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from tallymark.errors import UserError
from tallymark.publish.snapshot import current_key
from tallymark.store import ObjectChangedError, Store, StoredObject
from tallymark.warehouse.connection import run_sql, transaction
from tallymark.warehouse.errors import OF_A_NEWER_DUCKDB

log = logging.getLogger(__name__)

ADD_PARTS = {
    "chunks": "insert into sealed_chunks by name select * from read_parquet($paths, union_by_name => true)",
    "detections": "insert into sealed_detections by name select * from read_parquet($paths, union_by_name => true)",
}
FORGET_PARTS = "drop table if exists sealed_chunks; drop table if exists sealed_detections"
LOOK_AGAIN_SECONDS = 1.0


class SnapshotError(UserError, RuntimeError):
    """The snapshot cannot be read. The message says why and what to do."""


class Reader:
    """Answers queries from the newest snapshot.

    It checks the snapshot's ETag at most once every ``LOOK_AGAIN_SECONDS`` and downloads only missing parts. If S3 is
    unreachable or a snapshot cannot be read, it keeps answering from the previous one, and ``problem`` says why.

    Args:
        output_prefix: the prefix that the snapshot is below.
        open_store: opens the bucket; called once.
    """

    def __init__(self, output_prefix: str, open_store: Callable[[], Store]):
        self.problem: str | None = None
        self._key = current_key(output_prefix)
        self._open_store = open_store
        self._database = duckdb.connect()
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._etag: str | None = None
        self._parts: list[str] = []

    @cached_property
    def store(self) -> Store:
        """The bucket."""
        return self._open_store()

    @property
    def is_published(self) -> bool:
        """Whether there is a snapshot, as of the last ``refresh``."""
        return self._etag is not None

    def refresh(self) -> None:
        """Load the newest snapshot, unless the last attempt was less than ``LOOK_AGAIN_SECONDS`` ago."""
        with self._lock:
            if time.monotonic() - self._looked_at > LOOK_AGAIN_SECONDS:
                try:
                    self._look()
                    self.problem = None
                except Exception as error:
                    log.exception("Failed to read the snapshot")
                    self.problem = str(error)
                self._looked_at = time.monotonic()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection to the tables and views of ``sql/snapshot.sql``."""
        return self._database.cursor()

    def query(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return rows as dicts, with times as ISO 8601 in UTC; no rows if there is no snapshot yet."""
        columns, rows = self.table(sql, **parameters)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def table(self, sql: str, **parameters: Any) -> tuple[list[str], list[list[Any]]]:
        """Return the names of the columns, and the rows as lists."""
        if not self.is_published:
            return [], []
        with self.cursor() as cursor:
            found = cursor.execute(sql, parameters or None)
            return [column[0] for column in found.description], [[*map(_shown, row)] for row in found.fetchall()]

    def count(self, sql: str, **parameters: Any) -> int:
        """Return the single number of a counting query; 0 if there is no snapshot yet."""
        _, rows = self.table(sql, **parameters)
        return rows[0][0] if rows else 0

    def find(self, key: str) -> StoredObject | None:
        """Return the object with this key, or None if the bucket has none."""
        return next((found for found in self.store.list(key) if found.key == key), None)

    def _look(self) -> None:
        stored = self.find(self._key)
        if stored is None or stored.etag == self._etag:
            return
        try:
            self._load(self.store.get(stored))
        except ObjectChangedError:
            return
        except duckdb.Error as error:
            advice = (
                "A newer DuckDB wrote it. Run the same version of Tallymark in the api-server and in the tasks."
                if OF_A_NEWER_DUCKDB in str(error)
                else "The next export replaces it."
            )
            message = f"Could not read the snapshot {self._key}. {advice} DuckDB reports: {str(error).splitlines()[0]}"
            raise SnapshotError(message) from error
        self._etag = stored.etag

    def _load(self, current: bytes) -> None:
        """Replace all tables in one transaction. Concurrent queries see the previous snapshot."""
        known, self._parts = self._parts, []
        with tempfile.TemporaryDirectory() as folder, self._database.cursor() as cursor:
            path = Path(folder) / "current.duckdb"
            path.write_bytes(current)
            cursor.execute("attach $path as published (read_only)", {"path": str(path)})
            try:
                parts = dict(cursor.execute("select key, kind from published.parts").fetchall())
                with transaction(cursor):
                    if not known or set(known) - set(parts):
                        known = []
                        cursor.execute(FORGET_PARTS)
                    run_sql(cursor, "page/snapshot")
                    paths = self._fetch([key for key in parts if key not in known], Path(folder))
                    for kind, add in ADD_PARTS.items():
                        if found := [path for key, path in paths.items() if parts[key] == kind]:
                            cursor.execute(add, {"paths": found})
            finally:
                cursor.execute("detach published")
        self._parts = list(parts)

    def _fetch(self, keys: Sequence[str], folder: Path) -> dict[str, str]:
        """Download parts and return their paths by key."""

        def fetch(key: str) -> str:
            stored = self.find(key)
            if stored is None:
                raise SnapshotError(
                    f"The snapshot {self._key} refers to {key}, which is not in the bucket. Restore it from a backup, "
                    "or run make rebuild."
                )
            path = folder / key.rpartition("/")[2]
            path.write_bytes(self.store.get(stored))
            return str(path)

        with ThreadPoolExecutor(8) as pool:
            return dict(zip(keys, pool.map(fetch, keys), strict=True))


def _shown(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") + "Z" if isinstance(value, datetime) else value
