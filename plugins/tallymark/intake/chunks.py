"""Which objects make up which chunk, in which order chunks are taken, and what below the prefix is no chunk."""

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

# A chunk is named chunk_<something>, and ends there, in .csv or in .gz: whatever follows those is a copy.
CHUNK_NAME = re.compile(r"chunk_(.+?)(?i:\.csv)?(?i:\.gz)?", re.DOTALL)
COPY = re.compile(r"\.(csv|gz)(?![a-z0-9])", re.IGNORECASE)
# Another ending begins with a letter; aws s3 sync gives its unfinished copies an ending of eight hexadecimal digits.
OTHER_ENDING = re.compile(r"\.([a-z_][^.]*|(?=[0-9]*[a-f])[0-9a-f]{8})\Z", re.IGNORECASE)
EVERYTHING_SETTLED = datetime.max.replace(tzinfo=UTC)
# A name may be that of an upload that goes on, and a folder may lack its marker for a while.
GRACE_SECONDS = 300
EXAMPLES = 3


@dataclass(frozen=True)
class Chunk:
    """One object, or a folder of part files that its commit protocol declares complete.

    Attributes:
        key: the object's key; of a folder the common part of the keys, with the slash at its end.
        etag: the object's ETag; of a folder a SHA-256 over keys and ETags of its parts and commit markers.
        members: the object; of a folder all objects in it.
        landed_at: when the last of its objects was put.
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
        """The objects that may hold rows, in natural order of their keys; commit markers decide which of them count."""
        return tuple(parts_of(self.key, self.members)) if self.is_folder else self.members

    @property
    def readable(self) -> list[StoredObject]:
        """The objects that are fetched to read the chunk, in that order: commit markers, and what may hold rows."""
        markers = markers_of(self.key, self.members) if self.is_folder else []
        return [stored for stored in (*markers, *self.parts) if stored.size or not stored.has_etag]

    @property
    def size(self) -> int | None:
        """Bytes of the content; None: commit markers have to be read first."""
        if self.is_folder and any(marker.size for marker in markers_of(self.key, self.members)):
            return None
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Ignored:
    """Something below an input prefix that is no input.

    Attributes:
        kind: ``incomplete folder`` or ``ignored objects``.
        about: the folder's key, or the prefix that the objects are below.
        message: a sentence for people.
    """

    kind: str
    about: str
    message: str


def chunk_name(key: str) -> str:
    """The last part of a chunk's key without ``.csv``, ``.csv.gz``: ``chunk_7``."""
    return re.sub(r"(\.csv)?(\.gz)?$", "", key.rstrip("/").rpartition("/")[2], flags=re.IGNORECASE)


def find_chunks(objects: Iterable[StoredObject], prefix: str, settled: datetime = EVERYTHING_SETTLED) -> list[Chunk]:
    """The complete chunks among the objects below a prefix, in natural order of their keys.

    They end before the first folder that ``holds_up`` those behind it, so that chunks are taken in their order.

    Args:
        objects: an object may come twice.
        settled: objects that were put before this moment no longer have others coming behind them; see ``is_settled``.
    """
    single, folders, _ = _grouped(objects, prefix)
    chunks = [Chunk(stored.key, stored.etag, (stored,), stored.last_modified) for stored in single]
    held_up = []
    for key, members in folders.items():
        if is_complete(key, members, settled):
            chunks.append(Chunk(key, version_of(key, members), tuple(members), _newest(members)))
        elif holds_up(key, members, settled):
            held_up.append(natural_order(key))
    first = min(held_up, default=None)
    in_order = sorted(chunks, key=lambda chunk: natural_order(chunk.key))
    return [chunk for chunk in in_order if first is None or natural_order(chunk.key) < first]


def find_ignored(objects: Iterable[StoredObject], prefix: str, apart: tuple[str, ...] = ()) -> list[Ignored]:
    """What lies below the prefix, is no chunk, and has been there for ``GRACE_SECONDS``.

    Args:
        apart: prefixes below it that belong to something else, such as the output.
    """
    before = settled_before(GRACE_SECONDS)
    _, folders, others = _grouped(objects, prefix)
    found = [
        Ignored("incomplete folder", key, _incomplete(key, members))
        for key, members in sorted(folders.items())
        if not markers_of(key, members) and parts_of(key, members) and _newest(members) <= before
    ]
    return found + find_misnamed((stored for stored in others if stored.last_modified <= before), prefix, apart)


def find_misnamed(objects: Iterable[StoredObject], prefix: str, apart: tuple[str, ...] = ()) -> list[Ignored]:
    """What lies below the prefix, not below those ``apart``, and is no chunk by its name."""
    _, _, others = _grouped((stored for stored in objects if not stored.key.startswith(apart)), prefix)
    names = sorted({_first_segment(stored.key.removeprefix(prefix)) for stored in others})
    if not names:
        return []
    message = (
        f"{misnamed(names)} not named as a chunk and will not be read. A chunk is named {prefix}chunk_<something> and "
        "ends there, in .csv or in .csv.gz. Rename or move what is misplaced."
    )
    return [Ignored("ignored objects", prefix, message)]


def misnamed(names: Sequence[str]) -> str:
    """The beginning of a sentence about objects and folders that are no input: ``a, b, c and 2 more are``."""
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return f"{', '.join(names[:EXAMPLES])}{more} {'is' if len(names) == 1 else 'are'}"


def _first_segment(name: str) -> str:
    segment, slash, _ = name.partition("/")
    return segment + slash


def _incomplete(key: str, members: Sequence[StoredObject]) -> str:
    count, since = len(parts_of(key, members)), _newest(members)
    return (
        f"has {count} part{'s' * (count != 1)} and no _SUCCESS marker since {since:%Y-%m-%d %H:%M} UTC, so it is not "
        "read. If the job has ended, write the marker (mapreduce.fileoutputcommitter.marksuccessfuljobs=true)."
    )


def _newest(members: Sequence[StoredObject]) -> datetime:
    return max(member.last_modified for member in members)


def _grouped(
    objects: Iterable[StoredObject], prefix: str
) -> tuple[list[StoredObject], dict[str, list[StoredObject]], list[StoredObject]]:
    """Objects that are chunks, the objects of folders that are named as chunks, and others that somebody may miss."""
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
    return found is not None and not OTHER_ENDING.search(found[1]) and not COPY.search(found[1]) and is_input(name)
