"""The feed puts chunks in order at a fixed rate, can be resumed, and survives outages of S3."""

import gzip
import os
import subprocess
import sys

import pytest
from support.faulty_s3 import Fault, FaultyS3, faulty_s3
from support.servers import rclone
from support.streams import HEADER
from tallymark.local import feed
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store.folder import FolderStore


def test_feed_continues_after_the_last_chunk(tmp_path, monkeypatch):
    source = tmp_path / "source" / "transactions.csv.gz"
    source.parent.mkdir()
    source.write_bytes(gzip.compress(b"header\n" + b"".join(b"%d\n" % n for n in range(25))))
    (source.parent / "customer_importance.csv").write_text("importance\n")
    bucket = FolderStore(tmp_path / "bucket")
    settings = Settings(feed_chunk_rows=10, feed_interval_seconds=0)
    bucket.put_new("input/transactions/chunk_1", b"taken already")
    assert feed.feed_transactions(source, settings, bucket) == 2
    assert feed.feed_transactions(source, settings, bucket) == 0
    chunks = {stored.key: bucket.get(stored) for stored in bucket.list("input/transactions/")}
    assert chunks["input/transactions/chunk_2"] == b"header\n" + b"".join(b"%d\n" % n for n in range(10, 20))
    assert chunks["input/transactions/chunk_3"] == b"header\n20\n21\n22\n23\n24\n"
    assert [stored.key for stored in bucket.list("input/customers/")] == ["input/customers/customer_importance.csv"]


def test_rate_is_kept(tmp_path, monkeypatch):
    source = tmp_path / "transactions.csv"
    source.write_text("header\n" + "row\n" * 5)
    slept, now = [], [100.0]

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        now[0] += seconds + 0.2

    monkeypatch.setattr(feed.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(feed.time, "sleep", sleep)
    settings = Settings(feed_chunk_rows=1, feed_interval_seconds=1)
    feed.feed_transactions(source, settings, FolderStore(tmp_path / "bucket"))
    assert slept == [0, 0.8, 0.8, 0.8, 0.8]


ROW = "0,'C1','2','F','28007','M1','28007','es_food',4.55,0"


@pytest.fixture
def bucket(tmp_path):
    """A bucket on a real S3 server, behind a proxy that can fail, with the environment of its feed."""
    folder = tmp_path / "s3/bucket"
    folder.mkdir(parents=True)
    with rclone(folder.parent) as server, faulty_s3(server.port) as proxy:
        proxy.folder = folder / "input/transactions"
        proxy.variables = {
            "AWS_ENDPOINT_URL_S3": proxy.url,
            "AWS_ACCESS_KEY_ID": server.key,
            "AWS_SECRET_ACCESS_KEY": server.secret,
            "TALLYMARK_BUCKET": "bucket",
            "TALLYMARK_FEED_CHUNK_ROWS": "2",
            "TALLYMARK_FEED_INTERVAL_SECONDS": "0",
            "TALLYMARK_FEED_SOURCE": str(tmp_path / "transactions.csv"),
            "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
        }
        yield proxy


def run(bucket: FaultyS3, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tallymark", "feed"]
    environment = os.environ | bucket.variables | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_feed_survives_an_outage_and_a_restart(bucket, tmp_path):
    rows = [f"{number},{ROW}" for number in range(7)]
    source = tmp_path / "transactions.csv"
    source.write_text("\n".join([f"number,{HEADER}", *rows[:4], ""]))
    # More errors than boto3 retries, then a chunk that is stored although the feed gets no answer.
    bucket.faults = [Fault("error_503", "PUT .*chunk_2", 5), Fault("reset_when_done", "PUT .*chunk_2", 1)]
    done = run(bucket)
    assert done.returncode == 0, done.stderr
    assert bucket.done == ["error_503"] * 5 + ["reset_when_done"]
    assert "Retrying" in done.stderr
    source.write_text("\n".join([f"number,{HEADER}", *rows, ""]))
    assert run(bucket).returncode == 0
    landed = {path.name: path.read_text().splitlines()[1:] for path in bucket.folder.iterdir()}
    assert landed == {f"chunk_{1 + first // 2}": rows[first : first + 2] for first in range(0, 7, 2)}


@pytest.mark.parametrize(
    ("source", "error"), [("", "TALLYMARK_FEED_SOURCE"), ("missing.csv", "missing.csv cannot be read")]
)
def test_missing_source_is_an_error(bucket, source, error):
    done = run(bucket, TALLYMARK_FEED_SOURCE=source)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ERROR: ")
    assert error in line
