"""A full disk, missing permissions and other machine faults: errors are plain sentences, and only the run is lost."""

import errno
import itertools
import json
import os
import shutil
import sqlite3
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support import full_disk
from support.four_chunks import VARS, rows_of, settings
from support.gate import in_gate
from support.streams import detected, exported, write_chunk
from tallymark import machine
from tallymark.local.replay import replay
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.pipeline.load import load_chunks
from tallymark.publish import report
from tallymark.recovery.rebuild import rebuild
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect
from tallymark.warehouse.errors import WarehouseError, explained

Usage = namedtuple("Usage", "free")
Inodes = namedtuple("Inodes", "f_files f_favail")


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("stream")
    for number in range(1, 5):
        write_chunk(data, f"chunk_{number}", rows_of(number))
    replay(data, data / "undisturbed", batch=2, vars=VARS)
    return data


@pytest.fixture
def data(stream, tmp_path) -> Path:
    return Path(shutil.copytree(stream / "input", tmp_path / "input")).parent


@pytest.fixture
def out(data) -> Path:
    return data / "out"


@pytest.fixture
def bucket(data, out) -> FolderStore:
    return FolderStore(data, target=out)


def assert_undisturbed(stream: Path, data: Path, out: Path) -> None:
    """The rest of the stream gives the results of an undisturbed run."""
    replay(data, out, batch=2, vars=VARS)
    assert detected(out) == detected(stream / "undisturbed")
    assert exported(out) == exported(stream / "undisturbed")


# --- The reserve: no step starts when the disk is almost full. ---

STEPS = {
    "create": lambda settings, bucket: connect(settings).__enter__(),
    "load": load_chunks,
    "build": lambda settings, bucket: build_models(settings),
    "export": export_detections,
    "rebuild": rebuild,
}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_starts_on_almost_full_disk(stream, data, out, bucket, monkeypatch, step):
    warehouse = settings(out)
    if step != "create":
        load_chunks(warehouse, bucket, max_chunks=2)
    if step in ("export", "rebuild"):
        build_models(warehouse)
    if step == "rebuild":
        export_detections(warehouse, bucket)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with monkeypatch.context() as full:
        full.setattr(machine.shutil, "disk_usage", lambda path: Usage(free=64 * 2**20 - 1))
        message = (
            r"disk of the warehouse is almost full: .*warehouse.*\.duckdb \(64\.0 MiB free, 64\.0 MiB required by "
        )
        with pytest.raises(WarehouseError, match=message):
            STEPS[step](warehouse, bucket)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert_undisturbed(stream, data, out)


def test_min_free_bytes_setting(out, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(free=2**20))
    with connect(settings(out, min_free_bytes=2**20)):
        pass
    message = r"\(1\.0 MiB free, 2\.0 MiB required by TALLYMARK_MIN_FREE_BYTES\)"
    with pytest.raises(WarehouseError, match=message), connect(settings(out, min_free_bytes=2**21)):
        pytest.fail("it opened")
    with connect(settings(out, min_free_bytes=2**21), read_only=True) as warehouse:
        assert warehouse.execute("select count(*) from raw.chunks").fetchone() == (0,)


def test_no_chunk_is_written_to_almost_full_disk(out, bucket, monkeypatch):
    free = itertools.chain([2**40], itertools.repeat(0))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(free=next(free)))
    with pytest.raises(WarehouseError, match="almost full"):
        load_chunks(settings(out), bucket)
    with connect(settings(out), read_only=True) as warehouse:
        assert warehouse.execute("select count(*) from raw.chunks").fetchone() == (0,)


def test_free_bytes_of_missing_folder(tmp_path):
    assert machine.free_bytes(tmp_path / "a/b/warehouse.duckdb") > 0


# --- Writes that fail: from a given point on, the process cannot write any more. ---


@pytest.mark.parametrize("point", in_gate(full_disk.POINTS, "file put, not recorded"))
def test_failed_write_loses_nothing(stream, data, out, processes, point):
    """Whatever could not be written, the error is one line."""
    code, stderr = sent_by(processes, full_disk.run, data, out, json.dumps(VARS), point)
    assert code == 1
    assert stderr.startswith(("ERROR: A file reached the maximum size: ", "ERROR: The disk failed to read or write: "))
    assert str(out) in stderr
    assert stderr.count("\n") == 1
    assert_undisturbed(stream, data, out)


def test_failed_commit_of_a_replanned_file(out, processes):
    """DuckDB would terminate the process if the key had been deleted and inserted."""
    message = sent_by(processes, full_disk.plan_again, out / "warehouse.duckdb")
    assert message.startswith("A file reached the maximum size: ")
    with connect(settings(out), read_only=True) as warehouse:
        assert warehouse.execute("select file_key, body from output.files").fetchall() == [("key", b"first")]


