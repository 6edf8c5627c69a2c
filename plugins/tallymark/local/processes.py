"""Processes of a local stack. Each has the stack's folder in its environment, which its descendants inherit."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

STOP_SECONDS = 3
TAG = "LOCAL_STACK"


def spawn(root: Path, command: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen:
    """Start a process of the stack in ``root`` as a session leader. Append its output to a log."""
    # Without SPT_NOENV, Airflow overwrites its visible environment when it sets process titles.
    variables = {**environment, TAG: str(root), "SPT_NOENV": "1"}
    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def processes_of(root: Path) -> list[psutil.Process]:
    """Return all running processes of the stack in ``root``, including orphans."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(TAG) == str(root):
                found.append(process)
    return found


def stop(root: Path) -> None:
    """Stop all processes of the stack in ``root``; return when they have ended.

    Processes that ``spawn`` started get SIGINT. After STOP_SECONDS, all remaining processes get SIGKILL. Airflow's
    tasks are killed at once (docs/decisions/accidents-in-airflow.md). Their workers are killed before them, because a
    worker would report the task as failed.
    """
    asked = []
    for process in processes_of(root):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == process.pid:
                asked.append(process)
            # Airflow runs each task in its own process group.
            elif os.getpgid(process.pid) == process.pid:
                for ended in filter(None, (process.parent(), process)):
                    ended.kill()
    for process in asked:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)
    psutil.wait_procs(asked, timeout=STOP_SECONDS)
    while left := processes_of(root):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)


def listens(process: subprocess.Popen, port: int) -> bool:
    """Return whether this process, or one of its descendants, listens on a port."""
    started = psutil.Process(process.pid)
    family = [started, *started.children(recursive=True)]
    connections = []
    for member in family:
        with suppress(psutil.NoSuchProcess):
            connections += member.net_connections("tcp")
    return any(found.status == psutil.CONN_LISTEN and found.laddr.port == port for found in connections)
