"""The files with what was rejected, for those who sent it."""

import hashlib

import duckdb

from tallymark.intake.chunks import chunk_name
from tallymark.outbox.files import as_csv, replan
from tallymark.settings import Settings
from tallymark.warehouse.connection import run_sql

# A key of S3 has at most so many bytes, and the name of a file on most file systems.
MAX_KEY_BYTES, MAX_NAME_BYTES = 1_024, 255


def plan_rejected(settings: Settings, warehouse: duckdb.DuckDBPyConnection, since: int) -> None:
    """Decide on a file for each chunk that has rejected rows or was rejected whole, in the order of their numbers.

    Belongs into the transaction that writes their rows and their ledger rows.

    Args:
        since: the ``chunk_seq`` of the first of them.
    """
    chunks = warehouse.execute(
        """
        select chunk_seq, chunk_key
        from raw.chunks
        where
            chunk_seq >= $since
            and (
                state = 'rejected'
                or chunk_seq in (select chunk_seq from raw.rejected_rows where chunk_seq >= $since)
            )
        order by chunk_seq
        """,
        {"since": since},
    ).fetchall()
    for chunk_seq, key in chunks:
        plan_rejected_file(settings, warehouse, chunk_name(key), chunk_seq, None)


def plan_rejected_file(
    settings: Settings, warehouse: duckdb.DuckDBPyConnection, name: str, chunk_seq: int | None, version: int | None
) -> None:
    """Decide on the file with what was rejected of a chunk, or of a version of the customer importance.

    The file is called ``<name>.csv``; as long as another one is called so (``chunk_7``, ``chunk_7.csv``),
    ``-<number>`` is added to the name. A name that is too long is cut, and has it too. One that a rebuild found in the
    bucket is no other one when it holds the same bytes.
    """
    asked = {"chunk_seq": chunk_seq, "version": version, "customers_prefix": settings.customers_prefix}
    rows = run_sql(warehouse, "intake/rejected", **asked).fetchall()
    body = as_csv([("object_key", "line_number", "reason", "line"), *rows])
    folder, number = f"{settings.output_prefix}rejected/", f"-{chunk_seq or version}"
    longest = min(MAX_NAME_BYTES, MAX_KEY_BYTES - len(folder.encode()))

    def key(end: str) -> str:
        return folder + name.encode()[: longest - len(end)].decode(errors="ignore") + end

    end = ".csv" if len(f"{name}.csv".encode()) <= longest else f"{number}.csv"
    other = "select 1 from output.files where file_key = ? and (sha256 <> ? or chunk_seq is not null)"
    while warehouse.execute(other, [key(end), hashlib.sha256(body).hexdigest()]).fetchone():
        end = number + end
    replan(warehouse, key(end), body, chunk_seq=chunk_seq, row_count=len(rows))
