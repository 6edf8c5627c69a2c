"""From new objects in the bucket to rows in the warehouse, each chunk with its ledger row in one transaction."""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import chain, islice

import duckdb

from tallymark.intake import ledger, listing
from tallymark.intake.attempts import Attempts
from tallymark.intake.chunks import Chunk, find_chunks, find_ignored, find_misnamed
from tallymark.intake.content import Content, fetch_chunk
from tallymark.intake.csv_lines import CsvObject, RejectedError
from tallymark.intake.folders import is_input, natural_order, settled_before
from tallymark.intake.importance import ImportanceSet, find_set, ignored_importance, load_customer_importance
from tallymark.intake.judging import judged, remarks_on_ids
from tallymark.intake.rejected import plan_rejected
from tallymark.intake.transactions import insert_rows, read_chunk
from tallymark.intake.waiting import unknown_chunks
from tallymark.outbox import manifest
from tallymark.outbox.files import put_planned
from tallymark.settings import Settings
from tallymark.store import Get, ObjectChangedError, Store, StoredObject, UnreadableError
from tallymark.store.ahead import fetched_ahead
from tallymark.warehouse.connection import WarehouseError, connect, transaction, utc_now
from tallymark.warehouse.ledger_index import LedgerIndex

log = logging.getLogger(__name__)

# How many other objects are tried to find out whether S3 serves any.
MAX_PROBES = 20
# An object that was replaced so often between listing and reading waits as an unreadable chunk.
MAX_CHANGES = 3
# How much text is validated by one statement and committed at once: about 50 chunks, and a few hundred MB of memory.
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
    settings: Settings, store: Store, max_chunks: int | None = None, objects: Sequence[StoredObject] | None = None
) -> dict[str, int]:
    """Take the chunks that the ledger lacks, in natural order of their keys, and then those that landed meanwhile.

    Args:
        max_chunks: how many at most, at least 1; ``settings.max_chunks_per_run`` unless given.
        objects: what was found in the bucket already, instead of listings of all of it.

    Returns:
        ``chunks_accepted``, ``chunks_rejected`` whole and ``chunks_in_conflict``, and ``rows_accepted`` and
        ``rows_rejected`` of the accepted ones; ``chunks_unreadable``, if there are any.

    Raises:
        BucketError: when S3 fails, or denies access, and not only for single objects.
        UnreadableError: when the first customer importance cannot be read.
        UnsettledError: when the first customer importance is incomplete.
        ValueError: when ``max_chunks`` is less than 1.
        WarehouseError: when the warehouse is open elsewhere, lost or broken.
    """
    left = settings.max_chunks_per_run if max_chunks is None else max_chunks
    if left < 1:
        raise ValueError(f"max_chunks is {left}; a run takes 1 chunk or more")
    taken = Counter(chunks_accepted=0, chunks_rejected=0, chunks_in_conflict=0, rows_accepted=0, rows_rejected=0)
    with connect(settings) as warehouse:
        if ledger.next_chunk_seq(warehouse) == 1:
            _must_be_first(settings, store)
        ledger.create_ledger_views(warehouse, settings.limits)
        index = LedgerIndex(settings)
        if not index.path.exists():
            ledger.update_index(settings, warehouse, ())
        index.begin()
        attempts = Attempts(store, lambda: _probes(settings, store, warehouse))
        importance = find_set(settings, store)
        version = load_customer_importance(settings, importance, attempts, warehouse)
        reader = _Reader(settings, store, attempts, version)
        looked = _look(settings, store, objects, reader.unreadable)
        while looked.waiting and left > 0:
            new, conflicts, known = _sorted_out(warehouse, reader, looked.waiting, left)
            taken["chunks_in_conflict"] += _record_conflicts(warehouse, conflicts)
            done = [*conflicts, *known]
            for group in _groups(reader.read(new)):
                taken.update(_take(settings, warehouse, group))
                done += [read.entry.chunk for read in group]
            if done:
                ledger.update_index(settings, warehouse, done)
                ledger.forget_readable(warehouse, [chunk.key for chunk in done])
            left -= len(done)
            looked = _look(settings, store, objects, reader.unreadable)
        put_planned(settings, store, warehouse)
        _record_unreadable(settings, warehouse, reader.unreadable)
        if looked.is_full:
            _record_ignored(settings, warehouse, looked.objects, importance)
    if reader.unreadable:
        taken["chunks_unreadable"] = len(reader.unreadable)
    return dict(taken)


