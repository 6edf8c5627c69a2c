"""A folder used as a bucket: symbolic links and unreadable files."""

import os
import threading

import pytest
from tallymark.store import ObjectChangedError, UnreadableError
from tallymark.store.folder import FolderStore

KEY = "input/chunk_1"


@pytest.fixture
def folder(tmp_path) -> FolderStore:
    (tmp_path / "bucket/input").mkdir(parents=True)
    return FolderStore(tmp_path / "bucket")


def keys(folder: FolderStore, prefix: str = "") -> list[str]:
    return [stored.key for stored in folder.list(prefix)]


def test_links_are_followed(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deeper").mkdir(parents=True)
    (elsewhere / "chunk_1").write_text("1")
    (elsewhere / "deeper/chunk_2").write_text("2")
    (folder.root / "input/linked").symlink_to(elsewhere)
    (folder.root / "input/again").symlink_to(elsewhere)
    (folder.root / "input/file").symlink_to(elsewhere / "chunk_1")
    found = {stored.key: folder.get(stored) for stored in folder.list("input/")}
    linked = {f"input/{link}/chunk_1": b"1" for link in ("linked", "again")}
    deeper = {f"input/{link}/deeper/chunk_2": b"2" for link in ("linked", "again")}
    assert found == {"input/file": b"1", **linked, **deeper}
    assert keys(folder, "input/linked/deeper/") == ["input/linked/deeper/chunk_2"]


def test_circular_links_are_skipped(folder):
    (folder.root / KEY).write_text("1")
    (folder.root / "input/back").symlink_to(folder.root)
    (folder.root / "input/self").symlink_to(folder.root / "input")
    assert keys(folder) == keys(folder, "input/") == [KEY]


def unreadable(folder: FolderStore) -> str:
    [stored] = folder.list("input/")
    assert (stored.key, stored.size, stored.has_etag) == (KEY, 0, False)
    assert list(folder.list("input/")) == [stored]
    with pytest.raises(UnreadableError) as raised:
        folder.get(stored)
    assert raised.value.is_definite
    assert str(folder.root / KEY) in str(raised.value)
    return str(raised.value)


def test_broken_link_is_listed_and_unreadable(folder, tmp_path):
    (folder.root / KEY).symlink_to(tmp_path / "missing")
    assert "the target of the symbolic link is missing" in unreadable(folder)


def test_link_to_itself_is_listed_and_unreadable(folder):
    (folder.root / KEY).symlink_to(folder.root / KEY)
    assert "symbolic link" in unreadable(folder)


def test_read_error_is_unreadable(folder):
    """Reading a process's memory from address 0 is an error, even for root."""
    (folder.root / KEY).symlink_to("/proc/self/mem")
    assert "Input/output error. Make it readable, put it again, or delete it." in unreadable(folder)


def test_pipe_is_unreadable_and_does_not_block(folder):
    os.mkfifo(folder.root / KEY)
    thread = threading.Thread(target=unreadable, args=[folder], daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive()
    assert "it is not a regular file" in unreadable(folder)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_missing_permission_is_unreadable(folder, monkeypatch, kind):
    """The error is simulated, because root can read everything."""
    path = folder.root / KEY
    if kind == "folder":
        path.mkdir()
        (path / "part-1").write_text("1")
    else:
        path.write_text("1")
    scandir, read_bytes = os.scandir, type(path).read_bytes

    def denied(real, at):
        if os.fspath(at) == os.fspath(path):
            raise PermissionError(13, "Permission denied", os.fspath(at))
        return real(at)

    monkeypatch.setattr(os, "scandir", lambda at: denied(scandir, at))
    monkeypatch.setattr(type(path), "read_bytes", lambda at: denied(read_bytes, at))
    assert "Permission denied" in unreadable(folder)


def test_file_that_becomes_readable_has_changed(folder, tmp_path):
    (folder.root / KEY).symlink_to(tmp_path / "missing")
    [stored] = folder.list("input/")
    (tmp_path / "missing").write_text("1")
    with pytest.raises(ObjectChangedError, match="was replaced after it was listed"):
        folder.get(stored)
    [stored] = folder.list("input/")
    assert folder.get(stored) == b"1"


@pytest.mark.parametrize("link", [False, True])
def test_changed_and_deleted_files(folder, tmp_path, link):
    file = tmp_path / "target" if link else folder.root / KEY
    file.write_text("1")
    if link:
        (folder.root / KEY).symlink_to(file)
    [stored] = folder.list("input/")
    file.write_text("2")
    with pytest.raises(ObjectChangedError, match="was replaced after it was listed"):
        folder.get(stored)
    (folder.root / KEY).unlink()
    with pytest.raises(ObjectChangedError, match="was deleted after it was listed"):
        folder.get(stored)


def test_target_hides_output_of_the_root(folder, tmp_path):
    other = FolderStore(folder.root, target=tmp_path / "out")
    for root, key, text in (
        (folder.root, KEY, "in"),
        (folder.root, "output/a", "old"),
        (other.target, "output/a", "new"),
    ):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_text(text)
    assert {stored.key: other.get(stored) for stored in other.list("")} == {KEY: b"in", "output/a": b"new"}
