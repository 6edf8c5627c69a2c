"""Detection files: which detections go into which file, and its number, key and content."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import duckdb

from tallymark.outbox.planned_files import plan
from tallymark.outbox.safe_csv import as_csv
from tallymark.settings import Settings
from tallymark.warehouse.connection import fetch_row, utc_now

ROWS_PER_FILE = 50
COLUMNS = ("YStartTime", "detectionTime", "patternId", "ActionType", "customerName", "MerchantId")


def detection_key(output_prefix: str, number: int) -> str:
    """Key of a detection file. Numbers start at 1 and have no gaps."""
    return f"{output_prefix}detections/detections-{number:08d}.csv"


def is_detection_key(output_prefix: str, key: str) -> bool:
    """Whether a key belongs to a detection file."""
    return bool(re.fullmatch(re.escape(output_prefix) + r"detections/detections-[0-9]+\.csv", key))


class Detection(NamedTuple):
    """A detection: its id and the columns of its file. Times are in UTC without a time zone."""

    detection_id: int
    y_started_at: datetime
    detected_at: datetime
    pattern_id: str
    action_type: str
    customer: str
    merchant: str


def read_detections(warehouse: duckdb.DuckDBPyConnection, first_id: int, last_id: int | None = None) -> list[Detection]:
    """Detections with a ``detection_id`` from ``first_id`` to ``last_id`` (by default the last one), in order."""
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


def without_file(warehouse: duckdb.DuckDBPyConnection) -> list[Detection]:
    """Detections that are not planned into a file yet, in order of ``detection_id``."""
    (last_id,) = fetch_row(warehouse, "select coalesce(max(last_detection_id), 0) from output.files")
    return read_detections(warehouse, last_id + 1)


def plan_detections(warehouse: duckdb.DuckDBPyConnection, settings: Settings, files_before: int) -> tuple[int, int]:
    """Plan files of ``ROWS_PER_FILE`` rows for detections without one, in order of ``detection_id``.

    A last file with fewer rows is planned once its oldest detection has waited ``hold_remainder_seconds``.

    Args:
        files_before: number of the last file planned before; 0 if there is none.

    Returns:
        The number of files, and the number of detections in them.
    """
    chosen = without_file(warehouse)
    remainder = chosen[len(chosen) - len(chosen) % ROWS_PER_FILE :]
    if remainder and utc_now() < remainder[0].detected_at + timedelta(seconds=settings.hold_remainder_seconds):
        chosen = chosen[: -len(remainder)]
    zone = ZoneInfo(settings.time_zone)
    starts = range(0, len(chosen), ROWS_PER_FILE)
    for file_number, start in enumerate(starts, start=files_before + 1):
        rows = chosen[start : start + ROWS_PER_FILE]
        key = detection_key(settings.output_prefix, file_number)
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
    """Content of a detection file, with times in ``zone``."""
    lines = [(_local(row.y_started_at, zone), _local(row.detected_at, zone), *row[3:]) for row in rows]
    return as_csv([COLUMNS, *lines])


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.replace(tzinfo=UTC).astimezone(zone).isoformat(timespec="milliseconds")
