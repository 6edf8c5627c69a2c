"""docker-compose.yaml with a real Docker engine: the tests are one story, and run in their order.

``make test-compose`` runs it; ``make test`` and ``make test-system`` do not. It takes an hour, mostly waiting.
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


def answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        return False


@dataclass
class Server:
    """A checkout with a .env of its own, and what docker-compose started from it."""

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
        """Output of a command in the checkout, whose environment is that of a fresh shell."""
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
        """Kill a container as an accident would, where this process sees its processes and may kill them.

        Docker takes ``docker kill`` for somebody's wish, and does not start the container again.
        """
        container, pid = self.container(service), self.inspect(service)["Pid"]
        with suppress(OSError):
            if container in Path(f"/proc/{pid}/cgroup").read_text():
                os.kill(pid, signal.SIGKILL)
                return
        self.run("docker", "kill", container)
        self.run(*self.compose, "start", service)

    def suspend(self, service: str) -> None:
        """Send SIGSTOP to what Docker's init started; nothing else notices."""
        command = "kill -STOP $(cat /proc/1/task/1/children)"
        self.run("docker", "exec", self.container(service), "sh", "-c", command)

    @contextmanager
    def hung(self, service: str, how: str) -> Iterator[None]:
        """A container that does not answer and does not die: it is paused, or its network is cut."""
        container, network = self.container(service), f"{self.env['COMPOSE_PROJECT_NAME']}_default"
        stop, go_on = {
            "paused": (["pause"], ["unpause"]),
            "cut off": (["network", "disconnect", "-f", network], ["network", "connect", "--alias", service, network]),
        }[how]
        self.run("docker", *stop, container)
        yield
        self.run("docker", *go_on, container)

    def died(self, since: float) -> set[tuple[str, int]]:
        """(service, exit code) of the containers that died since then, in seconds since 1970."""
        label = f"label=com.docker.compose.project={self.env['COMPOSE_PROJECT_NAME']}"
        what = '{{index .Actor.Attributes "com.docker.compose.service"}} {{.Actor.Attributes.exitCode}}'
        span = ["--since", f"{since:.0f}", "--until", f"{time.time():.0f}"]
        events = self.run("docker", "events", *span, "--filter", "event=die", "--filter", label, "--format", what)
        return {(service, int(code)) for service, code in map(str.split, events.splitlines())}

    def is_well(self, service: str) -> bool:
        """Running and healthy."""
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
        """Keys of the chunks that were exported, in their order; fails while a manifest is just being put."""
        contents = list(manifest.read_all(self.store, Settings().output_prefix))
        return [row["chunk_key"] for content in contents for row in content["chunks"]]

    def last_taken(self) -> list[str]:
        """Keys of the chunks that the last exports released."""
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
    """Ask until the answer is true, whatever is away in between."""
    began = time.monotonic()
    problem: Exception | str = "the answer was no"
    while time.monotonic() < began + DEADLINE_SECONDS:
        try:
            if question():
                return
        except Exception as error:
            problem = error
        time.sleep(1)
    raise AssertionError(f"not within {DEADLINE_SECONDS} s: {what} ({problem})")


def ask(question: Callable[[], list[str]]) -> list[str]:
    """The answer, asked again while something is away."""
    answer = []
    wait_for(lambda: answer.append(question()) or True, "an answer")
    return answer[0]


def key_of(number: int) -> str:
    return f"input/transactions/chunk_{number}"


def goes_on(server: Server) -> None:
    """The next chunk to land is detected within DETECTED_SECONDS, and everything is healthy then."""
    landed = len(ask(server.landed))
    assert landed < CHUNKS, "the stream is over before the last accident: give it more chunks"
    key = key_of(landed + 1)
    wait_for(lambda: key in server.landed(), f"{key} lands")
    began = time.monotonic()
    wait_for(lambda: key in server.last_taken(), f"{key} is taken")
    seconds = time.monotonic() - began
    print(f"{key} was detected within {seconds:.0f} s")
    assert seconds <= DETECTED_SECONDS
    all_are_well(server)


