"""The tallymark command: help, errors, exit codes, and the values that make passes to it."""

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
from tallymark import __version__, machine
from tallymark.cli import main
from tallymark.cli.options import SECTIONS, tallymark
from tallymark.errors import UserError
from tallymark.local import generate
from tallymark.local.replay import replay
from tallymark.settings import PROJECT_ROOT


@pytest.fixture(autouse=True)
def _no_handlers_for_other_tests(monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory: folders with chunks, without chunks and with a broken source, and a file."""
    monkeypatch.chdir(tmp_path)
    write_chunk(tmp_path / "chunks", "chunk_1", [Row("C", "M", "F", "1")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "other/input/transactions").mkdir(parents=True)
    (tmp_path / "other/input/transactions/transactions.csv").write_text(f"{HEADER}\n")
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/transactions.csv.gz").write_bytes(gzip.compress(b"x")[:-3])
    return tmp_path


def error_of(capsys, arguments: str, code: int = 1) -> str:
    """Run a command that ends with an exit code; return its error without the prefix."""
    name, *given = arguments.split()
    if name == "certify":
        given.append("--out=certified")
    assert main([name, *given]) == code
    error = capsys.readouterr().err
    assert error.startswith("ERROR: ")
    return error.removeprefix("ERROR: ")


REPLAY = "with input/transactions/chunk_* and input/customers/*, laid out like the bucket."
MISTAKES = {
    "replay none out": f"DATA does not exist: {{}}/none. Choose a folder {REPLAY}\n",
    "replay file out": f"DATA is a file: {{}}/file. Choose a folder {REPLAY}\n",
    "replay empty out": f"empty/input/transactions contains no chunk_*. Choose a DATA folder {REPLAY} For a folder",
    "replay other out": "other/input/transactions contains no chunk_*. ",
    "replay chunks file": "OUT is not writable: {}/file (it is a file). Choose a folder you can write to.",
    "replay chunks file/out": "OUT is not writable: {}/file/out (Not a directory). Choose a folder",
    "replay chunks a#b": "warehouse is 'a#b/warehouse.duckdb': it contains '#', which DuckDB or SQL would misread. Use",
    "replay chunks out --vars={a": (
        "VARS is '{a': it must be a YAML mapping, such as {\"child_min_transactions\": 60} (expected ','"
    ),
    "replay chunks out --vars=[1]": "VARS is '[1]': it must be a YAML mapping, such as ",
    "replay chunks out --vars=7": "VARS is '7': it must be a YAML mapping, such as ",
    "certify none": "DATA does not exist: {}/none. Choose a folder with input/transactions/chunk_*, or",
    "certify file": "DATA is a file: {}/file. Choose",
    "certify empty": "{}/empty contains neither transactions.csv.gz nor transactions.csv. Choose a DATA folder with",
    "certify other": "other/input/transactions contains no chunk_*. ",
    "certify broken": "broken/transactions.csv.gz cannot be read: ",
    "certify chunks --shuffle=1": "SHUFFLE needs a transactions.csv(.gz), but chunks is already cut into chunks. ",
    "certify chunks --vars={a": "VARS is '{a': it must be a YAML mapping",
    "verify --data=none": "DATA does not exist: {}/none. Choose",
    "verify --data=file": "DATA is a file: {}/file. Choose",
    "verify --data=chunks": "Nothing was ever exported to chunks: it contains no output/manifests/*. ",
    "verify --data=chunks --out=none": "OUT does not exist: {}/none. Choose a folder with the output of make replay",
    "rebuild --data=chunks --out=file": "OUT is a file: {}/file. Choose",
    "rebuild --data=chunks --out=empty": "Nothing was ever exported to empty: it contains no output/manifests/*. ",
    "rebuild --out=empty": "DATA is missing. With OUT, also give the folder that make replay read.",
    "demo --data=none": "DATA does not exist: {}/none. Choose a folder with transactions.csv(.gz)",
    "up --data=file": "DATA is a file: {}/file. Choose",
    "demo --data=empty": "{}/empty contains neither transactions.csv.gz nor transactions.csv. ",
    "up --data=broken": "broken/transactions.csv.gz cannot be read: ",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistake_is_explained_before_anything_is_written(folder, monkeypatch, capsys, arguments):
    before = sorted(folder.rglob("*"))
    expected = MISTAKES[arguments].replace("{}", str(folder))
    assert expected in error_of(capsys, arguments)
    shutil.rmtree("certified", ignore_errors=True)
    assert sorted(folder.rglob("*")) == before


USAGE = {
    "nonsense": "No such command 'nonsense'. See: tallymark --help",
    "replay": "Missing argument 'DATA'. See: tallymark replay --help",
    "replay chunks": "Missing argument 'OUT'. See: tallymark replay --help",
    "replay chunks out --batch=ten": "Invalid value for '--batch': 'ten' is not a valid integer. See: tallymark replay",
    "replay chunks out --batch=0": "Invalid value for '--batch': 0 is not in the range x>=1. See: tallymark replay",
    "replay chunks out --no-such": "No such option '--no-such'. See: tallymark replay --help",
    "certify chunks --shuffle=x": "Invalid value for '--shuffle': 'x' is not a valid integer.",
    "certify chunks --kills=-1": "Invalid value for '--kills': -1 is not in the range x>=0.",
    "health nothing": "Invalid value for '{scheduler|dag_processor|triggerer|metadatabase}': 'nothing' is not one of",
}


@pytest.mark.parametrize("arguments", USAGE)
def test_wrong_usage_has_its_own_exit_code(folder, capsys, arguments):
    before = sorted(folder.rglob("*"))
    assert error_of(capsys, arguments, 2).startswith(USAGE[arguments])
    assert sorted(folder.rglob("*")) == before


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tallymark, version {__version__}\n"


def test_every_command_has_help_with_an_example(capsys):
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(tallymark.commands)
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for name, command in tallymark.commands.items():
        assert f"\n  {name} " in overview
        assert main([name, "--help"]) == 0
        assert re.search(rf"^    (\S+=\S+ )?tallymark {name}\b", capsys.readouterr().out, re.MULTILINE)
        assert all(option.help for option in command.params if option.param_type_name == "option")
    assert main([]) == 2
    assert capsys.readouterr().err.strip() == overview.strip()


HEAVY = {"airflow", "boto3", "dbt", "duckdb", "pydantic", "rich", "yaml"}


def test_help_and_health_import_nothing_heavy():
    """Docker runs the health check every few seconds."""
    code = "import sys; from tallymark.cli import main; main(sys.argv[1:]); print('\\n', *sys.modules)"
    for arguments in (["--help"], ["health", "scheduler"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT / "plugins")},
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
        assert not HEAVY & set(done.stdout.splitlines()[-1].split())


def test_shell_completion(folder):
    done = subprocess.run(
        [sys.executable, "-m", "tallymark"],
        env=os.environ
        | {"PYTHONPATH": str(PROJECT_ROOT / "plugins"), "_TALLYMARK_COMPLETE": "bash_complete"}
        | {"COMP_WORDS": "tallymark re", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout.split() == ["plain,rebuild", "plain,replay"]


@pytest.mark.parametrize("command", ["replay chunks out", "certify chunks", "verify --data=chunks"])
@pytest.mark.parametrize("name, value", [("MAX_CHUNKS_PER_RUN", "abc"), ("LAG_LIMIT_SECONDS", "0")])
def test_invalid_setting_fails_every_command(folder, monkeypatch, capsys, command, name, value):
    monkeypatch.setenv(f"TALLYMARK_{name}", value)
    assert f"TALLYMARK_{name} is '{value}': it must be " in error_of(capsys, command)


@pytest.mark.parametrize("command", ["demo", "up"])
def test_stack_does_not_start_with_invalid_threshold(monkeypatch, capsys, command):
    monkeypatch.setenv("TALLYMARK_VARS", json.dumps({"child_min_transactions": -1}))
    monkeypatch.setattr(generate, "generate", lambda _: pytest.fail("the stack was started"))
    assert error_of(capsys, command).startswith(
        "TALLYMARK_VARS: child_min_transactions is -1: it must be a number from 0 to "
    )


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("command", ["replay chunks out", "rebuild --data=chunks --out=out"])
def test_unwritable_folder_is_an_error(folder, monkeypatch, capsys, command, number):
    replay(folder / "chunks", folder / "out")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    def fail(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", fail)
    name = "The warehouse's folder" if "rebuild" in command else "OUT"
    expected = {
        errno.EROFS: f"{name} is not writable: {folder / 'out'} (Read-only file system). Choose a folder you can",
        errno.ENOSPC: f"The disk is full: {folder / 'out'} (",
    }
    assert error_of(capsys, command).startswith(expected[number])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("name", ["it's", "a blank", 'a "quote"', "ünï"])
def test_unusual_paths_work(folder, monkeypatch, capsys, name):
    (folder / "chunks").rename(folder / name)
    assert main(["replay", name, f"{name} out"]) == 0
    assert json.loads(capsys.readouterr().out)["chunks"] == 1
    assert main(["verify", f"--data={name}", f"--out={name} out"]) == 0
    assert json.loads(capsys.readouterr().out)["manifests"] == 1


def test_errors_of_a_command(monkeypatch, capsys):
    def raises(error: BaseException) -> int:
        def raising() -> None:
            raise error

        monkeypatch.setattr(tallymark.commands["down"], "callback", raising)
        return main(["down"])

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
    assert capsys.readouterr().err.startswith("ERROR: Out of memory. Give the process more memory")
    assert raises(KeyboardInterrupt()) == 130
    for unexpected in (KeyError("x"), FileNotFoundError(errno.ENOENT, "x"), RuntimeError("x")):
        with pytest.raises(type(unexpected)):
            raises(unexpected)


def test_only_make_variables_set_options(folder, monkeypatch, capsys):
    """A DATA variable in the user's shell has no effect on the command."""
    for name, value in {"DATA": "none", "OUT": "none", "BATCH": "ten"}.items():
        monkeypatch.setenv(name, value)
    assert main(["replay", "chunks", "out"]) == 0
    for name, value in {"DATA": "chunks", "OUT": "again", "BATCH": "1", "VARS": "{child_min_transactions: 1}"}.items():
        monkeypatch.setenv(f"MAKE_{name}", value)
    assert main(["replay"]) == 0
    assert (folder / "again/warehouse.duckdb").exists()
    # make also exports variables that were not given.
    for name in ("BATCH", "VARS", "WITHOUT_MISSING"):
        monkeypatch.setenv(f"MAKE_{name}", "")
    assert main(["verify"]) == main(["rebuild"]) == 0
