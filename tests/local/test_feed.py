"""Mechanism X: chunks, in order, at a rate, resumable."""

import gzip

from tallymark.local import feed
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore


def test_feed_goes_on_behind_the_last_chunk(tmp_path, monkeypatch):
    source = tmp_path / "source" / "transactions.csv.gz"
    source.parent.mkdir()
    source.write_bytes(gzip.compress(b"header\n" + b"".join(b"%d\n" % n for n in range(25))))
    (source.parent / "customer_importance.csv").write_text("importance\n")
    bucket = FolderStore(tmp_path / "bucket")
    settings = Settings(feed_source=source, feed_chunk_rows=10, feed_interval_seconds=0)
    bucket.put_new("input/transactions/chunk_1", b"taken already")
    assert feed.feed_transactions(settings, bucket) == 2
    assert feed.feed_transactions(settings, bucket) == 0
    chunks = {stored.key: bucket.get(stored) for stored in bucket.list("input/transactions/")}
    assert chunks["input/transactions/chunk_2"] == b"header\n" + b"".join(b"%d\n" % n for n in range(10, 20))
    assert chunks["input/transactions/chunk_3"] == b"header\n20\n21\n22\n23\n24\n"
    assert [stored.key for stored in bucket.list("input/customers/")] == ["input/customers/customer_importance.csv"]


def test_the_rate_is_kept(tmp_path, monkeypatch):
    source = tmp_path / "transactions.csv"
    source.write_text("header\n" + "row\n" * 5)
    slept, now = [], [100.0]

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        now[0] += seconds + 0.2

    monkeypatch.setattr(feed.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(feed.time, "sleep", sleep)
    settings = Settings(feed_source=source, feed_chunk_rows=1, feed_interval_seconds=1)
    feed.feed_transactions(settings, FolderStore(tmp_path / "bucket"))
    assert slept == [0, 0.8, 0.8, 0.8, 0.8]
