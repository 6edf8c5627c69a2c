"""Which objects are input, which of them make up which chunk, and in which order chunks are taken."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tallymark.store import StoredObject

# What a chunk is called: at its end nothing or .csv, packed or not. Any other ending begins with a dot.
CHUNK_NAME = re.compile(r"chunk_(.+?)(?i:\.csv)?(?i:\.gz)?", re.DOTALL)
OTHER_ENDING = re.compile(r"\.[a-z_][^.]*\Z", re.IGNORECASE)


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


def chunk_name(key: str) -> str:
    """The last part of a chunk's key without ``.csv``, ``.csv.gz``: ``chunk_7``."""
    return re.sub(r"(\.csv)?(\.gz)?$", "", key.rstrip("/").rpartition("/")[2], flags=re.IGNORECASE)


def natural_order(key: str) -> tuple[list[str | int], str]:
    """Sort key that compares runs of digits as numbers, so that chunk_2 comes before chunk_10."""
    parts = re.split("([0-9]+)", key)
    parts[1::2] = map(int, parts[1::2])
    return parts, key


def is_input(name: str) -> bool:
    """Whether an object may hold rows, by its key below the prefix: the rule for chunks and for customer importance.

    Markers, unfinished writes and checksums of Spark and Hadoop do not: a part of the path begins with ``_`` or ``.``
    or ends in ``_$folder$``, ``.tmp`` or ``.crc``, or the last one is empty.
    """
    segments = name.lower().split("/")
    return bool(segments[-1]) and not any(
        segment.startswith(("_", ".")) or segment.endswith(("_$folder$", ".tmp", ".crc")) for segment in segments
    )


def find_chunks(objects: Iterable[StoredObject], prefix: str) -> list[Chunk]:
    """The complete chunks among the objects under a prefix, in natural order of their keys.

    A chunk's key continues the prefix with ``chunk_`` and something, and ends there or with ``.csv``, ``.csv.gz`` or
    ``.gz``; other objects are left alone. An object may come twice.
    """
    chunks = []
    folders = defaultdict(list)
    for stored in {stored.key: stored for stored in objects}.values():
        name = stored.key.removeprefix(prefix)
        folder, slash, _ = name.partition("/")
        if not stored.key.startswith(prefix) or not _is_chunk_name(folder):
            continue
        if not slash:
            chunks.append(Chunk(stored.key, stored.etag, (stored,), stored.last_modified))
        else:
            folders[f"{prefix}{folder}/"].append(stored)
    for key, members in folders.items():
        if any(member.key == f"{key}_SUCCESS" for member in members):
            chunks.append(_folder_chunk(key, members))
    return sorted(chunks, key=lambda chunk: natural_order(chunk.key))


def misnamed(objects: Iterable[StoredObject], prefix: str) -> list[str]:
    """Keys that begin as those of chunks do and end otherwise, so that nobody takes them: ``chunk_7.parquet``."""
    names = {stored.key.removeprefix(prefix).partition("/")[0] for stored in objects if stored.key.startswith(prefix)}
    return sorted(
        f"{prefix}{name}" for name in names if name.startswith("chunk_") and is_input(name) and not _is_chunk_name(name)
    )


def _is_chunk_name(name: str) -> bool:
    found = CHUNK_NAME.fullmatch(name)
    return bool(found) and not OTHER_ENDING.search(found[1]) and is_input(name)


def _folder_chunk(key: str, members: list[StoredObject]) -> Chunk:
    parts = [member for member in members if is_input(member.key.removeprefix(key))]
    parts.sort(key=lambda member: natural_order(member.key))
    digest = hashlib.sha256("".join(f"{part.key}\0{part.etag}\n" for part in parts).encode()).hexdigest()
    return Chunk(key, digest, tuple(parts), max(member.last_modified for member in members))
