"""The demo, up and down commands: their checks, and a slow test of up and down with real processes."""

import gzip
import json
import os
import re
import subprocess
import sys

import psutil
import pytest
from support import foreign
from support.streams import HEADER
from tallymark.cli import main
from tallymark.local import demo
from tallymark.local.feed import find_source
from tallymark.local.processes import processes_of
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.warehouse.ledger_index import LedgerIndex

ROW = "0,'C1','2','F','28007','M1','28007','es_food',4.55,0"
SOURCES = {
    "no folder": (None, "DATA does not exist: "),
    "no file": ({}, "contains neither transactions.csv.gz nor transactions.csv. Choose"),
    "empty": ({"transactions.csv": b""}, "the file is empty"),
    "another header": ({"transactions.csv": b"a,b\n1,2\n"}, "header lacks customer, merchant, gender, amount"),
    "header only": ({"transactions.csv": f"{HEADER}\n\n".encode()}, "has a header but no transactions"),
    "no gzip": ({"transactions.csv.gz": b"x"}, "cannot be read: Not a gzipped file"),
    "cut gzip": (
        {"transactions.csv.gz": gzip.compress(f"{HEADER}\n".encode())[:-9]},
        "cannot be read: Compressed file",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_invalid_source_changes_nothing(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(demo, "LOCAL", tmp_path / "local")
    (tmp_path / "local/demo").mkdir(parents=True)
    (tmp_path / "local/demo/kept").touch()
    files, says = SOURCES[name]
    if files is not None:
        (tmp_path / "data").mkdir()
        for file, body in files.items():
            (tmp_path / "data" / file).write_bytes(body)
    for command in ("demo", "up"):
        assert main([command, "--data", str(tmp_path / "data")]) == 1
        error = capsys.readouterr().err
        assert error.startswith((f"ERROR: {tmp_path / 'data'}", "ERROR: DATA does not exist"))
        assert says in error
    assert [path.name for path in (tmp_path / "local").rglob("*")] == ["demo", "kept"]


def test_valid_source_is_accepted(tmp_path):
    (tmp_path / "transactions.csv.gz").write_bytes(gzip.compress(f"\n{HEADER}\r\n{ROW}\r\n".encode()))
    assert find_source(tmp_path) == tmp_path / "transactions.csv.gz"


COMMAND = """
import pathlib, sys
from tallymark.cli import main
from tallymark.local import demo, stack
demo.LOCAL, stack.UI_PORT = pathlib.Path(sys.argv.pop(1)), 0
sys.exit(main())
"""


@pytest.mark.system
def test_up_down_and_up_again(tmp_path):
    """A second start continues the stream. After a crash, the remaining processes are stopped and all are restarted."""
    (tmp_path / "data").mkdir()
    source = tmp_path / "data/transactions.csv"
    source.write_text("\n".join([HEADER, *[ROW] * 5, ""]))
    # Python's variables would prevent the command itself from starting. The Makefile drops them.
    given = {name: value for name, value in foreign.VARIABLES.items() if not name.startswith("PYTHON")}
    variables = os.environ | given | foreign.PROXIES | {"TALLYMARK_FEED_CHUNK_ROWS": "1"}

    def run(command: str) -> str:
        arguments = [sys.executable, "-c", COMMAND, str(tmp_path / "local"), command]
        arguments += ["--data", str(tmp_path / "data")] if command == "up" else []
        done = subprocess.run(
            arguments, cwd=PROJECT_ROOT / "plugins", env=variables, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def wait_for_chunks(count: int) -> None:
        from support.waiting import wait_for

        settings = Settings(warehouse=tmp_path / "local/up/warehouse.duckdb")
        wait_for(
            lambda: len(LedgerIndex(settings.warehouse, settings.limits).last_keys(100)) == count, f"{count} chunks"
        )

    try:
        says = run("up")
        assert re.search(r"^Detection files: .*/output/detections$", says, re.MULTILINE)
        wait_for_chunks(5)
        assert run("up").startswith("Already running")
        assert run("down").splitlines()[-1].startswith("Stopped.")
        assert processes_of(tmp_path / "local/up") == []
        with source.open("a") as file:
            file.write(f"{ROW}\n" * 2)
        run("up")
        wait_for_chunks(7)
        state = json.loads((tmp_path / "local/up/processes.json").read_text())
        psutil.Process(state["pids"][0]).kill()
        assert run("up").startswith("Parts of the stack have stopped")
    finally:
        run("down")
    assert run("down").startswith("Not running")
