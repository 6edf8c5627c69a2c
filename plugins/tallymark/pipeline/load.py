"""Load new chunks into the warehouse. The rows of a chunk and its ledger row are committed in one transaction."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import chain, islice

import duckdb

from tallymark.intake import ledger, listing
from tallymark.intake.chunks import Chunk, find_chunks, find_ignored, find_misnamed
from tallymark.intake.errors import RejectedError
from tallymark.intake.folders import is_input, natural_order, settled_before
from tallymark.intake.importance import ImportanceLoader, ImportanceSet, find_set, ignored_importance
from tallymark.intake.reading import Attempts, ChunkReader, ReadChunk
from tallymark.intake.rejected import RejectedFiles
from tallymark.intake.rows import insert_transactions, validated, warnings_on_ids
from tallymark.outbox import manifest
from tallymark.outbox.planned_files import put_planned
from tallymark.settings import Settings
from tallymark.store import Store, StoredObject
from tallymark.warehouse.connection import connect, transaction
from tallymark.warehouse.errors import must_have_room
from tallymark.warehouse.ledger_index import LedgerIndex

log = logging.getLogger(__name__)

# Maximum number of other objects to read when checking whether S3 serves any.
MAX_PROBES = 20
# Characters that are validated and committed together: about 50 chunks, and a few hundred MB of memory.
GROUP_CHARACTERS = 32 * 2**20


def load_chunks(
    settings: Settings, store: Store, max_chunks: int | None = None, objects: Sequence[StoredObject] | None = None
) -> dict[str, int]:
    """Load the chunks that are not in the ledger, in natural order of their keys, then those that landed meanwhile.

    Args:
        max_chunks: maximum number of chunks, at least 1; by default ``settings.max_chunks_per_run``.
        objects: objects below the transactions prefix that were already listed; by default, the load lists them.

    Returns:
        The numbers ``chunks_accepted``, ``chunks_rejected`` and ``chunks_in_conflict``; ``rows_accepted`` and
        ``rows_rejected`` of the accepted chunks; and ``chunks_unreadable``, if there are any.

    Raises:
        BucketError: if S3 fails or denies access, and not only for single objects.
        UnreadableError: if the first customer importance cannot be read.
        UnsettledError: if the first customer importance is incomplete.
        ValueError: if ``max_chunks`` is less than 1.
        WarehouseError: if the warehouse is open elsewhere, lost or broken.
    """
    max_chunks = settings.max_chunks_per_run if max_chunks is None else max_chunks
    if max_chunks < 1:
        raise ValueError(f"max_chunks is {max_chunks}; it must be at least 1")
    with connect(settings) as warehouse:
        return _Load(settings, store, warehouse, objects).run(max_chunks)


@dataclass(frozen=True)
class _Listing:
    """A listing of the bucket.

    Attributes:
        objects: the listed objects.
        is_full: whether these are all objects below the prefix.
        waiting: the chunks among them that are due and not in the ledger index.
    """

    objects: Sequence[StoredObject]
    is_full: bool
    waiting: Sequence[Chunk]


class _Load:
    """One load into an open warehouse."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        warehouse: duckdb.DuckDBPyConnection,
        objects: Sequence[StoredObject] | None,
    ):
        self._settings = settings
        self._store = store
        self._warehouse = warehouse
        self._objects = objects
        self._index = LedgerIndex(settings.warehouse, settings.limits)

    def run(self, max_chunks: int) -> dict[str, int]:
        if ledger.next_chunk_seq(self._warehouse) == 1:
            manifest.must_be_none(self._store, self._settings.output_prefix, self._settings.warehouse)
        ledger.create_ledger_views(self._warehouse, self._settings.limits)
        if not self._index.path.exists():
            ledger.update_index(self._index, self._warehouse, ())
        self._index.begin()
        attempts = Attempts(self._store, self._probes)
        importance = find_set(self._store, self._settings.customers_prefix)
        version = ImportanceLoader(self._settings, self._warehouse).load(importance, attempts)
        reader = ChunkReader(self._store, attempts, self._settings.limits, version)
        taken = Counter(chunks_accepted=0, chunks_rejected=0, chunks_in_conflict=0, rows_accepted=0, rows_rejected=0)
        left = max_chunks
        listed = self._list(reader)
        while listed.waiting and left > 0:
            new, conflicts, known = self._sort(listed.waiting, reader, left)
            taken["chunks_in_conflict"] += self._record_conflicts(conflicts)
            done = [*conflicts, *known]
            for group in _groups(reader.read(new)):
                taken.update(self._take(group))
                done += [read.entry.chunk for read in group]
            if done:
                ledger.update_index(self._index, self._warehouse, done)
                ledger.forget_readable(self._warehouse, [chunk.key for chunk in done])
            left -= len(done)
            listed = self._list(reader)
        put_planned(self._store, self._warehouse)
        self._record_unreadable(reader)
        if listed.is_full:
            self._record_ignored(listed.objects, importance)
        if reader.unreadable:
            taken["chunks_unreadable"] = len(reader.unreadable)
        return dict(taken)

    def _probes(self) -> Iterator[StoredObject]:
        """Objects that S3 should serve: one of the last chunk that was read, then the first ones in a listing."""
        last = self._warehouse.execute(
            "select chunk_key from raw.chunks where content_bytes > 0 order by chunk_seq desc limit 1"
        ).fetchone()
        if last:
            yield from islice(self._store.list(last[0]), 1)
        yield from islice(self._store.list(self._settings.transactions_prefix), MAX_PROBES)

    def _list(self, reader: ChunkReader) -> _Listing:
        prefix, is_full, objects = self._settings.transactions_prefix, True, self._objects
        if objects is None:
            places = listing.places(self._index, prefix, self._settings.full_listing_seconds)
            is_full = len(places) == 1
            objects = list(
                chain.from_iterable(self._store.list(place.prefix, place.after, place.is_passed) for place in places)
            )
        chunks = find_chunks(objects, prefix, settled_before(self._settings.folder_settle_seconds))
        unknown = listing.unknown_chunks(self._index, chunks, before=time.time())
        waiting = [chunk for chunk in unknown if chunk.key not in reader.unreadable]
        if is_full and not waiting:
            self._index.note_full_listing()
        return _Listing(objects, is_full, waiting)

    def _sort(
        self, waiting: Sequence[Chunk], reader: ChunkReader, max_chunks: int
    ) -> tuple[list[Chunk], list[Chunk], list[Chunk]]:
        """Split chunks into new, conflicting and known ones, with at most ``max_chunks`` of the first two together.

        Chunks whose content must be compared come last. After a bucket was restored, that is every chunk, and new ones
        must not wait for them.
        """
        found: dict[str, list[Chunk]] = {"new": [], "conflict": [], "known": [], "compare": []}
        for chunk, (state, _) in zip(waiting, ledger.seen_as(self._warehouse, waiting), strict=True):
            if state in ("known", "compare") or len(found["new"]) + len(found["conflict"]) < max_chunks:
                found[state].append(chunk)
        for chunk in found["compare"][: max_chunks - len(found["new"]) - len(found["conflict"])]:
            content = reader.content(chunk)
            if isinstance(content, RejectedError):
                found[ledger.compare(self._warehouse, chunk, None, None)].append(chunk)
            elif content:
                found[ledger.compare(self._warehouse, chunk, content.size, content.sha256)].append(chunk)
        return sorted(found["new"], key=lambda chunk: natural_order(chunk.key)), found["conflict"], found["known"]

    def _take(self, group: Sequence[ReadChunk]) -> dict[str, int]:
        """Write the rows and ledger rows of a group of chunks; returns its share of the counts of ``load_chunks``."""
        must_have_room(self._settings.warehouse, self._settings.min_free_bytes)
        warehouse, first = self._warehouse, ledger.next_chunk_seq(self._warehouse)
        files = [file for read in group for file in read.files]
        missing_words = self._settings.missing_values
        with validated(warehouse, files, "transactions", missing_words) as by_lines, transaction(warehouse):
            insert_transactions(warehouse, {chunk_seq: read.files for chunk_seq, read in enumerate(group, first)})
            outcomes = ledger.record(warehouse, first, [read.entry for read in group])
            RejectedFiles(self._settings, warehouse).plan_chunks(since=first)
        warnings = ledger.warnings(warehouse, since=first)
        if by_lines:
            warnings += warnings_on_ids(warehouse, [read.entry.chunk.key for read in group for _ in read.files])
        for warning in warnings:
            log.warning(warning)
        for read, outcome in zip(group, outcomes, strict=True):
            if not outcome.reason:
                key = read.entry.chunk.key
                log.info("%s: rows accepted: %d; rows rejected: %d", key, outcome.accepted, outcome.rejected)
        if any(outcome.reason for outcome in outcomes):
            for key, message in ledger.rejected(warehouse, since=first):
                log.error("REJECTED: %s %s", key, message)
        accepted = [outcome for outcome in outcomes if not outcome.reason]
        return {
            "chunks_accepted": len(accepted),
            "chunks_rejected": len(outcomes) - len(accepted),
            "rows_accepted": sum(outcome.accepted for outcome in accepted),
            "rows_rejected": sum(outcome.rejected for outcome in accepted),
        }

    def _record_conflicts(self, chunks: Sequence[Chunk]) -> int:
        for chunk in chunks:
            log.error("CONFLICT: %s %s", chunk.key, ledger.record_conflict(self._warehouse, chunk))
        return len(chunks)

    def _record_unreadable(self, reader: ChunkReader) -> None:
        rows = []
        for chunk, reason in reader.unreadable.values():
            log.warning("UNREADABLE: %s, although S3 serves other objects. It will be retried. %s", chunk.key, reason)
            retry_at = ledger.record_unreadable(self._warehouse, "chunk", chunk.key, chunk.etag, reason)
            rows.append((chunk.key, chunk.etag, retry_at.replace(tzinfo=UTC).timestamp()))
        self._index.add_unreadable(rows)

    def _record_ignored(self, objects: Sequence[StoredObject], importance: ImportanceSet) -> None:
        """Record objects that are not input and have been in the bucket for a while, and log each of them once.

        Objects whose names can never be those of chunks are logged immediately.
        """
        prefix, reserved = self._settings.transactions_prefix, self._settings.reserved_prefixes
        found = find_ignored(objects, prefix, reserved)
        found_importance = ignored_importance(importance)
        known = ledger.record_ignored(self._warehouse, [*found, *found_importance])
        misnamed = find_misnamed(
            (stored for stored in objects if is_input(stored.key.removeprefix(prefix))), prefix, reserved
        )
        by_name = {(ignored.kind, ignored.about): ignored for ignored in [*misnamed, *found, *found_importance]}
        for ignored in (ignored for name, ignored in by_name.items() if name not in known):
            log.warning("IGNORED: %s: %s", ignored.about, ignored.message)
        self._index.set_ignored([(ignored.kind, ignored.about) for ignored in found])


def _groups(chunks: Iterable[ReadChunk]) -> Iterator[list[ReadChunk]]:
    """Group chunks to be validated together. If fetching a chunk fails, the chunks before it are still yielded."""
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
