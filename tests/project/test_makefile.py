"""The values that make passes to the command, and its check of the Python version."""

import os
import subprocess
import sys

import pytest
from tallymark.cli.options import tallymark
from tallymark.settings import PROJECT_ROOT

VARIABLES = ("DATA", "OUT", "BATCH", "VARS", "SHUFFLE", "KILLS", "SEED", "WITHOUT_MISSING")


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run a target of the Makefile in the current folder."""
    command = ["make", "-s", "-f", str(PROJECT_ROOT / "Makefile"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ | variables)


@pytest.mark.parametrize("target", ["demo", "up", "down", "doctor", "replay", "verify", "rebuild", "certify"])
@pytest.mark.parametrize("value", ["it's", "a  blank", "{a: 'b', \"c\": 1}", "`false`; \\ &", "#ü"])
def test_values_reach_the_command_unchanged(tmp_path, monkeypatch, target, value):
    monkeypatch.chdir(tmp_path)
    command = tmp_path / "tallymark"
    names = " ".join(f'"$MAKE_{name}"' for name in VARIABLES)
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" {names}\n')
    command.chmod(0o755)
    done = make("-o", ".venv/installed", f"BIN={tmp_path}", target, *(f"{name}={value}" for name in VARIABLES))
    assert done.stderr == ""
    assert done.stdout.splitlines() == [target, *[value] * len(VARIABLES)]


def test_make_passes_every_option():
    """make must export every option that a command reads from a MAKE_* variable."""
    read = {parameter.envvar for command in tallymark.commands.values() for parameter in command.params}
    assert read - {None} == {f"MAKE_{name}" for name in VARIABLES}


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 14)])
def test_unsupported_python_is_rejected_before_installing(tmp_path, monkeypatch, version):
    monkeypatch.chdir(tmp_path)
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = {version}; exec(sys.argv[2])' \"$@\"\n"
    )
    python.chmod(0o755)
    done = make(f"PYTHON={python}", ".venv/installed")
    assert done.returncode != 0
    assert done.stderr.startswith(
        f"ERROR: Tallymark needs Python 3.11, 3.12 or 3.13, but {sys.executable} is {version[0]}.{version[1]}. "
        "Choose another one, for example: make PYTHON=python3.12"
    )
    assert not (tmp_path / ".venv").exists()
