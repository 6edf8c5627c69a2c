"""Where in the bucket new chunks are looked for, and which of those found are waiting to be taken.

Nothing here opens the warehouse, and a look does not list all that ever landed.

Chunks are numbered as a rule. The key of the next one sorts close behind that of the last one (between chunk_2999 and
chunk_3000 come chunk_3, chunk_30 and chunk_300) or, when its number has one digit more, begins with 1 and zeros.
Everything is listed while one call to S3 shows it all, every ``full_listing_seconds``, and always when the names of
chunks do not grow: so late chunks, changed ones and those with other names are found too.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tallymark.intake.chunks import Chunk, chunk_name, find_chunks, find_ignored
from tallymark.intake.folders import natural_order, settled_before
from tallymark.settings import Settings
from tallymark.store import StoredObject
from tallymark.warehouse.ledger_index import LedgerIndex

KEYS_PER_CALL = 1_000
# Names grow when most differ in their numbers alone, and few of the last 50 chunks were late.
ALIKE_AT_LEAST = 0.9
RECENT, LATE_AT_MOST = 50, 5


class Place(NamedTuple):
    """Keys that begin with ``prefix`` and sort behind ``after``, by bytes as S3 does; how far, ``is_passed`` tells."""

    prefix: str
    after: str = ""

    def is_passed(self, keys: Sequence[str]) -> bool:
        """Whether keys that one call listed end with one that is older than ``after``: new ones come before that.

        What they miss all the same is there when the place is looked at from the next chunk on. A folder whose parts
        are not all listed yet never ends them.
        """
        return bool(self.after) and (not keys or natural_order(keys[-1]) <= natural_order(self.after))


def places(index: LedgerIndex, prefix: str, full_listing_seconds: float) -> list[Place]:
    """Where to look now. Places may overlap.

    Args:
        prefix: of the transactions.
        full_listing_seconds: the setting.
    """
    if time.time() - index.listed_at() > full_listing_seconds:
        return [Place(prefix)]
    return places_behind(prefix, index.last_keys(KEYS_PER_CALL))


def places_behind(prefix: str, keys: Sequence[str]) -> list[Place]:
    """Where to look for chunks that follow those that were taken.

    Args:
        keys: those of the last ``KEYS_PER_CALL`` chunks in the order in which they were taken, or of all, if there were
            fewer.
    """
    if len(keys) < KEYS_PER_CALL or not names_grow(keys):
        return [Place(prefix)]
    last = max(keys, key=natural_order)
    name = last.removeprefix(f"{prefix}chunk_")
    digits = len(name) - len(name.lstrip("0123456789"))
    return [Place(prefix, after=last), Place(f"{prefix}chunk_1{'0' * digits}")]


def names_grow(keys: Sequence[str]) -> bool:
    """Whether a chunk that lands later sorts behind those before it: not so with UUIDs, or host names in front.

    Such names differ in more than their numbers, or most chunks turn up before the last one that was taken.

    Args:
        keys: of chunks, in the order in which they were taken.
    """
    [(_, alike)] = Counter(re.sub("[0-9]+", "0", chunk_name(key)) for key in keys).most_common(1)
    if alike < ALIKE_AT_LEAST * len(keys):
        return False
    order = [natural_order(key) for key in keys]
    last, late = max(order[:-RECENT], default=order[0]), 0
    for key in order[-RECENT:]:
        late += key < last
        last = max(last, key)
    return late <= LATE_AT_MOST


def waiting_chunks(settings: Settings, objects: Iterable[StoredObject]) -> list[Chunk]:
    """Complete chunks among the listed objects that are a reason for a run, in natural order of their keys.

    All of them, when the ledger index is not valid. Unreadable chunks count again when their next attempt is due.
    """
    index = LedgerIndex(settings.warehouse, settings.limits)
    chunks = find_chunks(objects, settings.transactions_prefix, settled_before(settings.folder_settle_seconds))
    return unknown_chunks(index, chunks, before=time.time()) if index.is_valid() else chunks


def has_newly_ignored(settings: Settings, objects: Iterable[StoredObject]) -> bool:
    """Whether there is something among the listed objects that is no input, and that no run has recorded yet."""
    found = find_ignored(objects, settings.transactions_prefix, settings.apart)
    known = LedgerIndex(settings.warehouse, settings.limits).ignored()
    return bool({(ignored.kind, ignored.about) for ignored in found} - known)


def unknown_chunks(index: LedgerIndex, chunks: Sequence[Chunk], before: float = float("inf")) -> list[Chunk]:
    """Those that the ledger lacks, as far as the ledger index tells, in the order given.

    Args:
        before: as ``LedgerIndex.are_known`` has it.
    """
    known = index.are_known([(chunk.key, chunk.etag) for chunk in chunks], before)
    return [chunk for chunk, is_known in zip(chunks, known, strict=True) if not is_known]
