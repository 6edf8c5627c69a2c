"""Which chunks lie in the bucket and were not taken yet, from a listing that is kept for some seconds.

It looks where new chunks are to be expected, as the load does.
"""

import logging
import threading
import time
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from tallymark.intake import ledger, listing
from tallymark.intake.chunks import Chunk, find_chunks
from tallymark.page.reader import Reader
from tallymark.settings import Settings

log = logging.getLogger(__name__)

LIST_AGAIN_SECONDS = 5.0
MAX_KEYS = 20_000
NOTHING_TAKEN: dict[str, Any] = {"chunks": 0, "last_landed_at": None, "last_keys": []}


class Backlog:
    """Lists at most ``MAX_KEYS`` objects, and at most once in ``LIST_AGAIN_SECONDS``."""

    def __init__(self, settings: Settings, reader: Reader):
        self._settings = settings
        self._reader = reader
        self._lock = threading.Lock()
        self._listed_at = float("-inf")
        self._found: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """How many chunks are waiting, and since when the oldest does; ``listing_problem`` if S3 does not say."""
        with self._lock:
            if time.monotonic() - self._listed_at > LIST_AGAIN_SECONDS:
                try:
                    self._found = self._list()
                except Exception as error:
                    log.exception("The bucket cannot be listed")
                    self._found = {"landed": None, "waiting": None, "listing_problem": str(error)}
                self._listed_at = time.monotonic()
            return self._found

    def _list(self) -> dict[str, Any]:
        taken = next(iter(self._reader.query("from taken($last)", last=listing.KEYS_PER_CALL)), NOTHING_TAKEN)
        places = listing.places_behind(self._settings.transactions_prefix, taken["last_keys"])
        listed = (self._reader.store.list(place.prefix, place.after, place.is_passed) for place in places)
        objects = list(islice(chain.from_iterable(listed), MAX_KEYS))
        chunks = find_chunks(objects, self._settings.transactions_prefix)
        seen = self._seen_as(chunks)
        waiting = [chunk for chunk, (state, _) in zip(chunks, seen, strict=True) if state != "known"]
        landed_at = [chunk.landed_at for chunk in chunks]
        if taken["last_landed_at"]:
            landed_at.append(datetime.fromisoformat(taken["last_landed_at"]))
        oldest = min((chunk.landed_at for chunk in waiting), default=None)
        now = datetime.now(UTC)
        is_cut = len(objects) == MAX_KEYS
        return {
            "landed": taken["chunks"] + sum(is_new_key for _, is_new_key in seen),
            "listing_is_cut": is_cut,
            "waiting": len(waiting),
            "oldest_waits_seconds": oldest and (now - oldest).total_seconds(),
            "nothing_landed_for_seconds": (now - max(landed_at)).total_seconds() if landed_at and not is_cut else None,
        }

    def _seen_as(self, chunks: list[Chunk]) -> list[tuple[ledger.State, bool]]:
        """What the published ledger says of chunks, as ``ledger.seen_as`` does of the warehouse's."""
        if not self._reader.is_published:
            return [("new", True)] * len(chunks)
        with self._reader.cursor() as cursor:
            ledger.create_ledger_views(cursor, self._settings.limits)
            return ledger.seen_as(cursor, chunks)
