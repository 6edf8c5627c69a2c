"""Plain mistakes are answered by a sentence and an exit code, and values reach the commands as they were typed."""

import errno
import gzip
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.oracle import Row
from support.streams import HEADER, write_chunk
from tallymark.__main__ import main
from tallymark.cli import command_line
from tallymark.cli.command_line import command
from tallymark.errors import UserError
from tallymark.local import generate
from tallymark.local.replay import replay
from tallymark.settings import PROJECT_ROOT


@pytest.fixture(autouse=True)
def _no_handlers_for_other_tests(monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where the paths of these tests begin: chunks, an empty folder, a file, and a replay."""
    monkeypatch.chdir(tmp_path)
    write_chunk(tmp_path / "chunks", "chunk_1", [Row("C", "M", "F", "1")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "other/input/transactions").mkdir(parents=True)
    (tmp_path / "other/input/transactions/transactions.csv").write_text(f"{HEADER}\n")
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/transactions.csv.gz").write_bytes(gzip.compress(b"x")[:-3])
    return tmp_path


def told(capsys, arguments: str) -> str:
    """What a command tells on stderr before it ends with exit code 1."""
    name, *given = arguments.split()
    if name == "certify":
        given.append("--out=certified")
    assert main([name, *given]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ERROR: ")
    return error.removeprefix("ERROR: ")


REPLAY = "must be a folder with input/transactions/chunk_* and input/customers/*, like the bucket"
MISTAKES = {
    "replay none out": f"There is no folder {{}}/none; DATA {REPLAY}\n",
    "replay file out": f"{{}}/file is a file; DATA {REPLAY}\n",
    "replay empty out": f"empty/input/transactions holds no chunk_* to replay. DATA {REPLAY}; one with transactions",
    "replay other out": "other/input/transactions holds no chunk_* to replay. ",
    "replay chunks file": "OUT is not writable: {}/file (it is a file). Choose a folder you can write to.",
    "replay chunks file/out": "OUT is not writable: {}/file/out (Not a directory). Choose a folder",
    "replay chunks a#b": "warehouse is 'a#b/warehouse.duckdb': it has '#' in it, which is read as something else",
    "replay chunks out --batch=ten": "BATCH: 'ten' is not a number of chunks: 1 or more",
    "replay chunks out --vars={a": "VARS is '{a': it must be YAML like {\"child_min_transactions\": 60} (expected ','",
    "replay chunks out --vars=[1]": "VARS is '[1]': it must be YAML like ",
    "replay chunks out --vars=7": "VARS is '7': it must be YAML like ",
    "certify none": "There is no folder {}/none; DATA must be a folder with input/transactions/chunk_*, or",
    "certify file": "{}/file is a file; DATA must be",
    "certify empty": "empty holds neither input/transactions/ nor transactions.csv(.gz)",
    "certify other": "other/input/transactions holds no chunk_* to replay. ",
    "certify broken": "broken/transactions.csv.gz cannot be read: ",
    "certify chunks --shuffle=1": "Only a whole file can be shuffled",
    "certify chunks --shuffle=x": "SHUFFLE: invalid int value: 'x'",
    "certify chunks --kills=-1": "KILLS: '-1' is not a number of kills: 0 or more",
    "certify chunks --vars={a": "VARS is '{a': it must be YAML",
    "verify --data=none": "There is no folder {}/none; DATA must be",
    "verify --data=file": "{}/file is a file; DATA must be",
    "verify --data=chunks": "chunks holds no output/manifests/*, so nothing was ever exported there. ",
    "verify --data=chunks --out=none": "There is no folder {}/none; OUT must be a folder with what make replay",
    "rebuild --data=chunks --out=file": "{}/file is a file; OUT must be",
    "rebuild --data=chunks --out=empty": "empty holds no output/manifests/*, so nothing was ever exported",
    "rebuild --out=empty": "OUT is a folder that make replay wrote; give DATA, which it read, too",
    "demo --data=none": "There is no folder {}/none; DATA must be a folder with transactions.csv(.gz)",
    "up --data=file": "{}/file is a file; DATA must be",
    "demo --data=empty": "There is neither transactions.csv.gz nor transactions.csv in {}/empty",
    "nonsense": "'nonsense' is no command; there are: demo, up, ",
    "up --data=broken": "broken/transactions.csv.gz cannot be read: ",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_told_in_a_sentence_and_nothing_is_touched(folder, monkeypatch, capsys, arguments):
    before = sorted(folder.rglob("*"))
    says = MISTAKES[arguments].replace("{}", str(folder))
    assert says in told(capsys, arguments)
    shutil.rmtree("certified", ignore_errors=True)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("command", ["replay chunks out", "certify chunks", "verify --data=chunks"])
@pytest.mark.parametrize("name, value", [("MAX_CHUNKS_PER_RUN", "abc"), ("LAG_LIMIT_SECONDS", "0")])
def test_a_wrong_setting_is_told_by_every_command(folder, monkeypatch, capsys, command, name, value):
    monkeypatch.setenv(f"TALLYMARK_{name}", value)
    assert f"TALLYMARK_{name} is '{value}': it must be " in told(capsys, command)


@pytest.mark.parametrize("command", ["demo", "up"])
def test_a_stack_is_not_begun_with_a_wrong_threshold(monkeypatch, capsys, command):
    monkeypatch.setenv("TALLYMARK_VARS", json.dumps({"child_min_transactions": -1}))
    monkeypatch.setattr(generate, "generate", lambda _: pytest.fail("it begins"))
    says = told(capsys, f"{command}")
    assert says.startswith("TALLYMARK_VARS: child_min_transactions is -1: it must be a number from 0 to ")


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("command", ["replay chunks out", "rebuild --data=chunks --out=out"])
def test_a_folder_that_cannot_be_written(folder, monkeypatch, capsys, command, number):
    replay(folder / "chunks", folder / "out")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    def refuses(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(command_line.tempfile, "TemporaryFile", refuses)
    name = "The folder of the warehouse" if "rebuild" in command else "OUT"
    says = {
        errno.EROFS: f"{name} is not writable: {folder / 'out'} (Read-only file system). Choose a folder you can",
        errno.ENOSPC: f"The disk is full: {folder / 'out'} (",
    }
    assert told(capsys, command).startswith(says[number])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("name", ["it's", "a blank", 'a "quote"', "ünï"])
def test_paths_with_odd_names_work(folder, monkeypatch, capsys, name):
    (folder / "chunks").rename(folder / name)
    assert main(["replay", name, f"{name} out"]) == 0
    assert json.loads(capsys.readouterr().out)["chunks"] == 1
    assert main(["verify", f"--data={name}", f"--out={name} out"]) == 0
    assert json.loads(capsys.readouterr().out)["manifests"] == 1


def test_what_a_command_does_with_errors(capsys):
    def raises(error: BaseException) -> int:
        @command
        def main(arguments: list[str]) -> None:
            raise error

        return main([])

    assert raises(UserError("Do this.")) == 1
    assert capsys.readouterr().err == "ERROR: Do this.\n"
    assert raises(PermissionError(errno.EACCES, "Permission denied", "some/file")) == 1
    to_do = "Give the user of this process access to it and to its folder."
    assert capsys.readouterr().err == f"ERROR: Access is denied: some/file. {to_do}\n"
    assert raises(OSError(errno.ENOSPC, "No space left on device")) == 1
    assert capsys.readouterr().err == "ERROR: The disk is full. Free some space on it, or enlarge it.\n"
    assert raises(OSError(errno.ENOSPC, "No space left on device", "/tmp")) == 1
    assert re.fullmatch(r"ERROR: The disk is full: /tmp \([0-9.,]+ MiB free\)\. .*\n", capsys.readouterr().err)
    assert raises(MemoryError()) == 1
    assert capsys.readouterr().err.startswith("ERROR: Memory ran out. Give the process more memory")
    assert raises(KeyboardInterrupt()) == 130
    for unexpected in (KeyError("x"), FileNotFoundError(errno.ENOENT, "x"), RuntimeError("x")):
        with pytest.raises(type(unexpected)):
            raises(unexpected)


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """The Makefile's commands in an empty folder."""
    command = ["make", "-s", "-f", str(PROJECT_ROOT / "Makefile"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ | variables)


VALUES = {
    "demo": {"DATA": "--data="},
    "up": {"DATA": "--data="},
    "replay": {"DATA": "", "OUT": "", "BATCH": "--batch=", "VARS": "--vars="},
    "verify": {"DATA": "--data=", "OUT": "--out="},
    "rebuild": {"DATA": "--data=", "OUT": "--out="},
    "certify": {"DATA": "", "SHUFFLE": "--shuffle=", "KILLS": "--kills=", "SEED": "--seed=", "VARS": "--vars="},
}


@pytest.mark.parametrize("target", VALUES)
@pytest.mark.parametrize("value", ["it's", "a  blank", "{a: 'b', \"c\": 1}", "`false`; \\ &", "#ü"])
def test_values_reach_the_command_as_they_were_typed(tmp_path, monkeypatch, target, value):
    monkeypatch.chdir(tmp_path)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    given = [f"{name}={value}" for name in VALUES[target]]
    done = make("-o", ".venv/installed", f"BIN={tmp_path}", target, *given)
    assert done.stderr == ""
    arrived = done.stdout.splitlines()
    assert arrived[-len(given) :] == [f"{option}{value}" for option in VALUES[target].values()]


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 14)])
def test_make_names_the_pythons_that_do_before_it_installs(tmp_path, monkeypatch, version):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.txt").touch()
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = {version}; exec(sys.argv[2])' \"$@\"\n"
    )
    python.chmod(0o755)
    done = make(f"PYTHON={python}", ".venv/installed")
    assert done.returncode != 0
    assert done.stderr.startswith(
        f"ERROR: Tallymark needs Python 3.11, 3.12 or 3.13, and {sys.executable} is {version[0]}.{version[1]}. "
        "Choose another one, as in: make PYTHON=python3.12"
    )
    assert not (tmp_path / ".venv").exists()
