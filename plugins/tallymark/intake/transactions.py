"""The rows of a chunk: what their columns are, and where they are written."""

from collections.abc import Mapping, Sequence

import duckdb

from tallymark.intake.content import Content
from tallymark.intake.csv_lines import Columns, CsvObject, read_csv_objects
from tallymark.intake.judging import insert_rejected_rows
from tallymark.settings import Settings
from tallymark.warehouse.connection import run_sql

TRANSACTIONS = Columns(
    required=("customer", "merchant", "gender", "amount"),
    optional=("step", "age", "zipcodeori", "zipmerchant", "category", "fraud"),
)


def read_chunk(settings: Settings, content: Content) -> list[CsvObject]:
    """The objects of a chunk, unpacked, with their headers read.

    Raises:
        RejectedError: when the chunk has to be rejected whole.
    """
    return read_csv_objects(settings, content.get, content.key, content.parts, TRANSACTIONS)


def insert_rows(warehouse: duckdb.DuckDBPyConnection, chunks: Mapping[int, Sequence[CsvObject]]) -> int:
    """Write the rows of chunks that are judged, accepted and rejected, in the transaction of their ledger rows.

    Returns the number of accepted rows.

    Args:
        chunks: the files of each, by ``chunk_seq``, in the order in which ``judged`` has them.
    """
    files = [file for of_chunk in chunks.values() for file in of_chunk]
    chunk_seqs = [chunk_seq for chunk_seq, of_chunk in chunks.items() for _ in of_chunk]
    (accepted,) = run_sql(warehouse, "intake/insert_transactions", chunk_seqs=chunk_seqs).fetchone()
    if accepted < sum(file.rows for file in files):
        insert_rejected_rows(warehouse, files, chunk_seqs, None)
    return accepted
