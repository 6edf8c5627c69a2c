"""An object that cannot be read while S3 serves others: its chunk is retried later, and other chunks are taken."""

import random
from collections.abc import Iterator

import pytest
from botocore.config import Config
from support import servers
from support.faulty_s3 import Fault, FaultyS3, faulty_s3
from support.gate import in_gate
from support.loading import GOOD, query
from tallymark.intake import ledger
from tallymark.intake.listing import waiting_chunks
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.publish import alerts
from tallymark.settings import Settings
from tallymark.store import BucketError, UnreadableError
from tallymark.store.s3 import S3Store
from tallymark.warehouse.connection import connect
from tallymark.warehouse.ledger_index import LedgerIndex
from tenacity import wait_none

WEIGHTS = "Source,Target,Weight\n'C1','M1',{}\n"
KINDS = ["denied_403", "missing_404", "error_500", "cut", "shortened", "archived_403", "reset"]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[servers.Served]:
    with servers.rclone(tmp_path_factory.mktemp("s3")) as served:
        yield served


@pytest.fixture
def bucket(server, tmp_path, monkeypatch) -> Iterator["Bucket"]:
    monkeypatch.setattr(S3Store._download.retry, "wait", wait_none())
    with faulty_s3(server.port) as proxy:
        yield Bucket(
            server, proxy, Settings(warehouse=tmp_path / "warehouse.duckdb", bucket=f"b{random.getrandbits(60)}")
        )


class Bucket:
    """A separate bucket on the server, behind a proxy that damages responses for single objects."""

    def __init__(self, server: servers.Served, proxy: FaultyS3, settings: Settings):
        self.settings, self.proxy = settings, proxy
        self._client = server.client()
        self._client.create_bucket(Bucket=settings.bucket)
        config = Config(retries={"total_max_attempts": 2, "mode": "standard"}, read_timeout=120)
        self.store = S3Store(server.client(url=proxy.url, config=config), settings.bucket)

    def put(self, key: str, content: str) -> None:
        self._client.put_object(Bucket=self.settings.bucket, Key=f"input/{key}", Body=content.encode())

    def harm(self, kind: str, key: str = "", times: float = float("inf")) -> None:
        self.proxy.faults = [Fault(kind, rf"GET /\w+/input/{key}", times)]

    def reads(self, key: str) -> int:
        return sum(request.endswith(f"/input/{key}") for request in self.proxy.requests)

    def run(self) -> dict[str, int]:
        loaded = load_chunks(self.settings, self.store)
        build_models(self.settings)
        export_detections(self.settings, self.store)
        return loaded

    def ledger(self) -> list[str]:
        return [
            key.rpartition("/")[2] for (key,) in query(self.settings, "select chunk_key from raw.chunks order by all")
        ]

    def issues(self) -> list[tuple[str, str]]:
        with connect(self.settings, read_only=True) as warehouse:
            return [condition[:2] for condition in alerts.conditions(self.settings, warehouse)]

    def is_due(self) -> bool:
        return bool(waiting_chunks(self.settings, self.store.list("input/transactions/")))

    def make_due(self) -> None:
        with connect(self.settings) as warehouse:
            warehouse.execute("update raw.unreadable_inputs set retry_at = retry_at - interval 1 hour")
        LedgerIndex(self.settings.warehouse, self.settings.limits).discard()


@pytest.mark.parametrize("kind", in_gate(KINDS, "denied_403", "cut"))
def test_unreadable_chunk_does_not_block_others(bucket, kind, caplog):
    for number in (1, 2, 3):
        bucket.put(f"transactions/chunk_{number}", GOOD)
    bucket.harm(kind, "transactions/chunk_2")
    loaded = bucket.run()
    assert (loaded["chunks_accepted"], loaded["chunks_unreadable"]) == (2, 1)
    assert bucket.ledger() == ["chunk_1", "chunk_3"]
    [warning] = [text for text in caplog.messages if text.startswith("UNREADABLE")]
    assert "input/transactions/chunk_2" in warning and "S3 is unreachable" not in warning.partition("Otherwise")[0]
    assert bucket.issues() == [("unreadable chunk", "input/transactions/chunk_2")]
    assert not bucket.is_due()
    reads = bucket.reads("transactions/chunk_2")
    bucket.put("transactions/chunk_4", GOOD)
    assert bucket.run()["chunks_accepted"] == 1
    assert bucket.reads("transactions/chunk_2") == reads, "its retry is not due"
    bucket.proxy.faults.clear()
    bucket.make_due()
    assert bucket.is_due()
    assert bucket.run()["chunks_accepted"] == 1
    assert bucket.issues() == []
    assert query(bucket.settings, "select count(*) from raw.transactions") == [(4,)]


