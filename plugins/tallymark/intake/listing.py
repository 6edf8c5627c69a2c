"""Where in the bucket new chunks are looked for, so that looking does not list all that ever landed.

Chunks are numbered as a rule. The key of the next one sorts close behind that of the last one (between chunk_2999 and
chunk_3000 come chunk_3, chunk_30 and chunk_300) or, when its number has one digit more, begins with 1 and zeros.
Everything is listed while one call to S3 shows it all, every ``full_listing_seconds``, and always when the names of
chunks do not grow: so late chunks, changed ones and those with other names are found too.
"""

import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tallymark.intake.chunks import chunk_name
from tallymark.intake.folders import natural_order
from tallymark.settings import Settings
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


def places(settings: Settings) -> list[Place]:
    """Where to look now. Places may overlap."""
    if _seconds_since_full_listing(settings) > settings.full_listing_seconds:
        return [Place(settings.transactions_prefix)]
    return places_behind(settings, LedgerIndex(settings).last_keys(KEYS_PER_CALL))


def places_behind(settings: Settings, keys: Sequence[str]) -> list[Place]:
    """Where to look for chunks that follow those that were taken.

    Args:
        keys: those of the last ``KEYS_PER_CALL`` chunks in the order in which they were taken, or of all, if there were
            fewer.
    """
    if len(keys) < KEYS_PER_CALL or not names_grow(keys):
        return [Place(settings.transactions_prefix)]
    last = max(keys, key=natural_order)
    number = re.match("[0-9]*", last.removeprefix(f"{settings.transactions_prefix}chunk_")).group()
    one_digit_more = f"{settings.transactions_prefix}chunk_1{'0' * len(number)}"
    return [Place(settings.transactions_prefix, after=last), Place(one_digit_more)]


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


def found_nothing(settings: Settings) -> None:
    """Note that a full listing left no chunk to be taken."""
    if settings.warehouse.parent.is_dir():
        _marker(settings).touch()


def _seconds_since_full_listing(settings: Settings) -> float:
    try:
        return time.time() - _marker(settings).stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _marker(settings: Settings) -> Path:
    return settings.beside("listed")
