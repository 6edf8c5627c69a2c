"""The bytes of objects that belong together: of a chunk, or of the customer importance."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from tallymark.intake.chunks import Chunk
from tallymark.intake.csv_lines import RejectedError
from tallymark.intake.folders import committed_parts
from tallymark.settings import Limit
from tallymark.store import Get, StoredObject


@dataclass(frozen=True)
class Content:
    """Objects that were fetched.

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
        """SHA-256 over sizes and bytes of the objects that hold any, in their order; names and ETags do not count."""
        digest = hashlib.sha256()
        for body in self.bodies.values():
            digest.update(len(body).to_bytes(8) + body)
        return digest.hexdigest()

    def get(self, stored: StoredObject) -> bytes:
        """The bytes of one of them; none of an object that was listed without any."""
        return self.bodies.get(stored, b"")


def fetch(get: Get, key: str, parts: Sequence[StoredObject], max_bytes: int) -> Content:
    """Fetch objects that belong together.

    Args:
        max_bytes: the setting ``max_object_bytes``; it counts for all of them together, before anything is fetched.

    Raises:
        RejectedError: when they are larger.
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
