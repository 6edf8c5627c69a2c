"""Chunks are identified by key and content: new ETags, corrections and conflicts, on a real S3 server."""

import random
from collections.abc import Iterator

import pytest
from support import servers
from support.gate import in_gate
from support.loading import GOOD, query
from tallymark.audit import audit
from tallymark.intake.listing import waiting_chunks
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.recovery.rebuild import RebuildError, rebuild
from tallymark.settings import Settings
from tallymark.store.s3 import S3Store
from tallymark.warehouse.ledger_index import LedgerIndex

HEADER = "customer,merchant,gender,amount\n"
WEIGHTS = "Source,Target,Weight\nC1,M1,1\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[servers.Served]:
    with servers.moto(tmp_path_factory.mktemp("s3")) as served:
        yield served


@pytest.fixture
def bucket(server, tmp_path) -> "Bucket":
    settings = Settings(
        warehouse=tmp_path / "warehouse.duckdb", bucket=f"b{random.getrandbits(60)}", folder_settle_seconds=0
    )
    return Bucket(server.client(), settings)


class Bucket:
    def __init__(self, client, settings: Settings):
        self.settings, self.store, self._client = settings, S3Store(client, settings.bucket), client
        client.create_bucket(Bucket=settings.bucket)

    def put(self, key: str, content: str) -> None:
        self._client.put_object(Bucket=self.settings.bucket, Key=f"input/{key}", Body=content.encode())

    def restore(self) -> None:
        """Upload every input object again in parts, which changes its ETag as in a restored or copied bucket."""
        for stored in list(self.store.list("input/")):
            where = {"Bucket": self.settings.bucket, "Key": stored.key}
            upload = {**where, "UploadId": self._client.create_multipart_upload(**where)["UploadId"]}
            part = self._client.upload_part(**upload, PartNumber=1, Body=self.store.get(stored))
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            self._client.complete_multipart_upload(**upload, MultipartUpload=parts)

    def run(self, **settings) -> dict[str, int]:
        changed = self.settings.model_copy(update=settings)
        loaded = load_chunks(changed, self.store)
        build_models(changed)
        export_detections(changed, self.store)
        return loaded

    def ledger(self) -> list[tuple]:
        return query(self.settings, "select chunk_key, state, rows_accepted from raw.chunks order by chunk_seq")

    def is_anything_waiting(self) -> bool:
        return bool(waiting_chunks(self.settings, self.store.list("input/transactions/")))


@pytest.fixture
def restored(bucket) -> Bucket:
    """A bucket with a chunk of each kind, all of which were loaded and then got new ETags."""
    bucket.put("transactions/chunk_1", GOOD)
    bucket.put("transactions/chunk_2", "no header\n")
    bucket.put("transactions/chunk_3", f"{HEADER}C1,M1,F,a lot\n")
    bucket.put("transactions/chunk_4/part-0", GOOD.replace("C1", "C2"))
    bucket.put("transactions/chunk_4/_SUCCESS", "")
    bucket.put("customers/all.csv", WEIGHTS)
    assert bucket.run()["chunks_accepted"] == 2
    bucket.restore()
    return bucket


def test_same_content_is_the_same_chunk(restored):
    before = restored.ledger()
    assert restored.is_anything_waiting()
    loaded = restored.run()
    assert (loaded["chunks_accepted"], loaded["chunks_rejected"], loaded["chunks_in_conflict"]) == (0, 0, 0)
    assert restored.ledger() == before
    assert not restored.is_anything_waiting()
    assert query(restored.settings, "select importance_version from raw.importance_versions") == [(1,)]
    audit(restored.settings, restored.store)


def test_new_chunks_precede_comparisons(restored):
    restored.put("transactions/chunk_5", GOOD.replace("C1", "C5"))
    assert restored.run(max_chunks_per_run=1)["chunks_accepted"] == 1
    for _ in range(4):
        assert restored.is_anything_waiting()
        restored.run(max_chunks_per_run=1)
    assert not restored.is_anything_waiting()


