"""What goes out: decided in the warehouse first, put to the bucket afterwards.

``output.files`` holds each file's bytes from the transaction that decides on it until it has been put (a
transactional outbox). Whatever is killed in between, the same bytes are put again under the same key.
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
# Not a delete and an insert: see tallymark.warehouse.connection.transaction.
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
    """Decide that a file goes out with these bytes; an error if its key was decided on before.

    Args:
        columns: of ``output.files``, such as its ``file_number``.
    """
    warehouse.execute(INSERT, {"row": columns | _row(file_key, body)})


def replan(
    warehouse: duckdb.DuckDBPyConnection,
    file_key: str,
    body: bytes,
    row_count: int | None = None,
    chunk_seq: int | None = None,
) -> None:
    """Decide that a file goes out with these bytes, whatever was decided on for its key before."""
    row = _row(file_key, body) | {"row_count": row_count, "chunk_seq": chunk_seq}
    warehouse.execute(UPSERT, {"row": row})


def _row(file_key: str, body: bytes) -> dict[str, Any]:
    return {"file_key": file_key, "sha256": hashlib.sha256(body).hexdigest(), "body": body, "planned_at": utc_now()}


def put_planned(store: Store, warehouse: duckdb.DuckDBPyConnection) -> None:
    """Put every file that was decided on and is not known to be out: manifests, then what they announce."""
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
        log.info("put %s%s", key, "" if rows is None else f" ({rows} rows)")
