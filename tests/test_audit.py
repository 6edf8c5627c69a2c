"""The audit finds every planted difference of one row, and finds none in correct data."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from support.oracle import Row
from support.streams import read_banksim, write_chunk, write_importance
from tallymark.audit import AuditError, audit
from tallymark.lake import in_warehouse
from tallymark.local.replay import replay
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore

THRESHOLDS = {
    "upgrade_min_merchant_transactions": 100,
    "upgrade_top_percent": 50,
    "upgrade_bottom_percent": 50,
    "child_max_average_amount": 22.5,
    "child_min_transactions": 5,
    "dei_min_female_customers": 3,
}
FILE = "output/detections/detections-00000001.csv"


@pytest.fixture(scope="module")
def replayed(tmp_path_factory) -> Path:
    """Sixteen chunks with detections of all patterns. The last eight chunks were evaluated with other thresholds."""
    root = tmp_path_factory.mktemp("audited")
    chance = random.Random(5)
    names = [f"C{number}" for number in range(40)]
    genders = dict(zip(names, "MMF" * 14, strict=False))

    def row() -> Row:
        customer = names[min(39, int(chance.expovariate(0.08)))]
        return Row(customer, chance.choice("MN"), genders[customer], chance.choice(("5", "40")))

    chunks = [[row() for _ in range(40)] for _ in range(16)]
    write_importance(root, [(chance.choice(names), chance.choice("MN"), str(chance.randrange(9))) for _ in range(90)])
    for number, rows in enumerate(chunks[:8]):
        write_chunk(root, f"chunk_{number}", rows)
    (root / "input/transactions/chunk_0").open("a").write("bad row\n")
    replay(root, root, batch=3, vars=THRESHOLDS)
    for number, rows in enumerate(chunks[8:], start=8):
        write_chunk(root, f"chunk_{number}", rows)
    aggregate = {"upgrade_weight_aggregate": "avg", "child_min_transactions": 3, "upgrade_top_percent": 70}
    replay(root, root, batch=3, vars=THRESHOLDS | aggregate)
    with duckdb.connect(str(root / "warehouse.duckdb"), read_only=True) as warehouse:
        patterns = warehouse.execute(
            "select pattern_id, max(chunk_seq) from detections group by 1 order by 1"
        ).fetchall()
    assert [pattern for pattern, _ in patterns] == ["PatId1", "PatId2", "PatId3"]
    assert patterns[0][1] > 8 and patterns[1][1] > 8
    return root


@pytest.fixture
def copy(replayed, tmp_path) -> Path:
    shutil.copytree(replayed, tmp_path / "copy")
    return tmp_path / "copy"


def audited(root: Path) -> dict[str, int]:
    return audit(Settings(warehouse=root / "warehouse.duckdb"), FolderStore(root))


def test_audit_of_correct_data_finds_nothing(copy):
    before = (copy / "warehouse.duckdb").read_bytes()
    done = audited(copy)
    assert done["tests"] >= 10
    assert done["detection_files"] == len(list((copy / "output/detections").iterdir())) > 0
    assert done["other_files"] == len(list((copy / "output").rglob("*.*"))) - done["detection_files"] > 0
    assert (copy / "warehouse.duckdb").read_bytes() == before


def test_skipped_test_is_a_difference(copy, monkeypatch):
    invoke = in_warehouse.invoke
    left_out = ["--exclude", "child_detections_are_those_of_the_raw_rows"]
    monkeypatch.setattr(
        in_warehouse, "invoke", lambda settings, arguments, *more: invoke(settings, arguments + left_out, *more)
    )
    with pytest.raises(
        AuditError, match=r"found 1 difference:\nchild_detections_are_those_of_the_raw_rows: did not run$"
    ):
        audited(copy)


def test_audit_without_chunks(tmp_path, caplog):
    caplog.set_level("INFO")
    assert audited(tmp_path) == {"tests": 0, "detection_files": 0, "other_files": 0}
    assert "Nothing to audit" in caplog.text


def sql(statement: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        with duckdb.connect(str(root / "warehouse.duckdb")) as warehouse:
            assert warehouse.execute(statement).fetchone() == (1,), "one row"

    return plant


def changed_file(root: Path) -> None:
    text = (root / FILE).read_text()
    (root / FILE).write_text(text.replace(",M\n", ",N\n", 1))


ONE = "where rowid = (select min(rowid) from {})"
DIFFERENCES = {
    "a raw row is missing": (
        sql(f"delete from raw.transactions {ONE.format('raw.transactions')}"),
        "raw_rows_are_those",
    ),
    "a raw row was added": (
        sql("insert into raw.transactions from raw.transactions limit 1"),
        "raw_rows_are_those",
    ),
    "an amount in a raw row": (
        sql(f"update raw.transactions set amount = amount + 0.0001 {ONE.format('raw.transactions')}"),
        "state_is_that",
    ),
    "a gender in a raw row": (
        sql(
            "update raw.transactions set gender = 'E' where (chunk_seq, line_number) = (select min((t.chunk_seq, "
            "t.line_number)) from raw.transactions as t, merchant_customers as c where t.customer = c.customer and "
            "t.merchant = c.merchant and t.chunk_seq = c.first_female_chunk_seq and c.transactions = 1)"
        ),
        "merchants_are_those",
    ),
    "a rejected row is missing": (sql("delete from raw.rejected_rows"), "raw_rows_are_those"),
    "a row of the importance is missing": (
        sql(f"delete from raw.customer_importance {ONE.format('raw.customer_importance')}"),
        "importance_rows_are_those",
    ),
    "state of a customer": (
        sql("update merchant_customers set transactions = transactions + 1 where merchant = 'M' and customer = 'C3'"),
        "state_is_that",
    ),
    "a duplicate customer in the state": (
        sql("insert into merchant_customers from merchant_customers limit 1"),
        "state_is_that",
    ),
    "a customer is missing in the state": (
        sql("delete from merchant_customers where merchant = 'M' and customer = 'C3'"),
        "state_is_that",
    ),
    "state of a merchant": (
        sql("update merchants set female_customers = female_customers - 1 where merchant = 'M'"),
        "merchants_are_those",
    ),
    "the distribution of a merchant": (
        sql(
            "update customers_by_transactions set customers = customers + 1 where rowid = "
            "(select min(rowid) from customers_by_transactions where customers > 0)"
        ),
        "distributions_are_those",
    ),
    "a light customer is missing": (
        sql(f"delete from lightest_customers {ONE.format('lightest_customers')}"),
        "lightest_customers_are_those",
    ),
    "transactions of a light customer": (
        sql(f"update lightest_customers set transactions = transactions + 1 {ONE.format('lightest_customers')}"),
        "lightest_customers_are_those",
    ),
    "a weight": (
        sql(f"update customer_weights set sum_weight = sum_weight + 1 {ONE.format('customer_weights')}"),
        "weights_are_those",
    ),
    **{
        f"{pattern}: {what}": (
            sql(statement.format(f"(select max(detection_id) from detections where pattern_id = '{pattern}')")),
            test,
        )
        for pattern, test in {
            "PatId1": "upgrade_detections_are_those",
            "PatId2": "child_detections_are_those",
            "PatId3": "dei_needed_detections_are_those",
        }.items()
        for what, statement in {
            "a detection is missing": "delete from detections where detection_id = {}",
            "another chunk": "update detections set chunk_seq = chunk_seq + 1 where detection_id = {}",
        }.items()
    },
    "evidence of an upgrade": (
        sql(
            "update detections set weight = weight + 1 "
            "where detection_id = (select max(detection_id) from detections where pattern_id = 'PatId1')"
        ),
        "upgrade_detections_are_those",
    ),
    "an extra detection": (
        sql(
            "insert into detections select * replace (detection_id + 1 as detection_id, 'planted' as customer) "
            "from detections order by detection_id desc limit 1"
        ),
        "detections_are_numbered",
    ),
    "the time of a detection": (
        sql("update detections set detected_at = detected_at + interval 1 second where detection_id = 1"),
        "only in the file",
    ),
    "the file of a detection": (
        sql("update detections set file_number = 2 where detection_id = 1"),
        "detections_are_numbered",
    ),
    "the rows of a file": (
        sql("update output.files set row_count = row_count + 1 where file_number = 1"),
        "all_files_are_in_order",
    ),
    "a file changed": (changed_file, "was changed after it was exported"),
    "a file deleted": (lambda root: (root / FILE).unlink(), "is no longer in the bucket"),
    "a file of rejected rows deleted": (
        lambda root: (root / "output/rejected/chunk_0.csv").unlink(),
        "output/rejected/chunk_0.csv: is no longer in the bucket",
    ),
    "an extra file": (
        lambda root: shutil.copy(root / FILE, root / FILE.replace("1.csv", "9.csv")),
        "never wrote it",
    ),
    "the warehouse is missing": (lambda root: (root / "warehouse.duckdb").unlink(), "never wrote it"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_planted_difference_is_found(copy, difference):
    plant, found = DIFFERENCES[difference]
    plant(copy)
    with pytest.raises(AuditError, match=found) as raised:
        audited(copy)
    print(raised.value)


@pytest.mark.system
def test_banksim_is_audited_in_time(tmp_path, banksim):
    """594,643 transactions in 60 chunks."""
    rows, importance = read_banksim(banksim)
    for number, start in enumerate(range(0, len(rows), 10_000)):
        write_chunk(tmp_path, f"chunk_{number}", rows[start : start + 10_000])
    write_importance(tmp_path, importance)
    replay(tmp_path, tmp_path)
    started = time.monotonic()
    audited(tmp_path)
    seconds = time.monotonic() - started
    print(f"{seconds:.1f} s")
    assert seconds < 60
