"""docker-compose.yaml with a real Docker engine. The tests depend on each other and run in order.

Only ``make test-compose`` runs them. They take an hour, mostly waiting.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from dotenv import dotenv_values
from support.oracle import Row
from support.streams import csv_text, detected, exported
from tallymark.local import generate
from tallymark.local import stack as local_stack
from tallymark.local.feed import feed_transactions
from tallymark.local.replay import replay
from tallymark.outbox import manifest
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store.folder import FolderStore
from tallymark.store.s3 import S3Store

pytestmark = pytest.mark.docker

BUCKET = "customer-transactions-detection"
CHUNKS, ROWS, INTERVAL_SECONDS = 667, 300, 5
VARS = {"child_min_transactions": 20, "dei_min_female_customers": 20, "upgrade_min_merchant_transactions": 5_000}
DEADLINE_SECONDS = 1_200
DETECTED_SECONDS = 90
HANG_SECONDS = 90
RESTART_MINUTES = 2
KILLED = 128 + signal.SIGKILL
LONG_RUNNING = ("s3", "postgres", "api-server", "scheduler", "dag-processor", "triggerer", "clean")


def succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        return False


@dataclass
class Server:
    """A checkout with its own .env, and the containers that docker compose started from it."""

    folder: Path
    compose: list[str]

    @property
    def env(self) -> dict[str, str]:
        return dotenv_values(self.folder / ".env", interpolate=False)

    def configure(self, given: dict[str, object]) -> None:
        """Change values in .env."""
        text = (self.folder / ".env").read_text()
        for name, value in given.items():
            text, found = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            assert found == 1, name
        (self.folder / ".env").write_text(text)

    def run(self, *command: str) -> str:
        """Run a command in the checkout with the environment of a fresh shell, and return its output."""
        names = ("COMPOSE", "TALLYMARK", "AIRFLOW", "S3_", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
        return done.stdout

    def up(self) -> None:
        self.run(*self.compose, "up", "-d")

    def container(self, service: str) -> str:
        return self.run(*self.compose, "ps", "-a", "-q", service).strip()

    def inspect(self, service: str) -> dict:
        return json.loads(self.run("docker", "inspect", self.container(service)))[0]["State"]

    def kill(self, service: str) -> None:
        """Kill a container as an accident would, if this process may kill the container's processes.

        Otherwise use ``docker kill`` and start the container: Docker does not restart it after a manual kill.
        """
        container, pid = self.container(service), self.inspect(service)["Pid"]
        with suppress(OSError):
            if container in Path(f"/proc/{pid}/cgroup").read_text():
                os.kill(pid, signal.SIGKILL)
                return
        self.run("docker", "kill", container)
        self.run(*self.compose, "start", service)

    def suspend(self, service: str) -> None:
        """Send SIGSTOP to the process that Docker's init started; the container keeps running."""
        command = "kill -STOP $(cat /proc/1/task/1/children)"
        self.run("docker", "exec", self.container(service), "sh", "-c", command)

    @contextmanager
    def hung(self, service: str, how: str) -> Iterator[None]:
        """Make a container unresponsive without killing it: pause it, or disconnect its network."""
        container, network = self.container(service), f"{self.env['COMPOSE_PROJECT_NAME']}_default"
        stop, resume = {
            "paused": (["pause"], ["unpause"]),
            "cut off": (["network", "disconnect", "-f", network], ["network", "connect", "--alias", service, network]),
        }[how]
        self.run("docker", *stop, container)
        yield
        self.run("docker", *resume, container)

    def died(self, since: float) -> set[tuple[str, int]]:
        """Return (service, exit code) of the containers that died since then (seconds since 1970)."""
        label = f"label=com.docker.compose.project={self.env['COMPOSE_PROJECT_NAME']}"
        what = '{{index .Actor.Attributes "com.docker.compose.service"}} {{.Actor.Attributes.exitCode}}'
        span = ["--since", f"{since:.0f}", "--until", f"{time.time():.0f}"]
        events = self.run("docker", "events", *span, "--filter", "event=die", "--filter", label, "--format", what)
        return {(service, int(code)) for service, code in map(str.split, events.splitlines())}

    def is_healthy(self, service: str) -> bool:
        """Return whether a service is running and healthy."""
        state = self.inspect(service)
        return state["Running"] and state["Health"]["Status"] == "healthy"

    @property
    def store(self) -> S3Store:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.env['S3_PORT']}",
            aws_access_key_id=self.env["S3_ACCESS_KEY"],
            aws_secret_access_key=self.env["S3_SECRET_KEY"],
            region_name="us-east-1",
            config=Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1}),
        )
        return S3Store(client, BUCKET)

    def landed(self) -> list[str]:
        return [stored.key for stored in self.store.list("input/transactions/chunk_")]

    def taken(self) -> list[str]:
        """Return the keys of released chunks in order; fails while a manifest is being written."""
        contents = list(manifest.read_all(self.store, Settings().output_prefix))
        return [row["chunk_key"] for content in contents for row in content["chunks"]]

    def last_taken(self) -> list[str]:
        """Return the keys of the chunks that the last exports released."""
        stored = [stored for stored in self.store.list("output/manifests/manifest-")][-20:]
        return [row["chunk_key"] for manifest in stored for row in json.loads(self.store.get(manifest))["chunks"]]

    def files(self) -> list[str]:
        return [stored.key for stored in self.store.list("output/detections/")]

    def download(self, out: Path) -> Path:
        for stored in self.store.list("output/detections/"):
            path = out / stored.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.store.get(stored))
        return out