def sent_by(processes, function: Callable, *arguments) -> Any:
    """The object that a function sends from a separate process."""
    here, there = processes.Pipe()
    process = processes.Process(target=function, args=(*arguments, there))
    process.start()
    there.close()
    process.join()
    assert process.exitcode == 0, "the process was terminated by a signal or an unexpected error"
    return here.recv()


def test_failed_rebuild_leaves_nothing_behind(data, out, bucket, monkeypatch):
    replay(data, out, vars=VARS)
    before = sorted(path.name for path in out.iterdir())

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tallymark.recovery.rebuild._restore_times", full)
    with pytest.raises(WarehouseError, match=r"^The disk is full: "):
        rebuild(settings(out), bucket)
    assert sorted(path.name for path in out.iterdir()) == before


# --- Error messages. ---


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            ["set memory_limit = '1MB'", "from range(1000000) order by random()"],
            "Out of memory: .*MAX_CHUNKS_PER_RUN;",
        ),
        (
            [
                "set memory_limit = '20MB'",
                "set max_temp_directory_size = '1MB'",
                "from range(9000000) order by random()",
            ],
            r"The disk is full: .*warehouse\.duckdb \([0-9.,]+ MiB free\)\. Free some space",
        ),
    ],
)
def test_duckdb_limits(out, statements, message):
    with pytest.raises(WarehouseError, match=message), connect(settings(out)) as warehouse:
        for statement in statements:
            warehouse.execute(statement).fetchall()


def test_sqlite_faults(tmp_path):
    path = tmp_path / "small"
    with sqlite3.connect(path) as small:
        small.execute("pragma max_page_count = 2")
        small.execute("create table text (line)")
        with pytest.raises(sqlite3.OperationalError) as full:
            small.executemany("insert into text values (?)", [["x" * 1000]] * 100)
    assert machine.explain(full.value, path).startswith(f"The disk is full: {path} (")
    small = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as read_only:
        small.execute("drop table text")
    assert machine.explain(read_only.value, path).startswith(f"Access is denied: {path}. ")


QUOTED = {
    errno.ENOSPC: "The disk is full: ",
    errno.EDQUOT: "The disk quota is used up: ",
    errno.EFBIG: "A file reached the maximum size: ",
    errno.EROFS: "The file system is read-only: ",
    errno.EACCES: "Access is denied: ",
    errno.EMFILE: "This process has too many files open: ",
    errno.EIO: "The disk failed to read or write: ",
}


@pytest.mark.parametrize("number", QUOTED)
def test_system_errors_quoted_by_duckdb(out, number):
    """The message does not call the file broken, even after an error that ends every connection."""
    quoted = f'Cannot open file "x": {os.strerror(number)}'
    for text in (quoted, f"FATAL Error: Failed: database has been invalidated. Original error: {quoted}"):
        message = str(explained(duckdb.IOException(text), settings(out).warehouse))
        assert message.startswith(QUOTED[number] + str(out / "warehouse.duckdb"))
        assert "rebuild" not in message
        assert message.endswith("; the next run continues where this one stopped.")


def test_a_folder_without_permission(out, monkeypatch):
    def deny(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(machine.shutil, "disk_usage", deny)
    message = r"^Access is denied: .*\. Give the user of this process access"
    with pytest.raises(WarehouseError, match=message), connect(settings(out)):
        pytest.fail("it opened")


def test_a_disk_without_inodes(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "statvfs", lambda path: Inodes(f_files=100, f_favail=0))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(free=100 * 2**20))
    message = machine.explain(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "file")
    assert message.startswith(f"The disk is full: {tmp_path / 'file'} (100.0 MiB free, no inodes free). ")


def test_other_errors_pass(out):
    with pytest.raises(duckdb.CatalogException), connect(settings(out)) as warehouse:
        warehouse.execute("from nothing")
    with pytest.raises(FileNotFoundError), connect(settings(out)):
        (out / "nothing").read_bytes()
    assert machine.explain("Catalog Error: nothing is there") is None
    assert machine.message(KeyError("x")) == "'x'"


def test_task_log_ends_with_an_explanation(caplog, monkeypatch):
    monkeypatch.setattr(report, "LINE_WIDTH", 1000)
    report.explain_failure(OSError(errno.ENOSPC, "No space left on device", "/"))
    assert caplog.messages[-1].startswith("The disk is full: / (")
    report.explain_failure(MemoryError())
    assert caplog.messages[-1].startswith("Out of memory. Give the process more memory (SCHEDULER_MEMORY in .env)")
