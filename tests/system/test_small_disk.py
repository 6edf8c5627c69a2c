"""Replays on a disk that fills up and then has space again: a small file system in its own mount namespace."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support.oracle import Row
from support.streams import detected, write_chunk
from tallymark.local.replay import replay
from tallymark.settings import PROJECT_ROOT

pytestmark = pytest.mark.system

CHUNKS, ROWS = 6, 6_000
IN_A_NAME_SPACE = ["unshare", "--map-root-user", "--mount", "sh", "-ec"]
# Replays twice until the disk is full, makes room, replays the rest, and copies the output.
SCRIPT = """
mount -t tmpfs -o size=$1k tmpfs "$2"
for try in 1 2; do "$4" -m tallymark replay "$3" "$2/out" --batch=1 >"$5/log$try" 2>&1 && exit 3; done
mount -o remount,size=300m "$2"
"$4" -m tallymark replay "$3" "$2/out" --batch=1 >"$5/log3" 2>&1
cp -r "$2/out" "$5/out"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    if subprocess.run([*IN_A_NAME_SPACE, "mount -t tmpfs tmpfs /tmp"], capture_output=True).returncode:
        pytest.skip("This machine does not allow tests to mount a file system (unshare --map-root-user --mount)")
    chance, data = random.Random(1), tmp_path_factory.mktemp("data")
    for number in range(1, CHUNKS + 1):
        rows = [
            Row(f"C{chance.randrange(10**9)}", f"M{chance.randrange(50)}", chance.choice("FM"), "1")
            for _ in range(ROWS)
        ]
        write_chunk(data, f"chunk_{number}", rows)
    replay(data, data / "undisturbed", batch=1)
    return data


@pytest.mark.parametrize(
    ("kilobytes", "reserve"), [(size, 0) for size in (1000, 3000, 4000, 5000, 5600, 6100, 7000)] + [(7000, 64 * 2**20)]
)
def test_full_disk_loses_nothing(data, tmp_path, kilobytes, reserve):
    (tmp_path / "small").mkdir()
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT / "plugins"), "TALLYMARK_MIN_FREE_BYTES": str(reserve)}
    arguments = [str(kilobytes), tmp_path / "small", data, sys.executable, tmp_path]
    done = subprocess.run([*IN_A_NAME_SPACE, SCRIPT, "sh", *arguments], env=environment, timeout=1200)
    logs = [(tmp_path / f"log{number}").read_text() for number in (1, 2)]
    assert done.returncode == 0, logs
    for log in logs:
        assert "Traceback" not in log and "terminate" not in log
        assert log.splitlines()[-1].startswith(
            "ERROR: The disk of the warehouse is almost full: " if reserve else "ERROR: The disk is full: "
        )
    assert detected(tmp_path / "out") == detected(data / "undisturbed")
