"""What goes out: decided in the warehouse first, put to the bucket afterwards.

``output.files`` holds each file's bytes from the transaction that decides on it until it has been put (a
transactional outbox). Whatever is killed in between, the same bytes are put again under the same key.
"""

import csv
import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import duckdb

from tallymark import manifest, work
from tallymark.chunks import chunk_name
from tallymark.settings import Settings
from tallymark.spreadsheet import defused
from tallymark.store import Store
from tallymark.warehouse import connect, run_sql, transaction, utc_now

log = logging.getLogger(__name__)

ROWS_PER_FILE = 50
# A key of S3 has at most so many bytes, and the name of a file on most file systems.
MAX_KEY_BYTES, MAX_NAME_BYTES = 1_024, 255
COLUMNS = ("YStartTime", "detectionTime", "patternId", "ActionType", "customerName", "MerchantId")


def export_detections(settings: Settings, store: Store) -> dict[str, int]:
    """Decide on files for the detections that the last build made, and put all files that are not out yet.

    Returns:
        How many ``detections`` were given to how many ``files``, how many are ``held`` back, and how many refusals are
        ``to_put_right``.

    Raises:
        RuntimeError: when models ran since the last build that passed its sanity tests.
        FileExistsError: when a file is in the bucket already with other content.
    """
    with connect(settings) as warehouse:
        with transaction(warehouse):
            files_before, chunk_before = warehouse.execute(
                """
                select
                    (select coalesce(max(file_number), 0) from output.files),
                    (select coalesce(max(chunk_seq), 0) from output.releases)
                """
            ).fetchone()
            is_news = _release(warehouse, chunk_before)
            files, detections = _plan_detections(settings, warehouse, files_before)
            if is_news or files:
                _plan_manifest(settings, warehouse, chunk_before, files_before)
        put_planned(settings, store, warehouse)
        waiting = _without_file(warehouse)
        run_sql(warehouse, "open_refusals")
        (to_put_right,) = warehouse.execute("select count(*) from open_refusals(?)", [utc_now()]).fetchone()
    if waiting:
        hold = timedelta(seconds=settings.hold_remainder_seconds)
        work.finish(settings, held_until=waiting[0].detected_at.replace(tzinfo=UTC) + hold)
    else:
        work.finish(settings)
    return {"detections": detections, "files": files, "held": len(waiting), "to_put_right": to_put_right}


def _release(warehouse: duckdb.DuckDBPyConnection, chunk_before: int) -> bool:
    """Make what the last build found in its batch final; returns whether it was not before."""
    passed = warehouse.execute("select chunk_seq from output.passed_builds").fetchone()
    if passed is None:
        raise RuntimeError(
            "Nothing is exported: models ran since the last dbt build that passed its tests, or there was none. "
            "The next run builds and exports what is held back."
        )
    if passed[0] is None or passed[0] <= chunk_before:
        return False
    chunks = {"before": chunk_before, "last": passed[0]}
    warehouse.execute(
        """
        insert into detections by name
        select * from batch_detections where chunk_seq > $before and chunk_seq <= $last order by detection_id
        """,
        chunks,
    )
    warehouse.execute(
        """
        insert into chunk_thresholds by name
        select * from batch_thresholds where chunk_seq > $before and chunk_seq <= $last
        """,
        chunks,
    )
    warehouse.execute("insert into output.releases values (?, ?)", [passed[0], utc_now()])
    return True


class Detection(NamedTuple):
    """A detection as far as its file shows it; times are UTC without a time zone."""

    detection_id: int
    y_started_at: datetime
    detected_at: datetime
    pattern_id: str
    action_type: str
    customer: str
    merchant: str


def read_detections(warehouse: duckdb.DuckDBPyConnection, first_id: int, last_id: int | None = None) -> list[Detection]:
    """Detections from one ``detection_id`` to another, or to the last one there is."""
    rows = warehouse.execute(
        """
        select detection_id, y_started_at, detected_at, pattern_id, action_type, customer, merchant
        from detections
        where detection_id >= $first_id and ($last_id is null or detection_id <= $last_id)
        order by detection_id
        """,
        {"first_id": first_id, "last_id": last_id},
    )
    return [Detection(*row) for row in rows.fetchall()]


