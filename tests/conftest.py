"""What several tests share: streams laid out like the bucket, replays of them, and BankSim where it is there."""

import csv
import gzip
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from oracle import Detection, Row
from tallymark.local import stack as local_stack
from tallymark.publish import snapshot
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.warehouse.connection import connect

# Where Airflow puts its configuration when a test imports it.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow"))

# Two stacks that start at the same time would both find the usual port free.
local_stack.UI_PORT = 0

# What must succeed may take its time: tests do not know how busy the machine is.
local_stack.START_TIMEOUT_SECONDS = 600
snapshot.PUT_SECONDS = 600

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


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Where processes come from that have imported and parsed everything already, as Airflow's tasks do."""
    from test_rebuild import VARS

    paths = os.pathsep.join(str(PROJECT_ROOT / folder) for folder in ("plugins", "tests"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tallymark.on_airflow.preload", "crash"])
    warehouse = tmp_path_factory.mktemp("parsed") / "warehouse.duckdb"
    variables = {"TALLYMARK_VARS": json.dumps(VARS), "TALLYMARK_WAREHOUSE": str(warehouse)}
    with patch.dict(os.environ, variables, PYTHONPATH=paths):
        yield context


@pytest.fixture(scope="session")
def banksim() -> Path:
    """The folder with BankSim; not ours to publish, so not everybody has it."""
    folder = Path(os.environ.get("TALLYMARK_BANKSIM", PROJECT_ROOT.parent / "shared" / "data"))
    if not (folder / "transactions.csv.gz").is_file():
        pytest.skip("BankSim is not here; set TALLYMARK_BANKSIM to a folder with its transactions.csv.gz")
    return folder


def read_banksim(banksim: Path) -> tuple[list[Row], list[tuple[str, str, str]]]:
    """Transactions and importance rows, read with Python's csv module."""

    def read(name: str) -> Sequence[dict[str, str]]:
        with gzip.open(banksim / name, "rt", newline="") as file:
            return list(csv.DictReader(file, quotechar="'"))

    rows = [Row(r["customer"], r["merchant"], r["gender"], r["amount"]) for r in read("transactions.csv.gz")]
    importance = [(r["Source"], r["Target"], r["Weight"]) for r in read("customer_importance.csv.gz")]
    return rows, importance
