"""The rows of a chunk: what their columns are, and where they are written."""

from collections.abc import Mapping, Sequence

import duckdb

from tallymark.intake.chunks import Chunk
from tallymark.intake.csv_lines import Columns, CsvObject, read_csv_objects
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.warehouse.connection import run_sql

TRANSACTIONS = Columns(
    required=("customer", "merchant", "gender", "amount"),
    optional=("step", "age", "zipcodeori", "zipmerchant", "category", "fraud"),
)


def read_chunk(settings: Settings, store: Store, chunk: Chunk) -> list[CsvObject]:
    """The objects of a chunk, unpacked, their headers understood.

    Raises:
        RejectedError: when the chunk has to be rejected whole.
    """
    return read_csv_objects(settings, store, chunk.key, chunk.parts, TRANSACTIONS)


def insert_rows(warehouse: duckdb.DuckDBPyConnection, chunks: Mapping[int, Sequence[CsvObject]]) -> None:
    """Write the rows of chunks that were judged, accepted and rejected, in the transaction of their ledger rows.

    Args:
        chunks: the files of each, by ``chunk_seq``, in the order in which ``judge_rows`` had them.
    """
    files = [(chunk_seq, file.key) for chunk_seq, of_chunk in chunks.items() for file in of_chunk]
    chunk_seqs, keys = [chunk_seq for chunk_seq, _ in files], [key for _, key in files]
    run_sql(warehouse, "intake/insert_transactions", chunk_seqs=chunk_seqs)
    run_sql(warehouse, "intake/insert_rejected_rows", chunk_seqs=chunk_seqs, version=None, object_keys=keys)
