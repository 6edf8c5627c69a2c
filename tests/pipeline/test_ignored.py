"""Objects below an input prefix that are not input are logged and become open issues."""

import os
import time

import pytest
from support.loading import GOOD, put, query
from tallymark.intake import listing
from tallymark.intake.chunks import GRACE_SECONDS
from tallymark.intake.listing import has_newly_ignored
from tallymark.pipeline.load import load_chunks
from tallymark.publish import alerts
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

PREFIX = "input/transactions/"


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb", folder_settle_seconds=0)


@pytest.fixture
def bucket(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


def put_long_ago(bucket: FolderStore, name: str, folder: str = "input/transactions") -> None:
    put(bucket, name, GOOD, folder)
    long_ago = time.time() - GRACE_SECONDS - 1
    os.utime(bucket.root / folder / name, (long_ago, long_ago))


def issues(settings: Settings) -> list[tuple[str, str]]:
    with connect(settings, read_only=True) as warehouse:
        return [condition[:2] for condition in alerts.conditions(settings, warehouse)]


NAMES = [
    *("dt=2026-11-28/chunk_1.csv", "2026/11/28/09/stream-1.csv", "Chunk_1.csv", "chunk-1.csv", "transactions_1.csv"),
    *(
        "chunk_7.csv.6eF1A2b3",
        "chunk_7.csv.1",
        "chunk_7.csv.gz.1",
        "chunk_7.6eF1A2b3",
        "chunk_7.csv~",
        "chunk_7.csv.bak",
    ),
    *("chunk_7.gz.csv", "chunk_7.csv/a.csv.part", "chunk_.csv", "chunk_8.csv.tmp", "_temporary/0/part-0"),
]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("chunk_7.csv/")])
def test_misnamed_object_is_an_open_issue(settings, bucket, name, caplog):
    """It is logged once, even before the first chunk was taken."""
    put_long_ago(bucket, name)
    objects = list(bucket.list(PREFIX))
    assert has_newly_ignored(settings, objects), "it must trigger a run"
    for _ in range(2):
        assert load_chunks(settings, bucket)["chunks_accepted"] == 0
        assert issues(settings) == [("ignored objects", PREFIX)]
        assert not has_newly_ignored(settings, objects)
    [warning] = [text for text in caplog.messages if text.startswith("IGNORED")]
    assert warning.startswith(f"IGNORED: {PREFIX}: {name.partition('/')[0]}")
    (bucket.root / PREFIX / name).unlink()
    load_chunks(settings, bucket)
    assert issues(settings) == []


@pytest.mark.parametrize("name", ["Chunk_1.csv", "chunk_1/part-0"])
def test_recent_object_is_no_open_issue(settings, bucket, name):
    """An upload may still be running, or the folder gets its marker later."""
    put(bucket, name, GOOD)
    load_chunks(settings, bucket)
    assert issues(settings) == []
    assert not has_newly_ignored(settings, list(bucket.list(PREFIX)))


def test_folder_without_marker_is_an_open_issue(settings, bucket, caplog):
    put_long_ago(bucket, "chunk_2/part-0.csv")
    put(bucket, "chunk_1", GOOD)
    load_chunks(settings, bucket)
    assert issues(settings) == [("incomplete folder", f"{PREFIX}chunk_2/")]
    [warning] = [text for text in caplog.messages if text.startswith("IGNORED")]
    assert "chunk_2/: has had 1 part but no _SUCCESS marker since" in warning
    put(bucket, "chunk_2/_SUCCESS", "")
    assert load_chunks(settings, bucket)["chunks_accepted"] == 1
    assert issues(settings) == []


def test_metadata_files_are_no_open_issue(settings, bucket):
    for name in ("_SUCCESS", "_started_1", "_committed_1", ".part-0.csv.crc", "_metadata", "x_$folder$"):
        put_long_ago(bucket, name)
        put_long_ago(bucket, f"chunk_1/{name}")
    load_chunks(settings, bucket)
    assert ("ignored objects", PREFIX) not in issues(settings)


