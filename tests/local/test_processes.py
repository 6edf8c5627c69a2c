"""All processes of a stack are found and stopped, including orphans, and no others."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from support.waiting import wait_for
from tallymark.local.processes import listens, processes_of, spawn, stop

LISTEN = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
# Like Airflow's scheduler: it has a worker, whose task leads a process group and ignores SIGINT.
SCHEDULER = """
import os, signal, subprocess, sys, time
import setproctitle
setproctitle.setproctitle("a title that is longer than the command line was " * 20)
if sys.argv[1:] != ["task"]:
    subprocess.Popen([sys.executable, __file__, *({"worker": ["task"]}.get("".join(sys.argv[1:]), ["worker"]))])
else:
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    open("ready", "w").close()
time.sleep(600)
"""


def test_foreign_process_is_not_the_server():
    with subprocess.Popen([sys.executable, "-c", LISTEN], stdin=-1, stdout=-1) as ours, socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        assert listens(ours, int(ours.stdout.readline()))
        assert not listens(ours, stranger.getsockname()[1])
        ours.communicate(b"\n")


def started(root: Path) -> subprocess.Popen:
    """Start a scheduler with a worker and a task, in the stack of this folder."""
    script = root / "scheduler.py"
    script.write_text(SCHEDULER.replace('"ready"', repr(str(root / "ready"))))
    scheduler = spawn(root, [sys.executable, str(script)], os.environ, root / "log")
    wait_for((root / "ready").exists, "the task runs")
    return scheduler


def test_all_descendants_are_found_and_stopped(tmp_path):
    (tmp_path / "other").mkdir()
    scheduler, other = started(tmp_path), started(tmp_path / "other")
    assert len(processes_of(tmp_path)) == len(processes_of(tmp_path / "other")) == 3
    stop(tmp_path)
    scheduler.wait(600)
    assert processes_of(tmp_path) == []
    assert len(processes_of(tmp_path / "other")) == 3, "another stack keeps running"
    other.kill()
    other.wait(600)
    assert len(processes_of(tmp_path / "other")) == 2, "orphans are found"
    stop(tmp_path / "other")
    assert processes_of(tmp_path / "other") == []


def test_nothing_to_stop(tmp_path):
    stop(tmp_path)
    assert processes_of(tmp_path) == []
