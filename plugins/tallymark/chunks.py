"""Which objects make up which chunk, and in which order chunks are taken."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tallymark.store import StoredObject


@dataclass(frozen=True)
class Chunk:
    """One object, or a folder of part files that its ``_SUCCESS`` marker declares complete.

    Attributes:
        key: the object's key; of a folder the common part of the keys, with the slash at its end.
        etag: the object's ETag; of a folder a SHA-256 over keys and ETags of its parts.
        parts: the objects that hold rows, in natural order of their keys.
        landed_at: when the last of its objects was put.
    """

    key: str
    etag: str
    parts: tuple[StoredObject, ...]
    landed_at: datetime

    @property
    def name(self) -> str:
        """The last part of the key without ``.csv``, ``.csv.gz``: ``chunk_7``."""
        return re.sub(r"(\.csv)?(\.gz)?$", "", self.key.rstrip("/").rpartition("/")[2], flags=re.IGNORECASE)


def natural_order(key: str) -> tuple[list[str | int], str]:
    """Sort key that compares runs of digits as numbers, so that chunk_2 comes before chunk_10."""
    parts = re.split("([0-9]+)", key)
    parts[1::2] = map(int, parts[1::2])
    return parts, key


def find_chunks(objects: Iterable[StoredObject], prefix: str) -> list[Chunk]:
    """The complete chunks among the objects under a prefix, in natural order of their keys.

    A chunk's key continues the prefix with ``chunk_``; other objects are left alone. In a folder,
    names that begin with ``_`` or ``.`` hold no rows, as Spark and Hadoop have it. An object may come twice.
    """
    chunks = []
    folders = defaultdict(list)
    for stored in {stored.key: stored for stored in objects}.values():
        name = stored.key.removeprefix(prefix)
        if not stored.key.startswith(prefix) or not name.startswith("chunk_"):
            continue
        folder, slash, rest = name.partition("/")
        if not slash:
            chunks.append(Chunk(stored.key, stored.etag, (stored,), stored.last_modified))
        elif rest:
            folders[f"{prefix}{folder}/"].append(stored)
    for key, members in folders.items():
        if any(member.key == f"{key}_SUCCESS" for member in members):
            chunks.append(_folder_chunk(key, members))
    return sorted(chunks, key=lambda chunk: natural_order(chunk.key))


def _folder_chunk(key: str, members: list[StoredObject]) -> Chunk:
    def holds_rows(member: StoredObject) -> bool:
        names = member.key.removeprefix(key).split("/")
        return not any(name.startswith(("_", ".")) or not name for name in names)

    parts = sorted(filter(holds_rows, members), key=lambda member: natural_order(member.key))
    digest = hashlib.sha256("".join(f"{part.key}\0{part.etag}\n" for part in parts).encode()).hexdigest()
    return Chunk(key, digest, tuple(parts), max(member.last_modified for member in members))
