"""Search for new chunks in the bucket, without opening the warehouse and without listing every chunk that ever landed.

Chunks are usually numbered. The key of the next chunk sorts shortly after the key of the last one (between chunk_2999
and chunk_3000 there are only chunk_3, chunk_30 and chunk_300). If its number has one more digit, it begins with 1 and
zeros. All chunks are listed as long as one call to S3 returns them all, then every ``full_listing_seconds``, and always
if the names of chunks do not grow. This finds late, changed and differently named chunks.
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
# Names grow if at least 90 percent of them differ only in their numbers, and at most 5 of the last 50 chunks were late.
MIN_SIMILAR = 0.9
RECENT, MAX_LATE = 50, 5


class Place(NamedTuple):
    """Keys to list: those that begin with ``prefix`` and sort after ``after`` in byte order, until ``is_passed``."""

    prefix: str
    after: str = ""

    def is_passed(self, keys: Sequence[str]) -> bool:
        """Return whether a page of keys is empty or ends with a chunk older than ``after``; new chunks come before it.

        A new chunk that is missed nevertheless is found once the place starts at a later chunk. A page that ends inside
        the folder of a new chunk never ends the listing.
        """
        return bool(self.after) and (not keys or natural_order(keys[-1]) <= natural_order(self.after))


def places(index: LedgerIndex, prefix: str, full_listing_seconds: float) -> list[Place]:
    """Return the places to list now; they may overlap.

    Args:
        prefix: the prefix of the transactions.
        full_listing_seconds: the setting.
    """
    if time.time() - index.listed_at() > full_listing_seconds:
        return [Place(prefix)]
    return places_behind(prefix, index.last_keys(KEYS_PER_CALL))


def places_behind(prefix: str, keys: Sequence[str]) -> list[Place]:
    """Return the places to list for chunks that follow those already taken.

    Args:
        keys: keys of the last ``KEYS_PER_CALL`` chunks, or of all chunks if there are fewer, in the order taken.
    """
    if len(keys) < KEYS_PER_CALL or not names_grow(keys):
        return [Place(prefix)]
    last = max(keys, key=natural_order)
    name = last.removeprefix(f"{prefix}chunk_")
    digits = len(name) - len(name.lstrip("0123456789"))
    return [Place(prefix, after=last), Place(f"{prefix}chunk_1{'0' * digits}")]


def names_grow(keys: Sequence[str]) -> bool:
    """Return whether later chunks sort after earlier ones.

    This is not the case with UUIDs, or with host names before the number. Such names differ in more than their numbers,
    or many chunks sort before the last one that was taken.

    Args:
        keys: keys of chunks, in the order taken.
    """
    [(_, similar)] = Counter(re.sub("[0-9]+", "0", chunk_name(key)) for key in keys).most_common(1)
    if similar < MIN_SIMILAR * len(keys):
        return False
    order = [natural_order(key) for key in keys]
    last, late = max(order[:-RECENT], default=order[0]), 0
    for key in order[-RECENT:]:
        late += key < last
        last = max(last, key)
    return late <= MAX_LATE


def waiting_chunks(settings: Settings, objects: Iterable[StoredObject]) -> list[Chunk]:
    """Return the complete chunks among the listed objects that need a run, in natural order of their keys.

    These are the chunks that the ledger index does not know, and unreadable chunks whose next attempt is due. If the
    index is not valid, all complete chunks are returned.
    """
    index = LedgerIndex(settings.warehouse, settings.limits)
    chunks = find_chunks(objects, settings.transactions_prefix, settled_before(settings.folder_settle_seconds))
    return unknown_chunks(index, chunks, before=time.time()) if index.is_valid() else chunks


def has_newly_ignored(settings: Settings, objects: Iterable[StoredObject]) -> bool:
    """Return whether the listed objects include ignored ones that no run has recorded yet."""
    found = find_ignored(objects, settings.transactions_prefix, settings.reserved_prefixes)
    known = LedgerIndex(settings.warehouse, settings.limits).ignored()
    return bool({(ignored.kind, ignored.about) for ignored in found} - known)


def unknown_chunks(index: LedgerIndex, chunks: Sequence[Chunk], before: float = float("inf")) -> list[Chunk]:
    """Return the chunks that the ledger index does not know, in the given order.

    Args:
        before: see ``LedgerIndex.are_known``.
    """
    known = index.are_known([(chunk.key, chunk.etag) for chunk in chunks], before)
    return [chunk for chunk, is_known in zip(chunks, known, strict=True) if not is_known]
