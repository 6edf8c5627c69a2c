"""docs/real-bucket.md works when its commands are followed word for word."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from support import servers
from support.oracle import Row
from support.streams import csv_text
from support.waiting import wait_for
from tallymark.local import processes
from tallymark.local import stack as local_stack
from tallymark.settings import PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "real-bucket.md").read_text()
COMMANDS = re.search(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]
PASSWORDS = re.search(r"`(\S+passwords\S+)`", PAGE)[1]
PORTS = ("AIRFLOW__API__PORT", "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT", "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT")


def once(old: str, new: str, text: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the tracked files in a new git repository, so that untracked files are noticed."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=PROJECT_ROOT, text=True)
    copy = tmp_path / "tallymark"
    for name in filter(None, listed.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT_ROOT / name, copy / name)
    for command in ("init -q", "add -A", "-c user.name=x -c user.email=x@example.org commit -q -m x"):
        subprocess.check_call(["git", *command.split()], cwd=copy)
    return copy


@contextmanager
def running(checkout: Path, s3: servers.Served) -> Iterator[tuple[subprocess.Popen, dict[str, int]]]:
    """Run the commands with a bucket and a warehouse of the test; yield the shell and Airflow's ports."""
    extra = {"endpoint_url": s3.url, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": s3.key, "password": s3.secret, "extra": extra}
    commands = re.sub(r"^pip install .*\n", "", COMMANDS)
    assert commands != COMMANDS
    commands = once("my-bucket", "a-bucket", commands)
    commands = once("/data/warehouse.duckdb", str(checkout.parent / "data/warehouse.duckdb"), commands)
    given = '{"conn_type": "aws", "extra": {"region_name": "ap-south-1"}}'
    commands = once(given, json.dumps(connection), commands)

    reserved = {name: local_stack.reserve_port() for name in PORTS}
    ports = {name: reserved[name].getsockname()[1] for name in PORTS}
    environment = {
        name: value for name, value in os.environ.items() if not re.match("AIRFLOW|TALLYMARK|PYTHONPATH", name)
    }
    environment |= {name: str(port) for name, port in ports.items()}
    environment |= {
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{ports['AIRFLOW__API__PORT']}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["bash", "-e", "-c", f"cd '{checkout}'\n{commands}"]
    bash = processes.spawn(checkout, command, environment, checkout.parent / "log")
    try:
        yield bash, ports
    finally:
        processes.stop(checkout)
        bash.wait(600)
        for port in reserved.values():
            port.close()


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def listens(processes: list[psutil.Process]) -> set[tuple[int, str]]:
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found += process.net_connections("tcp")
    return {(each.laddr.port, each.laddr.ip) for each in found if each.status == psutil.CONN_LISTEN}


@pytest.mark.system
def test_commands_for_a_real_bucket(checkout):
    """They lead to a detection file and a login, listen on loopback only, and leave no untracked file in git."""
    folder = checkout.parent / "s3"
    (folder / "a-bucket").mkdir(parents=True)
    log = checkout.parent / "log"
    with servers.rclone(folder) as s3, running(checkout, s3) as (bash, ports):
        body = csv_text([Row("C1", "M1", "F", "1")] * 80).encode()
        s3.client().put_object(Bucket="a-bucket", Key="input/transactions/chunk_1", Body=body)
        file = folder / "a-bucket/output/detections/detections-00000001.csv"
        wait_for(lambda: file.exists() or bash.poll() is not None, "a detection file")
        assert bash.poll() is None, log.read_text()
        assert file.read_text().endswith(",PatId2,CHILD,C1,M1\n")

        password = json.loads((checkout / PASSWORDS).read_text())["admin"]
        assert f"Password for user 'admin': {password}" in log.read_text()
        login = json.dumps({"username": "admin", "password": password}).encode()
        ui = f"http://127.0.0.1:{ports['AIRFLOW__API__PORT']}"
        request = urllib.request.Request(f"{ui}/auth/token", login, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            assert json.load(answer)["access_token"]

        started = psutil.Process(bash.pid)
        family = [started, *started.children(recursive=True)]
        log_servers = {ports[name] for name in PORTS[1:]}
        assert {at for at in listens(family) if at[0] not in log_servers} == {
            (ports["AIRFLOW__API__PORT"], "127.0.0.1")
        }
    wait_for(lambda: not any(runs(process) for process in family), "all processes have ended")
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=checkout, text=True) == ""
