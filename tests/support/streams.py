"""Streams laid out like the bucket, and what came out of a replay of one."""

import csv
import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

from support.oracle import Detection, Row
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect

THRESHOLDS = {
    "upgrade_min_merchant_transactions": 50,
    "upgrade_top_percent": 50,
    "upgrade_bottom_percent": 50,
    "child_min_transactions": 5,
    "dei_min_female_customers": 3,
}
HEADER = "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud"


def csv_text(rows: Iterable[Row], quote: str = "'") -> str:
    """Rows as a transactions file that BankSim could have shipped."""
    q = quote
    lines = [
        f"0,{q}{row.customer}{q},{q}2{q},{q}{row.gender}{q},{q}28007{q},{q}{row.merchant}{q},{q}28007{q},"
        f"{q}es_food{q},{row.amount},0"
        for row in rows
    ]
    return "\n".join([HEADER, *lines]) + "\n"


def write_importance(data: Path, importance: Iterable[tuple[str, str, str]]) -> None:
    """Write the customer importance of a folder that is laid out like the bucket."""
    path = data / "input/customers/customer_importance.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"'{customer}','{merchant}',{weight},'es_food',0" for customer, merchant, weight in importance]
    path.write_text("\n".join(["Source,Target,Weight,typeTrans,fraud", *lines]) + "\n")


def write_chunk(data: Path, name: str, rows: Iterable[Row]) -> None:
    """Write one chunk of a folder that is laid out like the bucket."""
    path = data / "input/transactions" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(csv_text(rows))


def exported(out: Path) -> list[tuple[str, str, str, str]]:
    """(patternId, ActionType, customerName, MerchantId) of all detection files, in their order."""
    rows = []
    for number, path in enumerate(sorted((out / "output/detections").glob("*")), start=1):
        assert path.name == f"detections-{number:08d}.csv"
        with path.open(newline="") as file:
            header, *lines = csv.reader(file)
        assert header == ["YStartTime", "detectionTime", "patternId", "ActionType", "customerName", "MerchantId"]
        assert 1 <= len(lines) <= 50
        rows += [tuple(line[2:]) for line in lines]
    return rows


def detected(out: Path) -> list[Detection]:
    """The detections of a replay in the order of detection_id, checked to be what the files hold."""
    with connect(Settings(warehouse=out / "warehouse.duckdb"), read_only=True) as warehouse:
        rows = warehouse.execute(
            "select detection_id, chunk_seq, pattern_id, merchant, customer, action_type "
            "from detections order by detection_id"
        ).fetchall()
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    assert exported(out) == [(pattern, action, customer, merchant) for *_, pattern, merchant, customer, action in rows]
    return [Detection(*row[1:5]) for row in rows]


def read_banksim(banksim: Path) -> tuple[list[Row], list[tuple[str, str, str]]]:
    """Transactions and importance rows, read with Python's csv module."""

    def read(name: str) -> Sequence[dict[str, str]]:
        with gzip.open(banksim / name, "rt", newline="") as file:
            return list(csv.DictReader(file, quotechar="'"))

    rows = [Row(r["customer"], r["merchant"], r["gender"], r["amount"]) for r in read("transactions.csv.gz")]
    importance = [(r["Source"], r["Target"], r["Weight"]) for r in read("customer_importance.csv.gz")]
    return rows, importance
