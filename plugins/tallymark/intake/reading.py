"""Reading the objects of chunks and of the customer importance: their bytes and their CSV text, or why not."""

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

# An object that was replaced this often between listing and reading waits as an unreadable chunk.
MAX_CHANGES = 3


@dataclass(frozen=True)
class Content:
    """Objects that belong together, fetched.

    Attributes:
        key: of all of them together.
        parts: the objects that count, in natural order of their keys.
        bodies: their bytes, as they are stored.
    """

    key: str
    parts: Sequence[StoredObject]
    bodies: dict[StoredObject, bytes]

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(map(len, self.bodies.values()))

    @property
    def sha256(self) -> str:
        """SHA-256 over sizes and bytes of the objects that are not empty, in their order, without names and ETags."""
        digest = hashlib.sha256()
        for body in self.bodies.values():
            digest.update(len(body).to_bytes(8) + body)
        return digest.hexdigest()

    def as_csv(self, columns: Columns, max_unpacked_bytes: int) -> list[CsvObject]:
        """The objects unpacked, with their headers read.

        Raises:
            RejectedError: when they cannot be read as CSV with these columns.
        """
        bodies = ((part.key, self.bodies.get(part, b"")) for part in self.parts)
        return read_csv_objects(self.key, bodies, columns, max_unpacked_bytes)


def fetch(get: Get, key: str, parts: Sequence[StoredObject], max_bytes: int) -> Content:
    """Fetch objects that belong together.

    Args:
        max_bytes: the setting ``max_object_bytes``, for all of them together.

    Raises:
        RejectedError: when they are larger; nothing was fetched.
        ObjectChangedError: when one is no longer the object that was listed.
        UnreadableError: when one cannot be read.
    """
    size = sum(part.size for part in parts)
    if size > max_bytes:
        limit = Limit("max_object_bytes", max_bytes)
        raise RejectedError(f"has {size} bytes, more than {limit}", limit)
    return Content(key, parts, {part: get(part) for part in parts if part.size or not part.has_etag})


def fetch_chunk(get: Get, chunk: Chunk, max_bytes: int) -> Content:
    """Fetch the objects of a chunk that count; raises what ``fetch`` does.

    Raises:
        RejectedError: also when a folder contradicts its commit protocol.
    """
    parts = committed_parts(get, chunk.key, chunk.members) if chunk.is_folder else chunk.parts
    return fetch(get, chunk.key, parts, max_bytes)


class Attempts:
    """Reads objects; when one cannot be read, tells from other objects whether S3 is away as a whole.

    Args:
        others: objects that S3 should serve, the most promising ones first.
    """

    def __init__(self, store: Store, others: Callable[[], Iterable[StoredObject]]):
        self._store = store
        self._others = others
        self._has_access = False

    def read(self, key: str, fetch: Callable[[Get], Fetched], get: Get | None = None) -> Fetched:
        """What ``fetch`` returns.

        A failure that looks like an outage is retried once, if S3 serves other objects.

        Args:
            key: of what is read; objects whose keys begin with it prove nothing.
            get: for the first attempt, such as one that has fetched objects ahead.

        Raises:
            UnreadableError: when it cannot be read while S3 serves other objects.
            BucketError: when S3 does not serve others either.
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
    """A chunk that was fetched; one that is rejected whole has no files."""

    entry: Entry
    files: Sequence[CsvObject]

    @property
    def characters(self) -> int:
        return sum(len(file.text) for file in self.files)


class ChunkReader:
    """Reads chunks.

    Attributes:
        unreadable: by key, chunks that could not be read while S3 served others, and why.
    """

    def __init__(self, store: Store, attempts: Attempts, limits: Limits, importance_version: int | None):
        self.unreadable: dict[str, tuple[Chunk, str]] = {}
        self._store = store
        self._attempts = attempts
        self._limits = limits
        self._importance_version = importance_version
        self._changes: Counter[str] = Counter()

    def read(self, chunks: Sequence[Chunk]) -> Iterator[ReadChunk]:
        """Chunks in their order, without the unreadable ones, up to one that was replaced since it was listed."""
        with fetched_ahead(self._store.get, [stored for chunk in chunks for stored in chunk.readable]) as get:
            for chunk in chunks:
                entry = Entry(chunk, self._importance_version, y_started_at=utc_now())
                try:
                    content = self._fetch(chunk, get)
                    if content is None:
                        continue
                    entry = dataclasses.replace(entry, content_bytes=content.size, content_sha256=content.sha256)
                    files = content.as_csv(TRANSACTIONS, self._limits.max_unpacked_bytes)
                except RejectedError as error:
                    yield ReadChunk(dataclasses.replace(entry, reason=str(error), limit=error.limit), [])
                except ObjectChangedError as error:
                    log.info("%s. It is listed again.", error)
                    return
                else:
                    rows = sum(file.rows for file in files)
                    yield ReadChunk(dataclasses.replace(entry, rows_in_file=rows), files)

    def content(self, chunk: Chunk) -> Content | RejectedError | None:
        """The content of a chunk, or why it is rejected; None: it cannot be read now."""
        try:
            return self._fetch(chunk, self._store.get)
        except ObjectChangedError as error:
            log.info("%s. It is listed again.", error)
            return None
        except RejectedError as error:
            return error

    def _fetch(self, chunk: Chunk, get: Get) -> Content | None:
        """The content of a chunk; None: it is unreadable."""
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
            why = f"It was replaced {MAX_CHANGES} times while it was read: {error}"
            self.unreadable[chunk.key] = chunk, why
        return None
