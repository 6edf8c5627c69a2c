"""The backlog: chunks in the bucket that are not in the published ledger, from a cached listing.

Only keys where new chunks can appear are listed, as in the load step.
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
    """Lists at most ``MAX_KEYS`` objects, at most once every ``LIST_AGAIN_SECONDS``."""

    def __init__(self, settings: Settings, reader: Reader):
        self._settings = settings
        self._reader = reader
        self._lock = threading.Lock()
        self._listed_at = float("-inf")
        self._found: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """Return counts of landed and waiting chunks, and ages in seconds.

        If the listing failed, the counts are None and ``listing_problem`` says why.
        """
        with self._lock:
            if time.monotonic() - self._listed_at > LIST_AGAIN_SECONDS:
                try:
                    self._found = self._list()
                except Exception as error:
                    log.exception("Failed to list the bucket")
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
        """Compare chunks with the published ledger, as ``ledger.seen_as`` does with the warehouse's ledger."""
        if not self._reader.is_published:
            return [("new", True)] * len(chunks)
        with self._reader.cursor() as cursor:
            ledger.create_ledger_views(cursor, self._settings.limits)
            return ledger.seen_as(cursor, chunks)
