"""Which of the chunks in the bucket wait to be taken; asked without opening the warehouse."""

import time
from collections.abc import Iterable, Sequence

from tallymark.intake.chunks import Chunk, find_chunks, find_ignored
from tallymark.intake.folders import settled_before
from tallymark.settings import Settings
from tallymark.store import StoredObject
from tallymark.warehouse.ledger_index import LedgerIndex


def waiting_chunks(settings: Settings, objects: Iterable[StoredObject]) -> list[Chunk]:
    """Complete chunks among the listed objects that are a reason for a run, in natural order of their keys.

    All of them, when the ledger index is not valid. Unreadable chunks count again when their next attempt is due.
    """
    chunks = find_chunks(objects, settings.transactions_prefix, settled_before(settings.folder_settle_seconds))
    return unknown_chunks(settings, chunks, before=time.time()) if LedgerIndex(settings).is_valid() else chunks


def has_newly_ignored(settings: Settings, objects: Iterable[StoredObject]) -> bool:
    """Whether there is something among the listed objects that is no input, and that no run has recorded yet."""
    found = find_ignored(objects, settings.transactions_prefix, settings.apart)
    return bool({(ignored.kind, ignored.about) for ignored in found} - LedgerIndex(settings).ignored())


def unknown_chunks(settings: Settings, chunks: Sequence[Chunk], before: float = float("inf")) -> list[Chunk]:
    """Those that the ledger lacks, as far as the ledger index tells, in the order given.

    Args:
        before: as ``LedgerIndex.are_known`` has it.
    """
    known = LedgerIndex(settings).are_known([(chunk.key, chunk.etag) for chunk in chunks], before)
    return [chunk for chunk, is_known in zip(chunks, known, strict=True) if not is_known]