def test_ignored_object_below_customers_prefix(settings, bucket):
    put(bucket, "chunk_1", GOOD)
    put(bucket, "all.csv", "Source,Target,Weight\nC1,M1,1\n", "input/customers")
    put_long_ago(bucket, "all.csv.tmp", "input/customers")
    load_chunks(settings, bucket)
    assert issues(settings) == [("ignored objects", "input/customers/")]
    assert not has_newly_ignored(settings, list(bucket.list(PREFIX)))


def test_output_below_empty_prefix_is_no_issue(settings, bucket):
    everywhere = settings.model_copy(update={"transactions_prefix": ""})
    put_long_ago(bucket, "bad.csv", "output/rejected")
    put_long_ago(bucket, "all.csv", "input/customers")
    put(bucket, "chunk_1", GOOD, "")
    assert not has_newly_ignored(everywhere, list(bucket.list("")))
    put_long_ago(bucket, "x.csv", "elsewhere")
    assert has_newly_ignored(everywhere, list(bucket.list("")))


def test_copies_are_not_chunks(settings, bucket):
    put(bucket, "chunk_7.csv", GOOD)
    for name in NAMES[5:11]:
        put(bucket, name, GOOD)
    assert load_chunks(settings, bucket)["chunks_accepted"] == 1
    assert query(settings, "select count(*) from raw.transactions") == [(1,)]


def test_stalled_stream_alert_before_first_chunk(settings, tmp_path, monkeypatch):
    sent: list[str] = []

    def send(_, lines):
        sent.extend(lines)
        return True

    alerts.Alerts(settings, send).nothing_landed()
    assert sent == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + settings.stalled_seconds + 60)
    alerts.Alerts(settings, send).nothing_landed()
    [line] = sent
    assert line.startswith("STREAM STALLED: input/transactions/: No chunk has landed for 16 minutes.")
    assert "TALLYMARK_BUCKET" in line and "TALLYMARK_TRANSACTIONS_PREFIX" in line


GROWING = {
    "numbers": "chunk_{n}.csv",
    "zero-padded": "chunk_{n:08d}",
    "times": "chunk_2026-11-{day:02d}T{hour:02d}-{n:05d}.csv.gz",
    "folders": "chunk_{n}/",
}
NOT_GROWING = {
    "UUIDs": "chunk_{uuid}.csv",
    "host names first": "chunk_host{host}_{n}.csv",
    "random numbers": "chunk_{random}.csv",
}


def names(pattern: str) -> list[str]:
    import random
    import uuid

    chance = random.Random(1)
    return [
        PREFIX
        + pattern.format(
            n=n,
            day=1 + n // 50,
            hour=n % 50 // 3,
            host=chance.randrange(5),
            uuid=uuid.UUID(int=chance.getrandbits(128)),
            random=chance.getrandbits(40),
        )
        for n in range(1000)
    ]


@pytest.mark.parametrize("kind", GROWING)
def test_growing_names(settings, kind):
    keys = names(GROWING[kind])
    assert listing.names_grow(keys)
    late = [*keys[:900], *keys[950:], *keys[900:905]]
    assert listing.names_grow(late), "a few late chunks must not cause full listings"
    assert len(listing.places_behind(settings.transactions_prefix, keys)) == 2


@pytest.mark.parametrize("kind", NOT_GROWING)
def test_non_growing_names(settings, kind):
    keys = names(NOT_GROWING[kind])
    assert not listing.names_grow(keys)
    assert listing.places_behind(settings.transactions_prefix, keys) == [listing.Place(PREFIX)]


def test_sorted_uuids_do_not_grow():
    """After a backlog, keys are sorted, because chunks listed together are taken in natural order."""
    assert not listing.names_grow(sorted(names(NOT_GROWING["UUIDs"])))
