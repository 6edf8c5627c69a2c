"""From new objects in the bucket to rows in the warehouse, each chunk with its ledger row in one transaction."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import duckdb

from tallymark.intake import ledger, listing
from tallymark.intake.chunks import Chunk, find_chunks, misnamed
from tallymark.intake.csv_lines import CsvObject, RejectedError
from tallymark.intake.importance import load_customer_importance
from tallymark.intake.judging import judged, remarks_on_ids
from tallymark.intake.rejected import plan_rejected
from tallymark.intake.transactions import insert_rows, read_chunk
from tallymark.intake.waiting import unknown_chunks
from tallymark.outbox import manifest
from tallymark.outbox.files import put_planned
from tallymark.settings import Settings
from tallymark.store import Store, StoredObject, UnreadableError
from tallymark.store.ahead import fetched_ahead
from tallymark.warehouse import ledger_copy
from tallymark.warehouse.connection import WarehouseError, connect, transaction, utc_now

log = logging.getLogger(__name__)

# So many chunks that S3 refuses are enough to ask whether it answers at all.
MAX_REFUSED = 100
# How much text is judged by one statement and committed at once: 50 chunks or so, and some hundred MB of memory.
GROUP_CHARACTERS = 32 * 2**20


@dataclass(frozen=True)
class ReadChunk:
    """A chunk that was fetched; one that is rejected whole has no files."""

    entry: ledger.Entry
    files: Sequence[CsvObject]

    @property
    def characters(self) -> int:
        return sum(len(file.text) for file in self.files)


def load_chunks(
    settings: Settings, store: Store, max_chunks: int | None = None, objects: Iterable[StoredObject] | None = None
) -> dict[str, int]:
    """Take the chunks that the ledger lacks, in natural order of their keys, and then those that landed meanwhile.

    Args:
        max_chunks: how many at most, at least 1; ``settings.max_chunks_per_run`` unless given.
        objects: what was found in the bucket already, instead of listings of all of it.

    Returns:
        ``chunks_accepted``, ``chunks_rejected`` whole and ``chunks_in_conflict``, and ``rows_accepted`` and
        ``rows_rejected`` of the accepted ones; ``chunks_waiting``, if S3 refused any.

    Raises:
        ObjectChangedError: when an object was replaced between listing and reading; try again.
        UnreadableError: when S3 refuses what it is asked for, and does not answer for any other object.
        ValueError: when ``max_chunks`` is less than 1.
        WarehouseError: when the warehouse is open elsewhere, lost or broken.
    """
    left = settings.max_chunks_per_run if max_chunks is None else max_chunks
    if left < 1:
        raise ValueError(f"max_chunks is {left}; a run takes 1 chunk or more")
    taken = Counter(chunks_accepted=0, chunks_rejected=0, chunks_in_conflict=0, rows_accepted=0, rows_rejected=0)
    refused: dict[Chunk, UnreadableError] = {}
    with connect(settings) as warehouse:
        if ledger.next_chunk_seq(warehouse) == 1:
            _must_be_first(settings, store)
        if not ledger_copy.path(settings).exists():
            ledger.update_copy(settings, warehouse, ())
        ledger_copy.begin(settings)
        importance_version = load_customer_importance(settings, store, warehouse)
        while waiting := _waiting(settings, store, objects, refused)[:left]:
            seen_as = list(zip(waiting, ledger.seen_as(settings, warehouse, waiting), strict=True))
            conflicts = [chunk for chunk, how in seen_as if how == "conflict"]
            taken["chunks_in_conflict"] += _record_conflicts(warehouse, conflicts)
            read = _read(
                settings, store, [chunk for chunk, how in seen_as if how == "new"], importance_version, refused
            )
            for group in _groups(read):
                taken.update(_take(settings, warehouse, group))
            if done := [chunk for chunk in waiting if chunk not in refused]:
                ledger.update_copy(settings, warehouse, done)
            left -= len(done)
            if len(refused) >= MAX_REFUSED and not _answers(store, warehouse, taken, refused):
                break
        put_planned(settings, store, warehouse)
        if refused:
            if not _answers(store, warehouse, taken, refused):
                raise next(iter(refused.values()))
            taken["chunks_waiting"] = len(refused)
        _record_unreadable(settings, warehouse, refused)
    return dict(taken)


def _waiting(
    settings: Settings, store: Store, objects: Iterable[StoredObject] | None, refused: Container[Chunk]
) -> list[Chunk]:
    def unknown(objects: Iterable[StoredObject]) -> list[Chunk]:
        chunks = unknown_chunks(settings, find_chunks(objects, settings.transactions_prefix))
        return [chunk for chunk in chunks if chunk not in refused]

    if objects is not None:
        return unknown(objects)
    places = listing.places(settings)
    listed = list(chain.from_iterable(store.list(place.prefix, place.after, place.is_passed) for place in places))
    waiting = unknown(listed)
    if not waiting:
        listing.found_nothing(settings, places)
        if ignored := misnamed(listed, settings.transactions_prefix):
            log.warning(
                "IGNORED: %s %s. A chunk is called chunk_<something>, and ends there, in .csv or in .csv.gz.",
                ignored[0],
                f"and {len(ignored) - 1} more are no chunks by their names"
                if ignored[1:]
                else "is no chunk by its name",
            )
    return waiting


def _record_conflicts(warehouse: duckdb.DuckDBPyConnection, chunks: Sequence[Chunk]) -> int:
    for chunk in chunks:
        ledger.record_conflict(warehouse, chunk)
        log.error(
            "CONFLICT: %s was taken before and now has ETag %s. Its new content is not counted. "
            "If it holds other transactions, put them under a new key.",
            chunk.key,
            chunk.etag,
        )
    return len(chunks)


def _answers(
    store: Store,
    warehouse: duckdb.DuckDBPyConnection,
    taken: Mapping[str, int],
    refused: Mapping[Chunk, UnreadableError],
) -> bool:
    """Whether S3 answers for other objects, so that it is these that it refuses, and not us."""
    if taken["chunks_accepted"] or any(error.is_archived for error in refused.values()):
        return True
    last = warehouse.execute(
        "select chunk_key from raw.chunks where rows_in_file is not null order by chunk_seq desc limit 1"
    ).fetchone()
    known = next((stored for stored in store.list(last[0]) if stored.size), None) if last else None
    if known is None:
        return False
    try:
        store.get(known)
    except UnreadableError as error:
        return error.is_archived
    return True


def _record_unreadable(
    settings: Settings, warehouse: duckdb.DuckDBPyConnection, refused: Mapping[Chunk, UnreadableError]
) -> None:
    for chunk, error in refused.items():
        log.warning("WAITS: %s, as S3 refuses it and answers for others. It is tried again. %s", chunk.key, error)
    ledger.record_unreadable(warehouse, {chunk: str(error) for chunk, error in refused.items()})
    ledger_copy.add_refused(settings, [(chunk.key, chunk.etag) for chunk in refused])


def _read(
    settings: Settings,
    store: Store,
    chunks: Sequence[Chunk],
    importance_version: int | None,
    refused: dict[Chunk, UnreadableError],
) -> Iterator[ReadChunk]:
    """Chunks that could be fetched; the others are put into ``refused``."""
    with fetched_ahead(store.get, [part for chunk in chunks for part in chunk.parts if part.size]) as get:
        for chunk in chunks:
            entry = ledger.Entry(chunk, importance_version, y_started_at=utc_now())
            try:
                files = read_chunk(settings, get, chunk)
            except RejectedError as error:
                yield ReadChunk(dataclasses.replace(entry, reason=str(error)), [])
            except UnreadableError as error:
                refused[chunk] = error
            else:
                yield ReadChunk(dataclasses.replace(entry, rows_in_file=sum(file.rows for file in files)), files)


def _groups(chunks: Iterable[ReadChunk]) -> Iterator[list[ReadChunk]]:
    """Chunks to be judged together; when the next one cannot be fetched, those before it come first."""
    group = []
    try:
        for read in chunks:
            group.append(read)
            if sum(chunk.characters for chunk in group) >= GROUP_CHARACTERS:
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def _must_be_first(settings: Settings, store: Store) -> None:
    """Raise a WarehouseError when the ledger is empty though something went out already."""
    if next(iter(store.list(manifest.folder(settings))), None):
        raise WarehouseError(
            f"The warehouse {settings.warehouse} holds no chunk, and the bucket holds manifests of what went out "
            "before. Its file was lost or moved: put it back, or make it again from the bucket with: make rebuild"
        )


def _take(settings: Settings, warehouse: duckdb.DuckDBPyConnection, group: Sequence[ReadChunk]) -> dict[str, int]:
    """Write the rows of chunks and their ledger rows; returns what to add to the counts of load_chunks."""
    entries = [read.entry for read in group]
    first = ledger.next_chunk_seq(warehouse)
    files = [file for read in group for file in read.files]
    with judged(warehouse, files, "transactions", settings.missing_values) as by_lines, transaction(warehouse):
        insert_rows(warehouse, {chunk_seq: read.files for chunk_seq, read in enumerate(group, first)})
        counts = ledger.record(warehouse, first, entries)
        plan_rejected(settings, warehouse, since=first)
    chunk_keys = [read.entry.chunk.key for read in group for _ in read.files]
    on_ids = remarks_on_ids(warehouse, chunk_keys) if by_lines else []
    for remark in ledger.remarks(warehouse, since=first) + on_ids:
        log.warning(remark)
    for entry, (accepted, rejected) in zip(entries, counts, strict=True):
        if entry.reason:
            log.error(
                "REJECTED: %s %s. Put a corrected object under the same key%s.",
                entry.chunk.key,
                entry.reason,
                ", or change the setting" if entry.reason.endswith(tuple(settings.limits)) else "",
            )
        else:
            log.info("%s: %d rows accepted, %d rejected", entry.chunk.key, accepted, rejected)
    rejected_whole = sum(1 for entry in entries if entry.reason)
    return {
        "chunks_accepted": len(entries) - rejected_whole,
        "chunks_rejected": rejected_whole,
        "rows_accepted": sum(accepted for accepted, _ in counts),
        "rows_rejected": sum(rejected for _, rejected in counts),
    }
