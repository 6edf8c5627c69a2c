"""The content of a detection file."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import duckdb

from tallymark.outbox.files import as_csv

ROWS_PER_FILE = 50
COLUMNS = ("YStartTime", "detectionTime", "patternId", "ActionType", "customerName", "MerchantId")


def detection_key(output_prefix: str, number: int) -> str:
    """Key of a detection file; numbers begin at 1 and have no gaps."""
    return f"{output_prefix}detections/detections-{number:08d}.csv"


def is_detection_key(output_prefix: str, key: str) -> bool:
    """Whether an object is named like a detection file."""
    return bool(re.fullmatch(re.escape(output_prefix) + r"detections/detections-[0-9]+\.csv", key))


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


def detections_csv(rows: Iterable[Detection], zone: ZoneInfo) -> bytes:
    """The content of a detection file; its times in the time zone."""
    lines = [(_local(row.y_started_at, zone), _local(row.detected_at, zone), *row[3:]) for row in rows]
    return as_csv([COLUMNS, *lines])


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.replace(tzinfo=UTC).astimezone(zone).isoformat(timespec="milliseconds")