@dataclass(frozen=True)
class _Look:
    """What the bucket was found to hold.

    Attributes:
        objects: what was listed.
        is_full: whether that is all there is.
        waiting: chunks among them that the ledger index lacks, and that are due.
    """

    objects: Sequence[StoredObject]
    is_full: bool
    waiting: Sequence[Chunk]


def _look(
    settings: Settings, store: Store, objects: Sequence[StoredObject] | None, unreadable: Container[str]
) -> _Look:
    is_full = True
    if objects is None:
        places = listing.places(settings)
        is_full = len(places) == 1
        objects = list(chain.from_iterable(store.list(place.prefix, place.after, place.is_passed) for place in places))
    chunks = find_chunks(objects, settings.transactions_prefix, settled_before(settings.folder_settle_seconds))
    waiting = [chunk for chunk in unknown_chunks(settings, chunks, before=time.time()) if chunk.key not in unreadable]
    if is_full and not waiting:
        listing.found_nothing(settings)
    return _Look(objects, is_full, waiting)


def _sorted_out(
    warehouse: duckdb.DuckDBPyConnection, reader: "_Reader", waiting: Sequence[Chunk], most: int
) -> tuple[list[Chunk], list[Chunk], list[Chunk]]:
    """Chunks that are new, those in conflict, and those that the ledger knows; at most so many of them.

    Those whose content has to be compared come last: after a bucket was restored that is all of it, and new chunks
    need not wait.
    """
    found: dict[str, list[Chunk]] = {"new": [], "conflict": [], "known": [], "compare": []}
    for chunk, (state, _) in zip(waiting, ledger.seen_as(warehouse, waiting), strict=True):
        if state in ("known", "compare") or len(found["new"]) + len(found["conflict"]) < most:
            found[state].append(chunk)
    for chunk in found["compare"][: most - len(found["new"]) - len(found["conflict"])]:
        if state := reader.compare(warehouse, chunk):
            found[state].append(chunk)
    return sorted(found["new"], key=lambda chunk: natural_order(chunk.key)), found["conflict"], found["known"]


class _Reader:
    """Reads chunks; ``unreadable`` has, by key, those that could not be read while S3 served others, and why."""

    def __init__(self, settings: Settings, store: Store, attempts: Attempts, importance_version: int | None):
        self.unreadable: dict[str, tuple[Chunk, str]] = {}
        self._settings = settings
        self._store = store
        self._attempts = attempts
        self._importance_version = importance_version
        self._changes: Counter[str] = Counter()

    def read(self, chunks: Sequence[Chunk]) -> Iterator[ReadChunk]:
        """Chunks in their order, without the unreadable ones, up to one that was replaced since it was listed."""
        with fetched_ahead(self._store.get, [stored for chunk in chunks for stored in chunk.readable]) as get:
            for chunk in chunks:
                entry = ledger.Entry(chunk, self._importance_version, y_started_at=utc_now())
                try:
                    content = self._fetch(chunk, get)
                    if content is None:
                        continue
                    entry = dataclasses.replace(entry, content_bytes=content.size, content_sha256=content.sha256)
                    files = read_chunk(self._settings, content)
                except RejectedError as error:
                    yield ReadChunk(dataclasses.replace(entry, reason=str(error), limit=error.limit), [])
                except ObjectChangedError as error:
                    log.info("%s. It is listed again.", error)
                    return
                else:
                    rows = sum(file.rows for file in files)
                    yield ReadChunk(dataclasses.replace(entry, rows_in_file=rows), files)

    def compare(self, warehouse: duckdb.DuckDBPyConnection, chunk: Chunk) -> ledger.State | None:
        """What the content of a chunk tells whose key is known with another ETag; None: it cannot be read now."""
        try:
            content = self._fetch(chunk, self._store.get)
        except ObjectChangedError as error:
            log.info("%s. It is listed again.", error)
            return None
        except RejectedError:
            return ledger.compare(warehouse, chunk, None, None)
        return content and ledger.compare(warehouse, chunk, content.size, content.sha256)

    def _fetch(self, chunk: Chunk, get: Get) -> Content | None:
        """The content of a chunk; None: it is unreadable."""
        try:
            return self._attempts.read(
                chunk.key, lambda get: fetch_chunk(get, chunk, self._settings.max_object_bytes), get
            )
        except UnreadableError as error:
            self.unreadable[chunk.key] = chunk, str(error)
        except ObjectChangedError as error:
            self._changes[chunk.key] += 1
            if self._changes[chunk.key] < MAX_CHANGES:
                raise
            why = f"It was replaced {MAX_CHANGES} times while it was read: {error}"
            self.unreadable[chunk.key] = chunk, why
        return None


