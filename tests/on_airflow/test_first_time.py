"""Kills while the warehouse or the generated data are first created. The next run must be able to start."""

import gzip
import os
import signal

import duckdb
import pytest
from support import crash
from support.oracle import Row
from support.streams import detected, write_chunk
from tallymark.local import generate
from tallymark.local import stack as local_stack
from tallymark.local.replay import replay
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect

HEADER = 4_096


@pytest.fixture
def stream(tmp_path):
    """Two chunks with one detection."""
    for number in (1, 2):
        write_chunk(tmp_path, f"chunk_{number}", [Row("C1", "M1", "F", "1")] * 40)
    return tmp_path


def leave_headers(path, size):
    """Leave a partial DuckDB file, like a kill during its creation. DuckDB writes three headers, as strace shows."""
    duckdb.connect(str(path)).close()
    with path.open("r+b") as file:
        file.truncate(size)


def leave_a_log(path, size):
    """Leave the write-ahead log of a deleted warehouse. It contains a table that the new warehouse has, too."""
    lost = duckdb.connect(str(path))
    lost.execute("pragma disable_checkpoint_on_shutdown; create schema raw; create table raw.chunks (lost bigint)")
    lost.close()
    assert path.with_name(f"{path.name}.wal").exists()
    path.unlink()


LEFT = {
    "nothing in the file": (leave_headers, 0),
    "part of the first header": (leave_headers, 100),
    "the first header": (leave_headers, HEADER),
    "two headers": (leave_headers, 2 * HEADER),
    "part of the third header": (leave_headers, 3 * HEADER - 1),
    "no tables": (leave_headers, 3 * HEADER),
    "a log alone": (leave_a_log, 0),
}


@pytest.mark.parametrize("left", LEFT)
def test_killed_creation_does_not_block_next_run(stream, left):
    out = stream / "out"
    out.mkdir()
    leave, size = LEFT[left]
    leave(out / "warehouse.duckdb", size)
    assert replay(stream, out) == {"chunks": 2, "detections": 1, "files": 1}
    assert len(detected(out)) == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(len(crash.MAKING)))
def test_kill_during_creation_leaves_whole_warehouse_or_none(stream, processes, number, when):
    """A separate process creates the warehouse, and dies before or after the given call."""
    settings = Settings(warehouse=stream / "out/warehouse.duckdb")
    process = processes.Process(target=crash.make_warehouse, args=(settings.warehouse, number, when))
    process.start()
    process.join(600)
    assert process.exitcode == -signal.SIGKILL
    if settings.warehouse.exists():
        with connect(settings, read_only=True) as made:
            assert made.execute("select count(*) from output.releases").fetchone() == (0,)
    with connect(settings) as made:
        assert made.execute("select count(*) from output.releases").fetchone() == (0,)
    assert set(os.listdir(settings.warehouse.parent)) <= {"dbt", "warehouse.duckdb", "warehouse.duckdb.ledger_index"}


def test_kill_during_generation_leaves_no_partial_data(tmp_path, monkeypatch):
    whole = generate.generate
    monkeypatch.setattr(generate, "generate", lambda folder: whole(folder, rows=10))
    with monkeypatch.context() as killed:
        killed.setattr(generate, "_write", killed_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            local_stack.new_stack(tmp_path, None)
    stack = local_stack.new_stack(tmp_path, None)
    assert len(gzip.decompress(stack.source.read_bytes()).splitlines()) == 11


def killed_in_the_middle(path, lines):
    path.write_bytes(b"half of it")
    raise KeyboardInterrupt