def wait_for(question: Callable[[], object], what: str) -> None:
    """Wait until the question is answered with yes, ignoring errors until the deadline."""
    began = time.monotonic()
    problem: Exception | str = "no error"
    while time.monotonic() < began + DEADLINE_SECONDS:
        try:
            if question():
                return
        except Exception as error:
            problem = error
        time.sleep(1)
    raise AssertionError(f"Did not happen within {DEADLINE_SECONDS} s: {what} ({problem})")


def ask(question: Callable[[], list[str]]) -> list[str]:
    """Return the answer to a question, repeated while it fails."""
    answer = []
    wait_for(lambda: answer.append(question()) or True, "an answer")
    return answer[0]


def key_of(number: int) -> str:
    return f"input/transactions/chunk_{number}"


def assert_stream_continues(server: Server) -> None:
    """Assert that the next chunk that lands is taken within DETECTED_SECONDS, and that all services become healthy."""
    landed = len(ask(server.landed))
    assert landed < CHUNKS, "The stream ended before the last accident. Increase CHUNKS."
    key = key_of(landed + 1)
    wait_for(lambda: key in server.landed(), f"{key} lands")
    began = time.monotonic()
    wait_for(lambda: key in server.last_taken(), f"{key} is taken")
    seconds = time.monotonic() - began
    print(f"{key} was taken within {seconds:.0f} s")
    assert seconds <= DETECTED_SECONDS
    wait_until_all_are_healthy(server)


