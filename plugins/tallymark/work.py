"""Is there anything to do? Answered without opening the warehouse."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tallymark import ledger
from tallymark.chunks import Chunk, find_chunks
from tallymark.settings import Settings
from tallymark.store import StoredObject


def waiting_chunks(settings: Settings, objects: Iterable[StoredObject]) -> list[Chunk]:
    """Complete chunks among the listed objects that the ledger does not have, in natural order of their keys."""
    return ledger.unknown_chunks(settings, find_chunks(objects, settings.transactions_prefix))


def unfinished_work(settings: Settings) -> bool:
    """Whether a run loaded chunks whose detections are not all out yet.

    True after a run that failed or was killed between load and export, and once detections that were held
    back to fill a file (``hold_remainder_seconds``) have waited long enough.
    """
    try:
        due_at = _marker(settings).read_text()
    except FileNotFoundError:
        return False
    return not due_at or datetime.fromisoformat(due_at) <= datetime.now(UTC)


def is_open(settings: Settings) -> bool:
    """Whether anything is begun and not finished, held back detections included."""
    return _marker(settings).exists()


def begin(settings: Settings) -> None:
    """Note, before the first change, that there will be something to finish."""
    _marker(settings).write_text("")


def finish(settings: Settings, held_until: datetime | None = None) -> None:
    """Note that everything is out, or is held back until a time (aware)."""
    if held_until is None:
        _marker(settings).unlink(missing_ok=True)
    else:
        _marker(settings).write_text(held_until.isoformat())


def _marker(settings: Settings) -> Path:
    return settings.warehouse.with_suffix(".unfinished_work")
