"""The outbox: files are planned in the warehouse first, and put into the bucket afterwards.

``output.files`` holds the content of each file from the transaction that plans it until the file has been put (a
transactional outbox). After a crash at any point, the same content is put again under the same key.
"""

import hashlib
import logging
from datetime import datetime
from typing import Any

import duckdb

from tallymark.outbox.manifest import LATEST
from tallymark.store import Store
from tallymark.warehouse.connection import utc_now

log = logging.getLogger(__name__)

INSERT = "insert into output.files by name select unnest($row)"
# An upsert, not a delete and an insert: see tallymark.warehouse.connection.transaction.
UPSERT = f"""{INSERT}
    on conflict (file_key) do update set
        row_count = excluded.row_count,
        chunk_seq = excluded.chunk_seq,
        sha256 = excluded.sha256,
        body = excluded.body,
        planned_at = excluded.planned_at,
        put_at = null
"""


def plan(
    warehouse: duckdb.DuckDBPyConnection, file_key: str, body: bytes, **columns: int | str | datetime | None
) -> None:
    """Plan a file with this content.

    Args:
        columns: other columns of ``output.files``, such as ``file_number``.

    Raises:
        duckdb.ConstraintException: if a file with this key was planned before.
    """
    warehouse.execute(INSERT, {"row": columns | _row(file_key, body)})


def replan(
    warehouse: duckdb.DuckDBPyConnection,
    file_key: str,
    body: bytes,
    row_count: int | None = None,
    chunk_seq: int | None = None,
) -> None:
    """Plan a file with this content, replacing any earlier plan for its key."""
    row = _row(file_key, body) | {"row_count": row_count, "chunk_seq": chunk_seq}
    warehouse.execute(UPSERT, {"row": row})


def _row(file_key: str, body: bytes) -> dict[str, Any]:
    return {"file_key": file_key, "sha256": hashlib.sha256(body).hexdigest(), "body": body, "planned_at": utc_now()}


def put_planned(store: Store, warehouse: duckdb.DuckDBPyConnection) -> None:
    """Put every planned file that is not confirmed in the bucket yet: manifests first, then the files they list."""
    planned = warehouse.execute(
        """
        select file_key, body, row_count
        from output.files
        where put_at is null
        order by manifest_number nulls last, file_number nulls last, file_key
        """
    ).fetchall()
    for key, body, rows in planned:
        put = store.put if key.endswith(LATEST) else store.put_new
        put(key, body)
        warehouse.execute("update output.files set put_at = ?, body = null where file_key = ?", [utc_now(), key])
        log.info("put %s%s", key, "" if rows is None else f" ({rows} {'row' if rows == 1 else 'rows'})")
