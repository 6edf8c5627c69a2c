"""Both kinds of store, the S3 one against a real server."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from tallymark.store import FolderStore, ObjectChangedError, S3Store, Store


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(kind: str, port: int, folder: Path, key: str, secret: str) -> list[str]:
    scripts = Path(sys.executable).parent
    if kind == "moto":
        return [str(scripts / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    serve = ["serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{key},{secret}", "--dir-cache-time", "1s"]
    return [str(scripts / "rclone"), "--config", "/dev/null", *serve, str(folder)]


@pytest.fixture(scope="module", params=["moto", "rclone"])
def s3(request, tmp_path_factory) -> S3Store:
    """moto answers as S3 does, in memory; rclone keeps files and ignores conditions."""
    port, key, secret = free_port(), secrets.token_hex(8), secrets.token_hex(16)
    server = subprocess.Popen(
        command(request.param, port, tmp_path_factory.mktemp("s3"), key, secret),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
    )
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                client.create_bucket(Bucket="bucket")
                break
            except Exception:
                assert time.monotonic() < deadline, f"{request.param} did not start"
                time.sleep(0.2)
        yield S3Store(client, "bucket")
    finally:
        server.terminate()
        server.wait(120)


@pytest.fixture
def folder(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


def test_s3_keeps_what_is_put(s3):
    keeps_what_is_put(s3)


def test_a_folder_keeps_what_is_put(folder):
    keeps_what_is_put(folder)


def test_nothing_is_put_over_other_content_on_s3(s3):
    puts_nothing_over_other_content(s3)


def test_nothing_is_put_over_other_content_in_a_folder(folder):
    puts_nothing_over_other_content(folder)


def keeps_what_is_put(store: Store) -> None:
    store.put_new("here/a b'é%41.csv", b"1")
    store.put_new("here/b", b"2")
    store.put_new("there/c", b"3")
    listed = sorted(store.list("here/"), key=lambda stored: stored.key)
    assert [stored.key for stored in listed] == ["here/a b'é%41.csv", "here/b"]
    assert [stored.size for stored in listed] == [1, 1]
    assert [store.get(stored) for stored in listed] == [b"1", b"2"]
    assert listed[0].etag == "c4ca4238a0b923820dcc509a6f75849b"
    assert listed[0].last_modified.tzinfo


def puts_nothing_over_other_content(store: Store) -> None:
    store.put_new("once", b"1")
    store.put_new("once", b"1")
    with pytest.raises(FileExistsError, match="once is there already"):
        store.put_new("once", b"2")
    assert [store.get(stored) for stored in store.list("once")] == [b"1"]


def test_keys_of_every_kind(s3, request):
    names = ["a b", "a'b\"c", "é😀", "%41%2e", "+&=?#", "a\\b", "...", "~", "a;b|c$d"]
    if request.node.callspec.params["s3"] == "moto":
        names += ["..", "../up"]  # a server that keeps files cannot have these
    for name in names:
        s3.put_new(f"keys/{name}", name.encode())
    listed = list(s3.list("keys/"))
    assert sorted(stored.key for stored in listed) == sorted(f"keys/{name}" for name in names)
    assert {stored.key: s3.get(stored) for stored in listed} == {f"keys/{name}": name.encode() for name in names}


def test_an_object_that_changed_or_went_away(s3):
    s3.put_new("moving", b"1")
    [listed] = s3.list("moving")
    s3.client.put_object(Bucket="bucket", Key="moving", Body=b"2")
    with pytest.raises(ObjectChangedError):
        s3.get(listed)
    s3.client.delete_object(Bucket="bucket", Key="moving")
    with pytest.raises(ObjectChangedError):
        s3.get(listed)


def test_a_listing_of_more_than_one_page(s3):
    for number in range(1005):
        s3.client.put_object(Bucket="bucket", Key=f"many/{number}", Body=b"")
    assert len(list(s3.list("many/"))) == 1005


def test_what_is_put_again_is_replaced_on_s3(s3):
    is_replaced_as_a_whole(s3)


def test_what_is_put_again_is_replaced_in_a_folder(folder):
    is_replaced_as_a_whole(folder)
    assert [path.name for path in (folder.root / "snapshot").iterdir()] == ["current"]


def is_replaced_as_a_whole(store: Store) -> None:
    for body in (b"a longer body", b"short"):
        store.put("snapshot/current", body)
        (stored,) = store.list("snapshot/")
        assert store.get(stored) == body


@pytest.mark.system
def test_what_a_killed_process_left_unfinished_is_no_object(folder, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    if (child := os.fork()) == 0:
        folder.put_new("output/a.csv", b"a")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list((folder.root / "output").iterdir()) == []
    assert len(list((folder.root / ".unfinished").iterdir())) == 1
    assert list(folder.list("")) == []
