"""From new objects in the bucket to rows in the warehouse, each chunk in one transaction."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable

import duckdb

from tallymark import ledger, output, work
from tallymark.chunks import find_chunks
from tallymark.csv_lines import Columns, CsvObject, RejectedError, judge_rows, read_csv_objects
from tallymark.importance import load_customer_importance
from tallymark.settings import Settings
from tallymark.store import Store, StoredObject
from tallymark.warehouse import connect, run_sql, transaction, utc_now

log = logging.getLogger(__name__)

TRANSACTIONS = Columns(
    required=("customer", "merchant", "gender", "amount"),
    optional=("step", "age", "zipcodeori", "zipmerchant", "category", "fraud"),
)


def load_chunks(
    settings: Settings, store: Store, max_chunks: int | None = None, objects: Iterable[StoredObject] | None = None
) -> dict[str, int]:
    """Take the chunks that the ledger lacks, in natural order of their keys.

    Args:
        max_chunks: how many at most; ``settings.max_chunks_per_run`` unless given.
        objects: what was found in the bucket already, instead of a listing of all of it.

    Returns:
        How many chunks were ``accepted``, ``rejected`` whole or recorded as a ``conflict``, and how many
        ``rows_accepted`` and ``rows_rejected`` the accepted ones have.

    Raises:
        ObjectChangedError: when an object was replaced between listing and reading; try again.
        RuntimeError: when the warehouse is open elsewhere.
    """
    if objects is None:
        objects = store.list(settings.transactions_prefix)
    waiting = ledger.unknown_chunks(settings, find_chunks(objects, settings.transactions_prefix))
    waiting = waiting[: max_chunks or settings.max_chunks_per_run]
    taken = Counter(accepted=0, rejected=0, conflict=0, rows_accepted=0, rows_rejected=0)
    with connect(settings) as warehouse:
        work.begin(settings)
        importance_version = load_customer_importance(settings, store, warehouse)
        for chunk in waiting:
            seen_as = ledger.seen_as(warehouse, chunk)
            if seen_as == "conflict":
                ledger.record_conflict(warehouse, chunk)
                log.error(
                    "CONFLICT: %s was taken before and now has ETag %s. Its new content is not counted. "
                    "If it holds other transactions, put them under a new key.",
                    chunk.key,
                    chunk.etag,
                )
                taken["conflict"] += 1
            elif seen_as == "new":
                for remark in ledger.remarks(warehouse, chunk):
                    log.warning(remark)
                entry = ledger.Entry(chunk, importance_version, y_started_at=utc_now())
                taken.update(_take(settings, store, warehouse, entry))
        ledger.publish(settings, warehouse, waiting)
        output.put_planned(store, warehouse)
    return dict(taken)


def _take(
    settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection, entry: ledger.Entry
) -> dict[str, int]:
    """Load a chunk, or reject it whole; returns what to add to the counts of load_chunks."""
    chunk = entry.chunk
    try:
        files = read_csv_objects(settings, store, [part for part in chunk.parts if part.size], TRANSACTIONS)
        if not files:
            raise RejectedError("holds no line")
    except RejectedError as error:
        ledger.record_rejected(warehouse, entry, str(error))
        log.error("REJECTED: %s %s. Put a corrected object under the same key.", chunk.key, error)
        return {"rejected": 1}
    entry = dataclasses.replace(entry, rows_in_file=sum(file.rows for file in files))
    accepted, rejected = _insert(settings, warehouse, entry, files)
    log.info("%s: %d rows accepted, %d rejected", chunk.key, accepted, rejected)
    return {"accepted": 1, "rows_accepted": accepted, "rows_rejected": rejected}


def _insert(
    settings: Settings, warehouse: duckdb.DuckDBPyConnection, entry: ledger.Entry, files: list[CsvObject]
) -> tuple[int, int]:
    """Write rows and ledger entry of a chunk in one transaction; returns rows accepted and rejected."""
    with transaction(warehouse):
        chunk_seq = ledger.next_chunk_seq(warehouse)
        for file in files:
            judge_rows(warehouse, file, "transactions")
            run_sql(warehouse, "insert_transactions", chunk_seq=chunk_seq)
            run_sql(warehouse, "insert_rejected_rows", chunk_seq=chunk_seq, version=None, object_key=file.key)
        accepted, rejected = ledger.record_accepted(warehouse, entry, chunk_seq)
        if rejected:
            output.plan_rejected_rows(settings, warehouse, entry.chunk.name, chunk_seq, None)
    return accepted, rejected
