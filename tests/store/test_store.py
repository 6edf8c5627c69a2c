"""Both kinds of store, the S3 one against a real server."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support import servers
from tallymark.settings import PROJECT_ROOT
from tallymark.store import ObjectChangedError, Store
from tallymark.store.folder import FolderStore
from tallymark.store.s3 import S3Store


@pytest.fixture(scope="module", params=[servers.moto, servers.rclone])
def s3(request, tmp_path_factory) -> Iterator[S3Store]:
    with request.param(tmp_path_factory.mktemp("s3")) as server:
        server.client().create_bucket(Bucket="bucket")
        yield S3Store(server.client(), "bucket")


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
    with pytest.raises(FileExistsError, match="once already exists with different content"):
        store.put_new("once", b"2")
    assert [store.get(stored) for stored in store.list("once")] == [b"1"]


def test_keys_of_every_kind(s3, request):
    names = ["a b", "a'b\"c", "é😀", "%41%2e", "+&=?#", "a\\b", "...", "~", "a;b|c$d"]
    if request.node.callspec.params["s3"] == servers.moto:
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


KILLED_WHILE_IT_PUTS = """
import os, pathlib, signal, sys
from tallymark.store.folder import FolderStore
os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
FolderStore(pathlib.Path(sys.argv[1])).put_new("output/a.csv", b"a")
"""


def test_what_a_killed_process_left_unfinished_is_no_object(folder):
    command = [sys.executable, "-c", KILLED_WHILE_IT_PUTS, str(folder.root)]
    killed = subprocess.run(command, cwd=PROJECT_ROOT / "plugins")
    assert killed.returncode == -signal.SIGKILL
    assert list((folder.root / "output").iterdir()) == []
    assert len(list((folder.root / ".unfinished").iterdir())) == 1
    assert list(folder.list("")) == []