def _probes(settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection) -> Iterator[StoredObject]:
    """Objects that S3 should serve: of the chunk that was read last, and then whatever is listed first."""
    last = warehouse.execute(
        "select chunk_key from raw.chunks where content_bytes > 0 order by chunk_seq desc limit 1"
    ).fetchone()
    if last:
        yield from islice(store.list(last[0]), 1)
    yield from islice(store.list(settings.transactions_prefix), MAX_PROBES)


def _record_conflicts(warehouse: duckdb.DuckDBPyConnection, chunks: Sequence[Chunk]) -> int:
    for chunk in chunks:
        log.error("CONFLICT: %s %s", chunk.key, ledger.record_conflict(warehouse, chunk))
    return len(chunks)


def _record_unreadable(
    settings: Settings, warehouse: duckdb.DuckDBPyConnection, unreadable: dict[str, tuple[Chunk, str]]
) -> None:
    rows = []
    for chunk, reason in unreadable.values():
        log.warning("UNREADABLE: %s, although S3 serves other objects. It will be retried. %s", chunk.key, reason)
        retry_at = ledger.record_unreadable(warehouse, "chunk", chunk.key, chunk.etag, reason)
        rows.append((chunk.key, chunk.etag, retry_at.replace(tzinfo=UTC).timestamp()))
    LedgerIndex(settings).add_unreadable(rows)


def _record_ignored(
    settings: Settings,
    warehouse: duckdb.DuckDBPyConnection,
    objects: Sequence[StoredObject],
    importance: ImportanceSet,
) -> None:
    """Record what is no input and has been there for a while; log it once.

    Names that will never be those of chunks are logged at once.
    """
    prefix = settings.transactions_prefix
    found = find_ignored(objects, prefix, settings.apart)
    known = ledger.record_ignored(warehouse, [*found, *ignored_importance(importance)])
    may_hold_rows = [stored for stored in objects if is_input(stored.key.removeprefix(prefix))]
    named = find_misnamed(may_hold_rows, prefix, settings.apart)
    news = {(ignored.kind, ignored.about): ignored for ignored in [*named, *found, *ignored_importance(importance)]}
    for ignored in (ignored for name, ignored in news.items() if name not in known):
        log.warning("IGNORED: %s: %s", ignored.about, ignored.message)
    LedgerIndex(settings).set_ignored([(ignored.kind, ignored.about) for ignored in found])


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
    first = ledger.next_chunk_seq(warehouse)
    files = [file for read in group for file in read.files]
    with judged(warehouse, files, "transactions", settings.missing_values) as by_lines, transaction(warehouse):
        insert_rows(warehouse, {chunk_seq: read.files for chunk_seq, read in enumerate(group, first)})
        outcomes = ledger.record(warehouse, first, [read.entry for read in group])
        plan_rejected(settings, warehouse, since=first)
    chunk_keys = [read.entry.chunk.key for read in group for _ in read.files]
    on_ids = remarks_on_ids(warehouse, chunk_keys) if by_lines else []
    for remark in ledger.remarks(warehouse, since=first) + on_ids:
        log.warning(remark)
    for read, outcome in zip(group, outcomes, strict=True):
        key = read.entry.chunk.key
        if outcome.reason:
            log.error(
                "REJECTED: %s %s. Put a corrected object under the same key%s.",
                key,
                outcome.reason,
                f", or change the setting {read.entry.limit.setting}" if read.entry.limit else "",
            )
        else:
            log.info("%s: %d rows accepted, %d rejected", key, outcome.accepted, outcome.rejected)
    accepted = [outcome for outcome in outcomes if not outcome.reason]
    return {
        "chunks_accepted": len(accepted),
        "chunks_rejected": len(outcomes) - len(accepted),
        "rows_accepted": sum(outcome.accepted for outcome in accepted),
        "rows_rejected": sum(outcome.rejected for outcome in accepted),
    }
