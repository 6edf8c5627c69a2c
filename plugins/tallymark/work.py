"""Is there anything to do? Answered without opening the warehouse."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from tallymark import ledger_copy
from tallymark.chunks import Chunk, find_chunks
from tallymark.settings import Settings
from tallymark.store import StoredObject


def waiting_chunks(settings: Settings, objects: Iterable[StoredObject]) -> list[Chunk]:
    """Complete chunks among the listed objects that the ledger does not have, in natural order of their keys.

    All of them, when nobody can tell without opening the warehouse. Those that S3 refused wait a while before they
    count again.
    """
    chunks = find_chunks(objects, settings.transactions_prefix)
    return ledger_copy.unknown_chunks(settings, chunks, time.time()) if ledger_copy.is_true(settings) else chunks


def unfinished_work(settings: Settings) -> bool:
    """Whether a run loaded chunks whose detections are not all out yet, or nobody can tell.

    True after a run that failed or was killed between load and export, when the warehouse was changed by somebody
    else, and once detections that were held back to fill a file (``hold_remainder_seconds``) have waited long enough.
    """
    if not is_open(settings):
        return False
    due_at = ledger_copy.is_true(settings) and ledger_copy.due_at(settings)
    return not due_at or datetime.fromisoformat(due_at) <= datetime.now(UTC)


def is_open(settings: Settings) -> bool:
    """Whether anything is begun and not finished, held back detections included, or nobody can tell."""
    if not settings.warehouse.exists():
        return False
    return not ledger_copy.is_true(settings) or ledger_copy.due_at(settings) is not None


def begin(settings: Settings) -> None:
    """Note, before the first change, that there will be something to finish."""
    ledger_copy.set_due_at(settings, "")


def finish(settings: Settings, held_until: datetime | None = None) -> None:
    """Note that everything is out, or is held back until a time (aware)."""
    ledger_copy.set_due_at(settings, held_until and held_until.isoformat())