@pytest.mark.parametrize("when", ["before the new ETags are seen", "afterwards"])
def test_rebuild_accepts_new_etags(restored, when):
    if when == "afterwards":
        restored.run()
    facts = [restored.ledger(), query(restored.settings, "select line, reason from raw.rejected_rows")]
    restored.settings.warehouse.unlink()
    LedgerIndex(restored.settings.warehouse, restored.settings.limits).discard()
    rebuild(restored.settings, restored.store)
    assert [restored.ledger(), query(restored.settings, "select line, reason from raw.rejected_rows")] == facts
    assert query(restored.settings, "select importance_version, state from raw.importance_versions") == [
        (1, "accepted")
    ]
    audit(restored.settings, restored.store)
    assert set(restored.run().values()) == {0}
    assert not restored.is_anything_waiting()


def test_changed_content_is_a_conflict(restored):
    restored.run()
    restored.put("transactions/chunk_1", GOOD.replace("C1", "C9"))
    restored.put("transactions/chunk_4/part-0", GOOD)
    for expected in (2, 0):
        assert restored.run()["chunks_in_conflict"] == expected
    assert sum(rows for *_, rows in restored.ledger()) == 2
    restored.settings.warehouse.unlink()
    LedgerIndex(restored.settings.warehouse, restored.settings.limits).discard()
    with pytest.raises(RebuildError, match=r"2 chunks are missing.*\n.*chunk_1\n.*chunk_4/\n"):
        rebuild(restored.settings, restored.store)


@pytest.mark.parametrize("amount", in_gate(['"4,55"', "₹4.55", "4.550000001"], '"4,55"'))
def test_chunk_without_valid_rows_can_be_corrected(bucket, amount):
    bucket.put("transactions/chunk_1", HEADER + f"C1,M1,F,{amount}\n" * 3 + "C1,M1,F,-1\n")
    assert bucket.run()["chunks_rejected"] == 1
    [(reason,)] = query(bucket.settings, "select reason from raw.chunks")
    assert reason.startswith("has no valid rows (4 rejected, most often: amount ")
    assert "negative" not in reason
    rejected = bucket.store.get(next(iter(bucket.store.list("output/rejected/")))).decode()
    assert rejected.count("amount is negative") == 1 and "has no valid rows" in rejected
    bucket.put("transactions/chunk_1", HEADER + "C1,M1,F,4.55\n" * 4)
    assert bucket.run()["rows_accepted"] == 4
    audit(bucket.settings, bucket.store)
    facts = bucket.ledger()
    bucket.settings.warehouse.unlink()
    LedgerIndex(bucket.settings.warehouse, bucket.settings.limits).discard()
    rebuild(bucket.settings, bucket.store)
    assert bucket.ledger() == facts
    audit(bucket.settings, bucket.store)


def test_chunk_without_rows_stays_accepted(bucket):
    bucket.put("transactions/chunk_1", HEADER)
    assert bucket.run()["chunks_accepted"] == 1
    bucket.put("transactions/chunk_1", f"{HEADER}C1,M1,F,1\n")
    assert bucket.run()["chunks_in_conflict"] == 1


def test_importance_without_valid_rows_is_not_used(bucket):
    for number, weights in enumerate((WEIGHTS, 'Source,Target,Weight\nC1,M1,"1,5"\n', WEIGHTS), start=1):
        bucket.put("customers/all.csv", weights)
        bucket.put(f"transactions/chunk_{number}", GOOD.replace("C1", f"C{number}"))
        bucket.run()
    assert query(bucket.settings, "select importance_version from raw.chunks order by chunk_seq") == [(1,), (1,), (1,)]
    assert query(bucket.settings, "select reason from raw.importance_versions where importance_version = 2") == [
        ("has no valid rows (1 rejected)",)
    ]


def test_rejected_content_is_known_under_new_etag(bucket):
    """If the chunk was corrected in between, the old content is a conflict like any other."""
    bucket.put("transactions/chunk_1", "no header\n")
    bucket.run()
    bucket.restore()
    assert bucket.run() == bucket.run()
    bucket.put("transactions/chunk_1", GOOD)
    assert bucket.run()["chunks_accepted"] == 1
    bucket.put("transactions/chunk_1", "no header\n")
    assert bucket.run()["chunks_in_conflict"] == 1
