"""Which of the chunks in the bucket wait to be taken; asked without opening the warehouse."""

import time
from collections.abc import Iterable, Sequence

from tallymark.intake.chunks import Chunk, find_chunks
from tallymark.settings import Settings
from tallymark.store import StoredObject
from tallymark.warehouse import ledger_copy


def waiting_chunks(settings: Settings, objects: Iterable[StoredObject]) -> list[Chunk]:
    """Complete chunks among the listed objects that are a reason for a run, in natural order of their keys.

    All of them, when nobody can tell without opening the warehouse. Those that S3 refused wait a while before they
    count again.
    """
    chunks = find_chunks(objects, settings.transactions_prefix)
    return unknown_chunks(settings, chunks, before=time.time()) if ledger_copy.is_true(settings) else chunks


def unknown_chunks(settings: Settings, chunks: Sequence[Chunk], before: float = float("inf")) -> list[Chunk]:
    """Those that the ledger lacks, as far as its copy tells, in the order given.

    Args:
        before: as ``ledger_copy.are_known`` has it.
    """
    known = ledger_copy.are_known(settings, [(chunk.key, chunk.etag) for chunk in chunks], before)
    return [chunk for chunk, is_known in zip(chunks, known, strict=True) if not is_known]