def _without_file(warehouse: duckdb.DuckDBPyConnection) -> list[Detection]:
    (last_id,) = warehouse.execute("select coalesce(max(last_detection_id), 0) from output.files").fetchone()
    return read_detections(warehouse, last_id + 1)


def _plan_detections(settings: Settings, warehouse: duckdb.DuckDBPyConnection, files_before: int) -> tuple[int, int]:
    """Give detections their files, in order of detection_id; returns numbers of files and of detections."""
    chosen = _without_file(warehouse)
    remainder = chosen[len(chosen) - len(chosen) % ROWS_PER_FILE :]
    if remainder and utc_now() < remainder[0].detected_at + timedelta(seconds=settings.hold_remainder_seconds):
        chosen = chosen[: -len(remainder)]
    zone = ZoneInfo(settings.time_zone)
    starts = range(0, len(chosen), ROWS_PER_FILE)
    for file_number, start in enumerate(starts, start=files_before + 1):
        rows = chosen[start : start + ROWS_PER_FILE]
        key = f"{settings.output_prefix}detections/detections-{file_number:08d}.csv"
        ids = (rows[0].detection_id, rows[-1].detection_id)
        plan(
            warehouse,
            key,
            detections_csv(rows, zone),
            file_number=file_number,
            row_count=len(rows),
            first_detection_id=ids[0],
            last_detection_id=ids[1],
        )
        warehouse.execute(
            "update detections set file_number = ? where detection_id between ? and ?", [file_number, *ids]
        )
    return len(starts), len(chosen)


def detections_csv(rows: Iterable[Detection], zone: ZoneInfo) -> bytes:
    """The content of a detection file; its times in the time zone."""
    lines = [(_local(row.y_started_at, zone), _local(row.detected_at, zone), *row[3:]) for row in rows]
    return _as_csv(COLUMNS, lines)


def _plan_manifest(
    settings: Settings, warehouse: duckdb.DuckDBPyConnection, chunk_before: int, files_before: int
) -> None:
    number, body, latest = manifest.compose(settings, warehouse, chunk_before, files_before)
    plan(warehouse, manifest.manifest_key(settings, number), body, manifest_number=number)
    warehouse.execute("delete from output.files where file_key = ?", [manifest.latest_key(settings)])
    plan(warehouse, manifest.latest_key(settings), latest)


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
    rows = run_sql(warehouse, "rejected", **asked).fetchall()
    body = _as_csv(("object_key", "line_number", "reason", "line"), rows)
    folder, number = f"{settings.output_prefix}rejected/", f"-{chunk_seq or version}"
    longest = min(MAX_NAME_BYTES, MAX_KEY_BYTES - len(folder.encode()))

    def key(end: str) -> str:
        return folder + name.encode()[: longest - len(end)].decode(errors="ignore") + end

    end = ".csv" if len(f"{name}.csv".encode()) <= longest else f"{number}.csv"
    other = "select 1 from output.files where file_key = ? and (sha256 <> ? or chunk_seq is not null)"
    while warehouse.execute(other, [key(end), hashlib.sha256(body).hexdigest()]).fetchone():
        end = number + end
    warehouse.execute("delete from output.files where file_key = ?", [key(end)])
    plan(warehouse, key(end), body, chunk_seq=chunk_seq, row_count=len(rows))


def plan(
    warehouse: duckdb.DuckDBPyConnection, file_key: str, body: bytes, **columns: int | str | datetime | None
) -> None:
    """Decide that a file goes out with these bytes.

    Args:
        columns: of ``output.files``, such as its ``file_number``.
    """
    row = {"file_key": file_key, "sha256": hashlib.sha256(body).hexdigest(), "body": body, "planned_at": utc_now()}
    warehouse.execute("insert into output.files by name select unnest($row)", {"row": columns | row})


def put_planned(settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection) -> None:
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
        put = store.put if key == manifest.latest_key(settings) else store.put_new
        put(key, body)
        warehouse.execute("update output.files set put_at = ?, body = null where file_key = ?", [utc_now(), key])
        log.info("put %s%s", key, "" if rows is None else f" ({rows} rows)")


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.replace(tzinfo=UTC).astimezone(zone).isoformat(timespec="milliseconds")


def _as_csv(header: Iterable[str], rows: Iterable[Sequence]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([defused(value) if isinstance(value, str) else value for value in row] for row in rows)
    return text.getvalue().encode()
