"""The local stack: its ports, its source, what it says of what runs; ``up`` and ``down``, which are slow."""

import gzip
import http.server
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import nullcontext

import psutil
import pytest
from support import foreign
from support.streams import HEADER
from tallymark.__main__ import main
from tallymark.local import stack as local_stack
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.warehouse.ledger_index import LedgerIndex

LISTEN = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"


def test_a_server_can_take_a_reserved_port_and_nobody_else_is_given_it(tmp_path):
    (tmp_path / "transactions.csv").write_text(HEADER + "\n")
    stack = local_stack.new_stack(tmp_path, tmp_path / "transactions.csv")
    ports = [stack.ui_port, stack.execution_port, stack.s3_port]
    assert len(set(ports)) == 3
    for port in ports:
        with http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler):
            assert local_stack.reserve_port(port).getsockname()[1] != port


def test_a_stranger_that_answers_is_not_taken_for_the_server():
    with subprocess.Popen([sys.executable, "-c", LISTEN], stdin=-1, stdout=-1) as ours, socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        assert local_stack.listens(ours, int(ours.stdout.readline()))
        assert not local_stack.listens(ours, stranger.getsockname()[1])
        ours.communicate(b"\n")


ROW = "0,'C1','2','F','28007','M1','28007','es_food',4.55,0"
SOURCES = {
    "no folder": (None, "There is no folder"),
    "no file": ({}, "There is neither transactions.csv.gz nor transactions.csv in"),
    "empty": ({"transactions.csv": b""}, "holds no line"),
    "another header": ({"transactions.csv": b"a,b\n1,2\n"}, "header lacks customer, merchant, gender, amount"),
    "header only": ({"transactions.csv": f"{HEADER}\n\n".encode()}, "holds no transaction below its header"),
    "no gzip": ({"transactions.csv.gz": b"x"}, "cannot be read: Not a gzipped file"),
    "cut gzip": (
        {"transactions.csv.gz": gzip.compress(f"{HEADER}\n".encode())[:-9]},
        "cannot be read: Compressed file",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_cannot_be_replayed_is_said_before_anything_is_touched(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(local_stack, "LOCAL", tmp_path / "local")
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
        assert error.startswith((f"ERROR: {tmp_path / 'data'}", "ERROR: There is n"))
        assert says in error
    assert [path.name for path in (tmp_path / "local").rglob("*")] == ["demo", "kept"]


def test_a_good_source(tmp_path):
    (tmp_path / "transactions.csv.gz").write_bytes(gzip.compress(f"\n{HEADER}\r\n{ROW}\r\n".encode()))
    assert local_stack.find_source(tmp_path) == tmp_path / "transactions.csv.gz"


@pytest.mark.parametrize(("name", "code", "is_error"), [("feed", 0, False), ("feed", 1, True), ("scheduler", 0, True)])
def test_only_a_feed_may_end(tmp_path, name, code, is_error):
    (tmp_path / "transactions.csv").write_text(HEADER + "\n")
    stack = local_stack.new_stack(tmp_path / "stack", tmp_path / "transactions.csv")
    ended = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    ended.wait(600)
    with pytest.raises(local_stack.StackError, match=f"{name} stopped") if is_error else nullcontext():
        local_stack.check_alive(stack, {name: ended})


@pytest.mark.parametrize("name", foreign.VARIABLES)
def test_foreign_variable_is_dropped(name):
    kept = local_stack.isolated({name: foreign.VARIABLES[name], "HOME": "/home"})
    assert kept["HOME"] == "/home"
    # The stack names AWS files that hold nothing.
    assert kept.get(name) in (None, os.devnull)


KEPT = {
    "AIRFLOW_CONN_SLACK_DEFAULT": "slack://",
    "AIRFLOW_VAR_TEAM": "payments",
    "TALLYMARK_BUCKET": "a-bucket",
    "PATH": "/bin",
    **foreign.PROXIES,
}


@pytest.mark.parametrize("name", KEPT)
def test_own_variable_is_kept(name):
    assert local_stack.isolated(KEPT)[name] == KEPT[name]


@pytest.mark.parametrize(
    ("given", "exempt"),
    [
        ({}, {"127.0.0.1", "localhost"}),
        ({"NO_PROXY": "example.com, .corp "}, {"127.0.0.1", "localhost", "example.com", ".corp"}),
        ({"NO_PROXY": "*"}, {"*"}),
        ({"NO_PROXY": "a", "no_proxy": "b,127.0.0.1,"}, {"127.0.0.1", "localhost", "a", "b"}),
    ],
)
def test_no_proxy_is_asked_for_loopback(given, exempt):
    kept = local_stack.isolated(given | foreign.PROXIES)
    assert set(kept["NO_PROXY"].split(",")) == set(kept["no_proxy"].split(",")) == exempt


def test_environments_of_the_stack_are_isolated(tmp_path, monkeypatch):
    for name, value in (foreign.VARIABLES | KEPT).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "transactions.csv").write_text(HEADER + "\n")
    stack = local_stack.new_stack(tmp_path / "stack", tmp_path / "transactions.csv")
    for environment in (stack.environment(), stack.feed_environment()):
        assert not set(foreign.VARIABLES.items()) & set(environment.items())
        assert set(KEPT.items()) <= set(environment.items())


PARENT = "import subprocess; subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL); print(flush=True); input()"


def test_processes_of_before_and_no_others(tmp_path):
    """What ``up`` left: a leader, its orphan after it was killed; nobody who has the number of a leader by chance."""
    leader = subprocess.Popen([sys.executable, "-c", PARENT], stdin=-1, stdout=-1, start_new_session=True)
    leader.stdout.readline()
    began_at = psutil.Process(leader.pid).create_time()
    state = {"booted_at": psutil.boot_time(), "processes": [(leader.pid, began_at)]}
    found = local_stack._left(state)
    assert len(found) == 2
    assert local_stack._left(state | {"booted_at": 0}) == []
    assert local_stack._left(state | {"processes": [(leader.pid, began_at - 100)]}) == []
    leader.kill()
    leader.communicate()
    (orphan,) = local_stack._left(state)
    assert orphan.cmdline() == ["sleep", "600"]
    local_stack.stop([orphan.pid])
    assert local_stack._left(state) == []


COMMAND = """
import pathlib, sys
from tallymark.__main__ import main
from tallymark.local import stack as local_stack
local_stack.LOCAL, local_stack.UI_PORT = pathlib.Path(sys.argv.pop(1)), 0
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.system
def test_up_and_down_and_up_again(tmp_path):
    """The second time the stream goes on; after a crash what is left is stopped, and all of it starts anew."""
    (tmp_path / "data").mkdir()
    source = tmp_path / "data/transactions.csv"
    source.write_text("\n".join([HEADER, *[ROW] * 5, ""]))
    # Those of Python would keep the command itself from starting: the Makefile drops them.
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
        assert run("up").startswith("It runs already")
        assert run("down").splitlines()[-1].startswith("Stopped.")
        with source.open("a") as file:
            file.write(f"{ROW}\n" * 2)
        run("up")
        wait_for_chunks(7)
        state = json.loads((tmp_path / "local/up/processes.json").read_text())
        psutil.Process(state["processes"][0][0]).kill()
        assert run("up").startswith("Not all of what was started before is running any more")
    finally:
        run("down")
    assert run("down").startswith("It does not run")
