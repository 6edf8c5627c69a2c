"""Files of rejected rows and of rejected chunks, for the producer."""

import hashlib

import duckdb

from tallymark.intake.chunks import chunk_name
from tallymark.outbox.planned_files import replan
from tallymark.outbox.safe_csv import as_csv
from tallymark.settings import Settings

# Maximum length of a key in S3, and of a file name in most file systems.
MAX_KEY_BYTES, MAX_NAME_BYTES = 1_024, 255


class RejectedFiles:
    """Plans the files. Call it in the transaction that writes the rejected rows."""

    def __init__(self, settings: Settings, warehouse: duckdb.DuckDBPyConnection):
        self._folder = f"{settings.output_prefix}rejected/"
        self._customers_prefix = settings.customers_prefix
        self._warehouse = warehouse

    def plan_chunks(self, since: int) -> None:
        """Plan a file for each chunk that has rejected rows or was rejected as a whole, in order of ``chunk_seq``.

        Args:
            since: the lowest ``chunk_seq`` to include.
        """
        chunks = self._warehouse.execute(
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
            self.plan(chunk_name(key), chunk_seq, None)

    def plan_version(self, version: int) -> None:
        """Plan the file for a version of the customer importance that has rejected rows or was rejected."""
        self.plan(f"customer_importance-{version}", None, version)

    def plan(self, name: str, chunk_seq: int | None, version: int | None) -> None:
        """Plan ``<name>.csv``.

        ``-<number>`` is added to the name if it must be truncated, and repeatedly while another file has the name, as
        with ``chunk_7`` and ``chunk_7.csv``. A file that a rebuild found in the bucket is reused if its content is the
        same.
        """
        rows = self._warehouse.execute(
            """
            select object_key, line_number, reason, line
            from raw.rejected_rows
            where chunk_seq = $chunk_seq or importance_version = $version
            union all
            select chunk_key, null, reason, null
            from raw.chunks
            where chunk_seq = $chunk_seq and state = 'rejected'
            union all
            select $customers_prefix, null, reason, null
            from raw.importance_versions
            where importance_version = $version and state = 'rejected'
            order by object_key, line_number
            """,
            {"chunk_seq": chunk_seq, "version": version, "customers_prefix": self._customers_prefix},
        ).fetchall()
        body = as_csv([("object_key", "line_number", "reason", "line"), *rows])
        number = f"-{chunk_seq or version}"
        longest = min(MAX_NAME_BYTES, MAX_KEY_BYTES - len(self._folder.encode()))

        def key(suffix: str) -> str:
            return self._folder + name.encode()[: longest - len(suffix)].decode(errors="ignore") + suffix

        suffix = ".csv" if len(f"{name}.csv".encode()) <= longest else f"{number}.csv"
        other = "select 1 from output.files where file_key = ? and (sha256 <> ? or chunk_seq is not null)"
        while self._warehouse.execute(other, [key(suffix), hashlib.sha256(body).hexdigest()]).fetchone():
            suffix = number + suffix
        replan(self._warehouse, key(suffix), body, chunk_seq=chunk_seq, row_count=len(rows))
