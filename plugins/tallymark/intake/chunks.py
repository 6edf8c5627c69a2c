"""Grouping of listed objects into chunks, in order, and detection of objects that belong to no chunk."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tallymark.intake.folders import (
    holds_up,
    is_companion,
    is_complete,
    is_input,
    markers_of,
    natural_order,
    parts_of,
    settled_before,
    version_of,
)
from tallymark.store import StoredObject

# Chunks are named chunk_<something>, optionally with .csv, .gz or both. Anything after these extensions marks a copy.
CHUNK_NAME = re.compile(r"chunk_(.+?)(?i:\.csv)?(?i:\.gz)?", re.DOTALL)
COPY = re.compile(r"\.(csv|gz)(?![a-z0-9])", re.IGNORECASE)
# Other extensions begin with a letter. aws s3 sync adds eight hexadecimal digits to the names of unfinished copies.
OTHER_EXTENSION = re.compile(r"\.([a-z_][^.]*|(?=[0-9]*[a-f])[0-9a-f]{8})\Z", re.IGNORECASE)
EVERYTHING_SETTLED = datetime.max.replace(tzinfo=UTC)
# An upload in progress may use a temporary name, and the marker of a folder comes last.
GRACE_SECONDS = 300
EXAMPLES = 3


@dataclass(frozen=True)
class Chunk:
    """One object, or a folder of part files that its commit protocol declares complete.

    Attributes:
        key: the object's key; for a folder, the common prefix of the keys, with a trailing slash.
        etag: the object's ETag; for a folder, the SHA-256 of the keys and ETags of its parts and commit markers.
        members: the object; for a folder, all objects in it.
        landed_at: when the last of these objects was put.
    """

    key: str
    etag: str
    members: tuple[StoredObject, ...]
    landed_at: datetime

    @property
    def is_folder(self) -> bool:
        return self.key.endswith("/")

    @property
    def parts(self) -> tuple[StoredObject, ...]:
        """The objects that may contain rows, in natural order of their keys. Commit markers decide which ones count."""
        return tuple(parts_of(self.key, self.members)) if self.is_folder else self.members

    @property
    def readable(self) -> list[StoredObject]:
        """The objects to fetch, in this order: commit markers, then objects that may contain rows."""
        markers = markers_of(self.key, self.members) if self.is_folder else []
        return [stored for stored in (*markers, *self.parts) if stored.size or not stored.has_etag]

    @property
    def size(self) -> int | None:
        """Size of the content in bytes, or None if it depends on commit markers that have not been read."""
        if self.is_folder and any(marker.size for marker in markers_of(self.key, self.members)):
            return None
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Ignored:
    """A folder or group of objects below an input prefix that is not read.

    Attributes:
        kind: ``incomplete folder`` or ``ignored objects``.
        about: the key of the folder, or the prefix of the objects.
        message: why it is not read and what to do, for the user.
    """

    kind: str
    about: str
    message: str


def chunk_name(key: str) -> str:
    """Return the last segment of a chunk's key without ``.csv``, ``.gz`` or ``.csv.gz``: ``chunk_7``."""
    return re.sub(r"(\.csv)?(\.gz)?$", "", key.rstrip("/").rpartition("/")[2], flags=re.IGNORECASE)


def find_chunks(objects: Iterable[StoredObject], prefix: str, settled: datetime = EVERYTHING_SETTLED) -> list[Chunk]:
    """Return the complete chunks below a prefix, in natural order of their keys.

    The list ends before the first folder that is about to be complete (see ``holds_up``), to keep chunks in order.

    Args:
        objects: listed objects; duplicates are allowed.
        settled: folders that have not changed since this moment are settled; see ``is_settled``.
    """
    single, folders, _ = _grouped(objects, prefix)
    chunks = [Chunk(stored.key, stored.etag, (stored,), stored.last_modified) for stored in single]
    unsettled = []
    for key, members in folders.items():
        if is_complete(key, members, settled):
            chunks.append(Chunk(key, version_of(key, members), tuple(members), _newest(members)))
        elif holds_up(key, members, settled):
            unsettled.append(natural_order(key))
    first = min(unsettled, default=None)
    in_order = sorted(chunks, key=lambda chunk: natural_order(chunk.key))
    return [chunk for chunk in in_order if first is None or natural_order(chunk.key) < first]


def find_ignored(objects: Iterable[StoredObject], prefix: str, reserved: tuple[str, ...] = ()) -> list[Ignored]:
    """Return folders and objects below the prefix that are not chunks and are older than ``GRACE_SECONDS``.

    Args:
        reserved: prefixes below it that have another use, such as the output.
    """
    before = settled_before(GRACE_SECONDS)
    _, folders, others = _grouped(objects, prefix)
    found = [
        Ignored("incomplete folder", key, _incomplete(key, members))
        for key, members in sorted(folders.items())
        if not markers_of(key, members) and parts_of(key, members) and _newest(members) <= before
    ]
    return found + find_misnamed((stored for stored in others if stored.last_modified <= before), prefix, reserved)


def find_misnamed(objects: Iterable[StoredObject], prefix: str, reserved: tuple[str, ...] = ()) -> list[Ignored]:
    """Return objects below the prefix, but not below those in ``reserved``, that are not named like a chunk."""
    _, _, others = _grouped((stored for stored in objects if not stored.key.startswith(reserved)), prefix)
    names = sorted({_first_segment(stored.key.removeprefix(prefix)) for stored in others})
    if not names:
        return []
    message = (
        f"{misnamed(names)} not named like a chunk and will not be read. Chunks are named {prefix}chunk_<something>, "
        f"optionally with the extension .csv, .csv.gz or .gz. Rename or move {'it' if len(names) == 1 else 'them'}."
    )
    return [Ignored("ignored objects", prefix, message)]


def misnamed(names: Sequence[str]) -> str:
    """Return the start of a sentence about ignored objects and folders: ``a, b, c and 2 more are``."""
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return f"{', '.join(names[:EXAMPLES])}{more} {'is' if len(names) == 1 else 'are'}"


def _first_segment(name: str) -> str:
    segment, slash, _ = name.partition("/")
    return segment + slash


def _incomplete(key: str, members: Sequence[StoredObject]) -> str:
    count, since = len(parts_of(key, members)), _newest(members)
    return (
        f"has had {count} part{'s' * (count != 1)} but no _SUCCESS marker since {since:%Y-%m-%d %H:%M} UTC, so it is "
        "not read. If the job has finished, write the marker (mapreduce.fileoutputcommitter.marksuccessfuljobs=true)."
    )


def _newest(members: Sequence[StoredObject]) -> datetime:
    return max(member.last_modified for member in members)


def _grouped(
    objects: Iterable[StoredObject], prefix: str
) -> tuple[list[StoredObject], dict[str, list[StoredObject]], list[StoredObject]]:
    """Group objects below a prefix into single-object chunks, folders named like chunks, and misnamed objects."""
    single, folders, others = [], defaultdict(list), []
    for stored in {stored.key: stored for stored in objects if stored.key.startswith(prefix)}.values():
        name = stored.key.removeprefix(prefix)
        first, slash, _ = name.partition("/")
        if not _is_chunk_name(first):
            if not is_companion(name):
                others.append(stored)
        elif slash:
            folders[f"{prefix}{first}/"].append(stored)
        else:
            single.append(stored)
    return single, folders, others


def _is_chunk_name(name: str) -> bool:
    found = CHUNK_NAME.fullmatch(name)
    return found is not None and not OTHER_EXTENSION.search(found[1]) and not COPY.search(found[1]) and is_input(name)
