"""Processes of a local stack. Each carries the stack's folder in its environment, and so do its descendants."""

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
    """Start a process of the stack in ``root``, as the leader of a session; its output is appended to a log."""
    # Airflow sets the titles of its processes, which would overwrite what others see of their environment.
    variables = {**environment, TAG: str(root), "SPT_NOENV": "1"}
    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def processes_of(root: Path) -> list[psutil.Process]:
    """All running processes of the stack in ``root``, whoever started them and whether or not their parent runs."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(TAG) == str(root):
                found.append(process)
    return found


def stop(root: Path) -> None:
    """End all processes of the stack in ``root``; returns when they have ended.

    What ``spawn`` started gets SIGINT, and after STOP_SECONDS all that is left gets SIGKILL. Airflow's tasks are killed
    at once (docs/decisions/accidents-in-airflow.md), after their workers, which would report a failure.
    """
    asked = []
    for process in processes_of(root):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == process.pid:
                asked.append(process)
            # Airflow gives each task a process group.
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
    """Whether this process or a descendant of it, and nobody else, listens on a port."""
    started = psutil.Process(process.pid)
    family = [started, *started.children(recursive=True)]
    connections = []
    for member in family:
        with suppress(psutil.NoSuchProcess):
            connections += member.net_connections("tcp")
    return any(found.status == psutil.CONN_LISTEN and found.laddr.port == port for found in connections)
