"""Streams in folders laid out like the bucket, and the results of replaying them."""

import csv
import gzip
import random
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
AGGREGATES = ("sum", "avg", "min", "max")
HEADER = "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud"


def csv_text(rows: Iterable[Row], quote: str = "'") -> str:
    """Return rows as a transactions file in the format of BankSim."""
    q = quote
    lines = [
        f"0,{q}{row.customer}{q},{q}2{q},{q}{row.gender}{q},{q}28007{q},{q}{row.merchant}{q},{q}28007{q},"
        f"{q}es_food{q},{row.amount},0"
        for row in rows
    ]
    return "\n".join([HEADER, *lines]) + "\n"


def write_importance(data: Path, importance: Iterable[tuple[str, str, str]]) -> None:
    """Write the customer importance to a folder laid out like the bucket."""
    path = data / "input/customers/customer_importance.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"'{customer}','{merchant}',{weight},'es_food',0" for customer, merchant, weight in importance]
    path.write_text("\n".join(["Source,Target,Weight,typeTrans,fraud", *lines]) + "\n")


def write_chunk(data: Path, name: str, rows: Iterable[Row]) -> None:
    """Write one chunk to a folder laid out like the bucket."""
    path = data / "input/transactions" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(csv_text(rows))


def write_stream(data: Path, chunks: Iterable[Iterable[Row]], importance: Iterable[tuple[str, str, str]]) -> None:
    """Write chunk_1, chunk_2, … and the customer importance to a folder laid out like the bucket."""
    write_importance(data, importance)
    for number, rows in enumerate(chunks, start=1):
        write_chunk(data, f"chunk_{number}", rows)


def small_stream(chunks: int, rows: int) -> tuple[list[list[Row]], list[tuple[str, str, str]]]:
    """Return chunks of so many rows each, in which every pattern has detections under THRESHOLDS, and importance."""
    chance = random.Random(7)
    customers = [(f"C{i}", "FMM"[i % 3]) for i in range(15)]

    def row() -> Row:
        name, gender = chance.choice(customers)
        return Row(name, chance.choice(("M1", "M2")), gender, chance.choice(("20", "25")))

    importance = [(name, merchant, str(chance.randrange(9))) for name, _ in customers for merchant in ("M1", "M2")]
    return [[row() for _ in range(rows)] for _ in range(chunks)], importance


def exported(out: Path) -> list[tuple[str, str, str, str]]:
    """Return (patternId, ActionType, customerName, MerchantId) of all rows in detection files, in order."""
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
    """Return the detections of a replay in order of detection_id, and assert that the files hold the same."""
    with connect(Settings(warehouse=out / "warehouse.duckdb"), read_only=True) as warehouse:
        rows = warehouse.execute(
            "select detection_id, chunk_seq, pattern_id, merchant, customer, action_type "
            "from detections order by detection_id"
        ).fetchall()
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    assert exported(out) == [(pattern, action, customer, merchant) for *_, pattern, merchant, customer, action in rows]
    return [Detection(*row[1:5]) for row in rows]


def read_banksim(banksim: Path) -> tuple[list[Row], list[tuple[str, str, str]]]:
    """Return the transactions and importance rows of BankSim, read with Python's csv module."""

    def read(name: str) -> Sequence[dict[str, str]]:
        with gzip.open(banksim / name, "rt", newline="") as file:
            return list(csv.DictReader(file, quotechar="'"))

    rows = [Row(r["customer"], r["merchant"], r["gender"], r["amount"]) for r in read("transactions.csv.gz")]
    importance = [(r["Source"], r["Target"], r["Weight"]) for r in read("customer_importance.csv.gz")]
    return rows, importance


def random_stream(chance: random.Random) -> tuple[list[list[Row]], list[tuple[str, str, str]], dict]:
    """Return chunks, importance and vars of a small stream with many ties and values exactly at a threshold."""
    customers = [f"C{i}" for i in range(chance.choice((3, 8, 30)))]
    merchants = [f"M{i}" for i in range(chance.choice((1, 2, 4)))]
    gender = {customer: chance.choice(("F", "M", "f", " M", "E", "")) for customer in customers}
    activity = [chance.paretovariate(1) for _ in customers]
    amounts = chance.choice((["22.5", "22.4999", "22.5001"], ["0", "1", "45"], ["1E1", "2.35E1", "23.0000"]))

    def row() -> Row:
        customer = chance.choices(customers, activity)[0]
        # Occasionally a customer appears with another gender.
        seen = gender[customer] if chance.random() < 0.95 else "F"
        return Row(customer, chance.choice(merchants), seen, chance.choice(amounts))

    chunks = [[row() for _ in range(chance.choice((0, 1, 10, 60)))] for _ in range(chance.randint(3, 12))]
    importance = [
        (chance.choice(customers), chance.choice(merchants), chance.choice(("0.1", "0.2", "0.3", "-1", "1e-18")))
        for _ in range(chance.choice((0, 5, 200)))
    ]
    thresholds = {
        "upgrade_min_merchant_transactions": chance.choice((0, 5, 40)),
        "upgrade_top_percent": chance.choice((1, 0.5, 10, 25, 33.3, 50, 100)),
        "upgrade_bottom_percent": chance.choice((1, 0.5, 10, 25, 33.3, 50, 100)),
        "upgrade_weight_aggregate": chance.choice(AGGREGATES),
        "child_max_average_amount": chance.choice((22.5, 23, 10, 0.5)),
        "child_min_transactions": chance.choice((1, 2, 5)),
        "dei_min_female_customers": chance.choice((0, 1, 3)),
    }
    return chunks, importance, thresholds


def write_in_some_way(chance: random.Random, data: Path, number: int, rows: list[Row]) -> None:
    """Write a chunk in a random layout: one object or a folder of parts, gzip or not, with any kind of quotes."""
    text = csv_text(rows, quote=chance.choice(("'", '"', "")))
    folder = data / "input/transactions"
    folder.mkdir(parents=True, exist_ok=True)
    match chance.randrange(4):
        case 0:
            (folder / f"chunk_{number}").write_text(text)
        case 1:
            (folder / f"chunk_{number}.csv").write_text(text.replace("\n", "\r\n"))
        case 2:
            (folder / f"chunk_{number}.csv.gz").write_bytes(gzip.compress(text.encode()))
        case 3:
            (folder / f"chunk_{number}").mkdir()
            half = len(rows) // 2
            (folder / f"chunk_{number}" / "part-00000.csv").write_text(csv_text(rows[:half]))
            (folder / f"chunk_{number}" / "part-00001.csv").write_text(csv_text(rows[half:]))
            (folder / f"chunk_{number}" / "_SUCCESS").touch()
