"""Which chunks lie in the bucket and were not taken yet, from a listing that is kept for some seconds."""

import json
import logging
import threading
import time
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from tallymark.intake.chunks import find_chunks
from tallymark.page.reader import Reader
from tallymark.settings import Settings

log = logging.getLogger(__name__)

LIST_AGAIN_SECONDS = 5.0
MAX_KEYS = 20_000


class Waiting:
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
        prefix = self._settings.transactions_prefix
        objects = list(islice(self._reader.store.list(prefix), MAX_KEYS))
        chunks = find_chunks(objects, prefix)
        waiting = chunks
        if self._reader.is_published():
            keys, etags = json.dumps([chunk.key for chunk in chunks]), json.dumps([chunk.etag for chunk in chunks])
            listed = {"keys": keys, "etags": etags, "limits": self._settings.limits}
            unknown = self._reader.query("unknown_chunks", **listed)
            waiting = [chunks[row["place"]] for row in unknown]
        oldest = min((chunk.landed_at for chunk in waiting), default=None)
        last = max((chunk.landed_at for chunk in chunks), default=None)
        now = datetime.now(UTC)
        is_cut = len(objects) == MAX_KEYS
        return {
            "landed": len(chunks),
            "listing_is_cut": is_cut,
            "waiting": len(waiting),
            "oldest_waits_seconds": oldest and (now - oldest).total_seconds(),
            "nothing_landed_for_seconds": (now - last).total_seconds() if last and not is_cut else None,
        }