def all_are_well(server: Server) -> None:
    for service in set(LONG_RUNNING) - {"clean"}:
        wait_for(lambda service=service: server.is_well(service), f"{service} is healthy")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """Everything from nothing, in the profile local, with names and ports of its own; nothing of it stays."""
    compose = next((c for c in (["docker", "compose"], ["docker-compose"]) if answers(*c, "version")), None)
    if compose is None or not answers("docker", "info"):
        pytest.skip("there is no Docker engine, or no docker compose")
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
    if answers("docker", "image", "inspect", "rclone/rclone:latest"):
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
    """The same chunks as those of the feed, replayed without a kill."""
    generate.generate(folder / "source")
    source = folder / "source" / "transactions.csv.gz"
    settings = Settings(feed_chunk_rows=ROWS, feed_interval_seconds=0)
    assert feed_transactions(source, settings, FolderStore(folder / "data")) == CHUNKS
    replay(folder / "data", folder / "out", vars=VARS)
    assert len(detected(folder / "out")) > 50
    return folder / "out"


def test_from_nothing_to_the_first_detections(server):
    wait_for(server.files, "the first detection file")
    all_are_well(server)
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
    wait_for(lambda: server.inspect(service)["Pid"] not in (0, killed), f"{service} is started again")
    goes_on(server)


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
def test_container_that_does_not_answer_for_a_while(server, service, how):
    with server.hung(service, how):
        time.sleep(HANG_SECONDS)
    goes_on(server)


@pytest.mark.parametrize(
    "services", [("scheduler", "dag-processor", "triggerer", "s3"), ("api-server",), ("postgres",)], ids=" ".join
)
def test_what_hangs_for_minutes_is_restarted(server, services):
    hung = {service: server.inspect(service)["Pid"] for service in services}
    began = time.time()
    for service in services:
        server.suspend(service)
    for service, pid in hung.items():
        wait_for(lambda service=service, pid=pid: server.inspect(service)["Pid"] not in (0, pid), f"{service} is new")
    goes_on(server)
    assert {service for service, code in server.died(began) if code == KILLED} == set(services)


def test_nothing_is_restarted_because_postgres_hangs(server):
    began = time.time()
    with server.hung("postgres", "paused"):
        time.sleep(60 * RESTART_MINUTES + HANG_SECONDS)
    assert KILLED not in {code for _, code in server.died(began)}
    goes_on(server)


def test_down_and_up_goes_on_and_all_is_as_undisturbed(server, tmp_path):
    before = ask(server.files)
    server.run(*server.compose, "down")
    server.configure({"TALLYMARK_FEED_INTERVAL_SECONDS": 0})
    server.up()
    wait_for(lambda: len(server.taken()) == CHUNKS, "all chunks were taken")
    assert server.taken() == [key_of(number) for number in range(1, CHUNKS + 1)]
    assert set(before) <= set(server.files())
    assert exported(server.download(tmp_path / "here")) == exported(undisturbed(tmp_path))
    wait_for(lambda: server.inspect("feed")["Status"] == "exited", "the feed has ended")
    assert server.inspect("feed")["ExitCode"] == 0


def test_a_back_up_restored_into_an_empty_set_up_goes_on(server, tmp_path):
    wait_for(lambda: server.is_well("clean"), "what cleans has cleaned, of which it is asked every five minutes")
    server.run("make", "-s", "backup", f"TO={tmp_path / 'backup'}")
    before = server.files()
    server.run(*server.compose, "down")
    project = server.env["COMPOSE_PROJECT_NAME"]
    for volume in ("data", "metadata", "logs"):
        server.run("docker", "volume", "rm", f"{project}_{volume}")
    server.run("make", "-s", "restore", f"FROM={tmp_path / 'backup'}")
    body = csv_text([Row("C1", "M1", "F", "1")] * 80).encode()
    server.store.put_new(key_of(CHUNKS + 1), body)
    wait_for(lambda: len(server.taken()) == CHUNKS + 1, "the chunk after the back-up was taken")
    added = sorted(set(server.files()) - set(before))
    assert added == [f"output/detections/detections-{len(before) + 1:08d}.csv"]
    assert exported(server.download(tmp_path / "here"))[-1] == ("PatId2", "CHILD", "C1", "M1")
    for command in ("verify", "rebuild"):
        server.run(*server.compose, "stop", "scheduler")
        server.run(*server.compose, *f"run --rm --no-deps -T scheduler tallymark {command}".split())
    server.run(*server.compose, "start", "scheduler")
    wait_for(lambda: server.is_well("scheduler"), "the scheduler is well with a rebuilt warehouse")
