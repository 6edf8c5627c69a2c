"""Reading of the objects of chunks and of the customer importance, and handling of those that cannot be read."""

import dataclasses
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tallymark.intake.chunks import Chunk
from tallymark.intake.csv_lines import Columns, CsvObject, read_csv_objects
from tallymark.intake.errors import RejectedError
from tallymark.intake.folders import committed_parts
from tallymark.intake.ledger import Entry
from tallymark.intake.rows import TRANSACTIONS
from tallymark.settings import Limit, Limits
from tallymark.store import BucketError, Get, ObjectChangedError, Store, StoredObject, UnreadableError
from tallymark.store.ahead import fetched_ahead
from tallymark.warehouse.connection import utc_now

log = logging.getLogger(__name__)
Fetched = TypeVar("Fetched")

# A chunk whose objects were replaced this often between listing and reading becomes an unreadable chunk.
MAX_CHANGES = 3


@dataclass(frozen=True)
class Content:
    """The fetched objects of a chunk or of the customer importance.

    Attributes:
        key: the chunk's key, or the prefix of the customer importance.
        parts: the objects that count, in natural order of their keys.
        bodies: their bytes as stored.
    """

    key: str
    parts: Sequence[StoredObject]
    bodies: dict[StoredObject, bytes]

    @property
    def size(self) -> int:
        """Total number of bytes."""
        return sum(map(len, self.bodies.values()))

    @property
    def sha256(self) -> str:
        """SHA-256 of the sizes and bytes of the objects that are not empty, in order. Keys and ETags are not hashed."""
        digest = hashlib.sha256()
        for body in self.bodies.values():
            digest.update(len(body).to_bytes(8) + body)
        return digest.hexdigest()

    def as_csv(self, columns: Columns, max_decompressed_bytes: int) -> list[CsvObject]:
        """Decompress the objects and parse their headers.

        Raises:
            RejectedError: when an object is not CSV with these columns, or they exceed the limit.
        """
        bodies = ((part.key, self.bodies.get(part, b"")) for part in self.parts)
        return read_csv_objects(self.key, bodies, columns, max_decompressed_bytes)


def fetch(get: Get, key: str, parts: Sequence[StoredObject], max_bytes: int) -> Content:
    """Fetch the objects of a chunk or of the customer importance.

    Args:
        max_bytes: the setting ``max_object_bytes``; limits their total size.

    Raises:
        RejectedError: when they exceed ``max_bytes``; nothing is fetched then.
        ObjectChangedError: when an object was replaced or deleted after it was listed.
        UnreadableError: when an object cannot be read.
    """
    size = sum(part.size for part in parts)
    if size > max_bytes:
        limit = Limit("max_object_bytes", max_bytes)
        raise RejectedError(f"has {size} bytes, more than the limit of {limit}", limit)
    return Content(key, parts, {part: get(part) for part in parts if part.size or not part.has_etag})


def fetch_chunk(get: Get, chunk: Chunk, max_bytes: int) -> Content:
    """Fetch the objects of a chunk that count.

    Raises:
        RejectedError: when a folder contradicts its commit protocol, and as in ``fetch``.
        ObjectChangedError: as in ``fetch``.
        UnreadableError: as in ``fetch``.
    """
    parts = committed_parts(get, chunk.key, chunk.members) if chunk.is_folder else chunk.parts
    return fetch(get, chunk.key, parts, max_bytes)


class Attempts:
    """Reads objects. If an object cannot be read, reads others to find out whether S3 is down altogether.

    Args:
        others: returns other objects that should be readable, the most likely ones first.
    """

    def __init__(self, store: Store, others: Callable[[], Iterable[StoredObject]]):
        self._store = store
        self._others = others
        self._has_access = False

    def read(self, key: str, fetch: Callable[[Get], Fetched], get: Get | None = None) -> Fetched:
        """Call ``fetch`` and return its result.

        A failure that looks like an outage is retried once if S3 serves other objects.

        Args:
            key: the chunk's key, or the prefix of the customer importance; objects below it are not used as evidence.
            get: used for the first attempt; for example one with prefetched objects.

        Raises:
            UnreadableError: when an object cannot be read although S3 serves others.
            BucketError: when S3 does not serve other objects either.
        """
        try:
            return fetch(get or self._store.get)
        except UnreadableError as error:
            if error.is_archived or (error.is_definite and self._has_access):
                raise
            if not self._serves_others(key):
                raise BucketError(str(error)) from error
            self._has_access = True
            if error.is_definite:
                raise
        return fetch(self._store.get)

    def _serves_others(self, key: str) -> bool:
        for stored in self._others():
            if stored.size and not stored.key.startswith(key):
                try:
                    self._store.get(stored)
                except ObjectChangedError:
                    continue
                except UnreadableError as error:
                    if error.is_archived:
                        return True
                    if not error.is_definite:
                        return False
                else:
                    return True
        return False


@dataclass(frozen=True)
class ReadChunk:
    """A chunk that was read; without files if it is rejected as a whole."""

    entry: Entry
    files: Sequence[CsvObject]

    @property
    def characters(self) -> int:
        return sum(len(file.text) for file in self.files)


class ChunkReader:
    """Reads chunks and remembers the unreadable ones.

    Attributes:
        unreadable: key -> chunk and reason, for chunks that could not be read although S3 served others.
    """

    def __init__(self, store: Store, attempts: Attempts, limits: Limits, importance_version: int | None):
        self.unreadable: dict[str, tuple[Chunk, str]] = {}
        self._store = store
        self._attempts = attempts
        self._limits = limits
        self._importance_version = importance_version
        self._changes: Counter[str] = Counter()

    def read(self, chunks: Sequence[Chunk]) -> Iterator[ReadChunk]:
        """Yield chunks in order, without unreadable ones. Stops at a chunk that changed after it was listed."""
        with fetched_ahead(self._store.get, [stored for chunk in chunks for stored in chunk.readable]) as get:
            for chunk in chunks:
                entry = Entry(chunk, self._importance_version, y_started_at=utc_now())
                try:
                    content = self._fetch(chunk, get)
                    if content is None:
                        continue
                    entry = dataclasses.replace(entry, content_bytes=content.size, content_sha256=content.sha256)
                    files = content.as_csv(TRANSACTIONS, self._limits.max_decompressed_bytes)
                except RejectedError as error:
                    yield ReadChunk(dataclasses.replace(entry, reason=str(error), limit=error.limit), [])
                except ObjectChangedError as error:
                    log.info("%s", error)
                    return
                else:
                    rows = sum(file.rows for file in files)
                    yield ReadChunk(dataclasses.replace(entry, rows_in_file=rows), files)

    def content(self, chunk: Chunk) -> Content | RejectedError | None:
        """Return the content of a chunk, the error if it is rejected, or None if it cannot be read now."""
        try:
            return self._fetch(chunk, self._store.get)
        except ObjectChangedError as error:
            log.info("%s", error)
            return None
        except RejectedError as error:
            return error

    def _fetch(self, chunk: Chunk, get: Get) -> Content | None:
        """Return the content of a chunk, or None if it is unreadable."""
        try:
            return self._attempts.read(
                chunk.key, lambda get: fetch_chunk(get, chunk, self._limits.max_object_bytes), get
            )
        except UnreadableError as error:
            self.unreadable[chunk.key] = chunk, str(error)
        except ObjectChangedError as error:
            self._changes[chunk.key] += 1
            if self._changes[chunk.key] < MAX_CHANGES:
                raise
            reason = f"It changed {MAX_CHANGES} times between listing and reading. Last: {error}"
            self.unreadable[chunk.key] = chunk, reason
        return None
