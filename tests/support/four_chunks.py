"""A stream in which each chunk has detections of all patterns."""

from pathlib import Path

from support.oracle import Row
from tallymark.settings import Settings

VARS = {
    "child_min_transactions": 2,
    "dei_min_female_customers": 1,
    "upgrade_min_merchant_transactions": 20,
    "upgrade_top_percent": 30,
    "upgrade_bottom_percent": 50,
}


def rows_of(number: int) -> list[Row]:
    """Return the rows of one chunk, with detections of all patterns.

    It has new children at M1, female and male customers at M2, frequent customers at M3, and one row to reject.
    """
    rows = [Row(f"C{number}-{index}", "M1", "E", "1") for index in range(40) for _ in range(2)]
    rows += [Row(f"D{number}-{index}", "M2", "MF"[index % 3 == 0], "100") for index in range(6)]
    rows += [Row(f"U{index}", "M3", "M", "100") for index in range(8) for _ in range(index % 4 + 1)]
    return [*rows, Row("broken", "M1", "F", "x")]


def settings(out: Path, **given) -> Settings:
    return Settings(warehouse=out / "warehouse.duckdb", vars=VARS, **given)
