"""Both stores, with real servers for S3."""

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


def test_s3_returns_stored_objects(s3):
    returns_stored_objects(s3)


def test_folder_returns_stored_objects(folder):
    returns_stored_objects(folder)


def test_put_new_never_overwrites_on_s3(s3):
    never_overwrites(s3)


def test_put_new_never_overwrites_in_a_folder(folder):
    never_overwrites(folder)


def returns_stored_objects(store: Store) -> None:
    store.put_new("here/a b'é%41.csv", b"1")
    store.put_new("here/b", b"2")
    store.put_new("there/c", b"3")
    listed = sorted(store.list("here/"), key=lambda stored: stored.key)
    assert [stored.key for stored in listed] == ["here/a b'é%41.csv", "here/b"]
    assert [stored.size for stored in listed] == [1, 1]
    assert [store.get(stored) for stored in listed] == [b"1", b"2"]
    assert listed[0].etag == "c4ca4238a0b923820dcc509a6f75849b"
    assert listed[0].last_modified.tzinfo


def never_overwrites(store: Store) -> None:
    store.put_new("once", b"1")
    store.put_new("once", b"1")
    with pytest.raises(FileExistsError, match="once already exists with different content"):
        store.put_new("once", b"2")
    assert [store.get(stored) for stored in store.list("once")] == [b"1"]


def test_special_characters_in_keys(s3, request):
    names = ["a b", "a'b\"c", "é😀", "%41%2e", "+&=?#", "a\\b", "...", "~", "a;b|c$d"]
    if request.node.callspec.params["s3"] == servers.moto:
        names += ["..", "../up"]  # not possible on servers that store objects as files
    for name in names:
        s3.put_new(f"keys/{name}", name.encode())
    listed = list(s3.list("keys/"))
    assert sorted(stored.key for stored in listed) == sorted(f"keys/{name}" for name in names)
    assert {stored.key: s3.get(stored) for stored in listed} == {f"keys/{name}": name.encode() for name in names}


def test_changed_or_deleted_object_raises(s3):
    s3.put_new("moving", b"1")
    [listed] = s3.list("moving")
    s3.client.put_object(Bucket="bucket", Key="moving", Body=b"2")
    with pytest.raises(ObjectChangedError):
        s3.get(listed)
    s3.client.delete_object(Bucket="bucket", Key="moving")
    with pytest.raises(ObjectChangedError):
        s3.get(listed)


def test_listing_with_several_pages(s3):
    for number in range(1005):
        s3.client.put_object(Bucket="bucket", Key=f"many/{number}", Body=b"")
    assert len(list(s3.list("many/"))) == 1005


def test_put_replaces_objects_on_s3(s3):
    replaces_objects(s3)


def test_put_replaces_objects_in_a_folder(folder):
    replaces_objects(folder)
    assert [path.name for path in (folder.root / "snapshot").iterdir()] == ["current"]


def replaces_objects(store: Store) -> None:
    for body in (b"a longer body", b"short"):
        store.put("snapshot/current", body)
        (stored,) = store.list("snapshot/")
        assert store.get(stored) == body


KILLED_DURING_PUT = """
import os, pathlib, signal, sys
from tallymark.store.folder import FolderStore
os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
FolderStore(pathlib.Path(sys.argv[1])).put_new("output/a.csv", b"a")
"""


def test_unfinished_file_is_not_listed(folder):
    command = [sys.executable, "-c", KILLED_DURING_PUT, str(folder.root)]
    killed = subprocess.run(command, cwd=PROJECT_ROOT / "plugins")
    assert killed.returncode == -signal.SIGKILL
    assert list((folder.root / "output").iterdir()) == []
    assert len(list((folder.root / ".unfinished").iterdir())) == 1
    assert list(folder.list("")) == []