def wait_until_all_are_healthy(server: Server) -> None:
    for service in set(LONG_RUNNING) - {"clean"}:
        wait_for(lambda service=service: server.is_healthy(service), f"{service} is healthy")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A new server with the `local` profile, its own names and ports; removed completely afterwards."""
    compose = next((c for c in (["docker", "compose"], ["docker-compose"]) if succeeds(*c, "version")), None)
    if compose is None or not succeeds("docker", "info"):
        pytest.skip("There is no Docker engine, or no docker compose")
    folder = tmp_path_factory.mktemp("server") / "tallymark"
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=PROJECT_ROOT, text=True).split("\0")[:-1]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT_ROOT / name, folder / name)
    made = Server(folder, compose)
    made.run("make", "-s", "secrets")
    project = f"tallymarktest{os.getpid()}"
    reserved = [local_stack.reserve_port(), local_stack.reserve_port()]
    ports = [port.getsockname()[1] for port in reserved]
    given = {
        "COMPOSE_PROJECT_NAME": project,
        "UI_PORT": ports[0],
        "S3_PORT": ports[1],
        "TALLYMARK_SCHEDULE": "@continuous",
        "SCHEDULER_CPUS": min(2, os.cpu_count()),
        "RESTART_MINUTES": RESTART_MINUTES,
    }
    if succeeds("docker", "image", "inspect", "rclone/rclone:latest"):
        given["RCLONE_IMAGE"] = "rclone/rclone:latest"
    with (folder / ".env").open("a") as file:
        file.write(f"TALLYMARK_FEED_CHUNK_ROWS={ROWS}\nTALLYMARK_FEED_INTERVAL_SECONDS={INTERVAL_SECONDS}\n")
        file.write(f"TALLYMARK_VARS={json.dumps(VARS)}\n")
    made.configure(given)
    for port in reserved:
        port.close()
    try:
        made.run(*compose, "build")
        made.up()
        yield made
    finally:
        for service in (*LONG_RUNNING, "set-up", "feed"):
            with suppress(AssertionError):
                print(f"--- {service}\n{made.run(*compose, 'logs', '--no-color', '--tail', '100', service)}")
        with suppress(AssertionError):
            made.run(*compose, "down", "-v", "--remove-orphans", "--timeout", "10")
        subprocess.run(["docker", "image", "rm", project], capture_output=True)


def undisturbed(folder: Path) -> Path:
    """Replay the chunks of the feed without accidents, and return the output folder."""
    generate.generate(folder / "source")
    source = folder / "source" / "transactions.csv.gz"
    settings = Settings(feed_chunk_rows=ROWS, feed_interval_seconds=0)
    assert feed_transactions(source, settings, FolderStore(folder / "data")) == CHUNKS
    replay(folder / "data", folder / "out", vars=VARS)
    assert len(detected(folder / "out")) > 50
    return folder / "out"


def test_new_server_detects_something(server):
    wait_for(server.files, "the first detection file is written")
    wait_until_all_are_healthy(server)
    ui = f"http://127.0.0.1:{server.env['UI_PORT']}"
    with urllib.request.urlopen(f"{ui}/api/v2/monitor/health", timeout=60) as answer:
        assert {part["status"] for part in json.load(answer).values()} == {"healthy"}
    login = json.dumps({"username": "admin", "password": server.env["ADMIN_PASSWORD"]}).encode()
    request = urllib.request.Request(f"{ui}/auth/token", login, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["access_token"]
    for service in LONG_RUNNING:
        ports = json.loads(server.run("docker", "inspect", server.container(service)))[0]["HostConfig"]["PortBindings"]
        assert {binding["HostIp"] for bindings in (ports or {}).values() for binding in bindings} <= {"127.0.0.1"}


@pytest.mark.parametrize("service", [*LONG_RUNNING, "feed"])
def test_killed_container_comes_back(server, service):
    killed = server.inspect(service)["Pid"]
    server.kill(service)
    wait_for(lambda: server.inspect(service)["Pid"] not in (0, killed), f"{service} is restarted")
    assert_stream_continues(server)


@pytest.mark.parametrize(
    ("service", "how"),
    [
        ("postgres", "paused"),
        ("postgres", "cut off"),
        ("s3", "paused"),
        ("s3", "cut off"),
        ("api-server", "paused"),
    ],
)
def test_stream_continues_after_unresponsive_container(server, service, how):
    with server.hung(service, how):
        time.sleep(HANG_SECONDS)
    assert_stream_continues(server)


@pytest.mark.parametrize(
    "services", [("scheduler", "dag-processor", "triggerer", "s3"), ("api-server",), ("postgres",)], ids=" ".join
)
def test_hanging_services_are_restarted(server, services):
    hung = {service: server.inspect(service)["Pid"] for service in services}
    began = time.time()
    for service in services:
        server.suspend(service)
    for service, pid in hung.items():
        wait_for(
            lambda service=service, pid=pid: server.inspect(service)["Pid"] not in (0, pid), f"{service} is restarted"
        )
    assert_stream_continues(server)
    assert {service for service, code in server.died(began) if code == KILLED} == set(services)


def test_hanging_postgres_restarts_nothing(server):
    began = time.time()
    with server.hung("postgres", "paused"):
        time.sleep(60 * RESTART_MINUTES + HANG_SECONDS)
    assert KILLED not in {code for _, code in server.died(began)}
    assert_stream_continues(server)


def test_result_after_down_and_up_is_undisturbed(server, tmp_path):
    before = ask(server.files)
    server.run(*server.compose, "down")
    server.configure({"TALLYMARK_FEED_INTERVAL_SECONDS": 0})
    server.up()
    wait_for(lambda: len(server.taken()) == CHUNKS, "all chunks are taken")
    assert server.taken() == [key_of(number) for number in range(1, CHUNKS + 1)]
    assert set(before) <= set(server.files())
    assert exported(server.download(tmp_path / "here")) == exported(undisturbed(tmp_path))
    wait_for(lambda: server.inspect("feed")["Status"] == "exited", "the feed has ended")
    assert server.inspect("feed")["ExitCode"] == 0


def test_backup_is_restored_into_an_empty_installation(server, tmp_path):
    wait_for(lambda: server.is_healthy("clean"), "the clean service is healthy, which is checked every five minutes")
    server.run("make", "-s", "backup", f"TO={tmp_path / 'backup'}")
    before = server.files()
    server.run(*server.compose, "down")
    project = server.env["COMPOSE_PROJECT_NAME"]
    for volume in ("data", "metadata", "logs"):
        server.run("docker", "volume", "rm", f"{project}_{volume}")
    server.run("make", "-s", "restore", f"FROM={tmp_path / 'backup'}")
    body = csv_text([Row("C1", "M1", "F", "1")] * 80).encode()
    server.store.put_new(key_of(CHUNKS + 1), body)
    wait_for(lambda: len(server.taken()) == CHUNKS + 1, "the chunk after the backup is taken")
    added = sorted(set(server.files()) - set(before))
    assert added == [f"output/detections/detections-{len(before) + 1:08d}.csv"]
    assert exported(server.download(tmp_path / "here"))[-1] == ("PatId2", "CHILD", "C1", "M1")
    for command in ("verify", "rebuild"):
        server.run(*server.compose, "stop", "scheduler")
        server.run(*server.compose, *f"run --rm --no-deps -T scheduler tallymark {command}".split())
    server.run(*server.compose, "start", "scheduler")
    wait_for(lambda: server.is_healthy("scheduler"), "the scheduler is healthy with the rebuilt warehouse")