def test_first_chunk_may_be_unreadable(bucket):
    """No earlier read has shown that S3 serves anything."""
    for number in (1, 2):
        bucket.put(f"transactions/chunk_{number}", GOOD)
    bucket.harm("error_500", "transactions/chunk_1")
    assert bucket.run()["chunks_accepted"] == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("taken", [0, 1])
def test_an_outage_fails_the_run(bucket, kind, taken):
    """Afterwards all chunks are taken in order."""
    if kind == "archived_403":
        pytest.skip("S3 reports archived objects as archived, which is not an outage")
    for number in range(taken):
        bucket.put(f"transactions/chunk_0{number}", GOOD)
    load_chunks(bucket.settings, bucket.store)
    for number in (1, 2, 3):
        bucket.put(f"transactions/chunk_{number}", GOOD)
    bucket.harm(kind, "transactions/chunk_")
    with pytest.raises(BucketError, match="input/transactions/chunk_1 in bucket") as failed:
        load_chunks(bucket.settings, bucket.store)
    assert not isinstance(failed.value, UnreadableError)
    assert query(bucket.settings, "select count(*) from raw.unreadable_inputs") == [(0,)]
    bucket.proxy.faults.clear()
    assert load_chunks(bucket.settings, bucket.store)["chunks_accepted"] == 3
    assert bucket.ledger()[taken:] == ["chunk_1", "chunk_2", "chunk_3"]


def test_transient_fault_keeps_chunk_order(bucket):
    for number in (1, 2, 3):
        bucket.put(f"transactions/chunk_{number}", GOOD)
    bucket.harm("error_500", "transactions/chunk_2", times=2)
    assert load_chunks(bucket.settings, bucket.store)["chunks_accepted"] == 3
    keys = query(bucket.settings, "select chunk_key from raw.chunks order by chunk_seq")
    assert [key[-1] for (key,) in keys] == ["1", "2", "3"]


@pytest.mark.parametrize("kind", in_gate(KINDS, "archived_403", "shortened"))
def test_last_good_importance_stays_in_use(bucket, kind, caplog):
    bucket.put("customers/all.csv", WEIGHTS.format(1))
    bucket.put("transactions/chunk_1", GOOD)
    bucket.run()
    bucket.put("customers/all.csv", WEIGHTS.format(2))
    bucket.harm(kind, "customers/all.csv")
    for number in (2, 3):
        bucket.put(f"transactions/chunk_{number}", GOOD)
        assert bucket.run()["chunks_accepted"] == 1
        assert ("unreadable customer importance", "input/customers/") in bucket.issues()
    assert len([text for text in caplog.messages if text.startswith("UNREADABLE")]) == 1, "the retry is not due"
    bucket.proxy.faults.clear()
    bucket.make_due()
    bucket.put("transactions/chunk_4", GOOD)
    bucket.run()
    assert query(bucket.settings, "select importance_version from raw.chunks order by chunk_seq") == [
        (1,),
        (1,),
        (1,),
        (2,),
    ]
    assert bucket.issues() == []


def test_unreadable_first_importance_fails_the_run(bucket):
    bucket.put("customers/all.csv", WEIGHTS.format(1))
    for number in (1, 2):
        bucket.put(f"transactions/chunk_{number}", GOOD)
    bucket.harm("missing_404", "customers/all.csv")
    with pytest.raises(BucketError, match=r"input/customers/all\.csv"):
        load_chunks(bucket.settings, bucket.store)
    assert bucket.ledger() == []


def test_constantly_replaced_object_is_unreadable(bucket):
    bucket.put("transactions/chunk_1", GOOD)
    bucket.put("transactions/chunk_2", GOOD)
    numbers = iter(range(100))

    def replace(request: str) -> None:
        if request.endswith("/input/transactions/chunk_1"):
            bucket.put("transactions/chunk_1", f"{GOOD}{next(numbers)}\n")

    bucket.proxy.choose = replace
    loaded = bucket.run()
    assert (loaded["chunks_accepted"], loaded["chunks_unreadable"]) == (1, 1)
    [(reason,)] = query(bucket.settings, "select reason from raw.unreadable_inputs")
    assert "It changed 3 times between listing and reading" in reason
    bucket.proxy.choose = None
    assert bucket.run()["chunks_accepted"] == 1, "it is a different object now, so it is due"


def test_retry_delay_doubles_up_to_15_minutes(tmp_path):
    pauses = []
    with connect(Settings(warehouse=tmp_path / "warehouse.duckdb")) as warehouse:
        for etag in ("x", "x", "x", "x", "x", "x", "other"):
            ledger.record_unreadable(warehouse, "chunk", "chunk_1", etag, "why")
            pause = "select epoch(retry_at - last_failed_at), attempts from raw.unreadable_inputs"
            [(seconds, attempts)] = warehouse.execute(pause).fetchall()
            pauses.append(seconds)
    assert pauses == [60, 120, 240, 480, 900, 900, 60]
    assert attempts == 1
