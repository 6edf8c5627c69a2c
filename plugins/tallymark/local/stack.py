"""A local stack: an S3 server, Airflow, the feed and optionally Spark on loopback, with all files in one folder."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import boto3
from dotenv import dotenv_values

from tallymark.errors import UserError
from tallymark.local import airflow_api, generate, spark
from tallymark.local.feed import find_source
from tallymark.local.isolation import isolated
from tallymark.local.processes import listens, spawn, stop
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store.s3 import S3_CONFIG, S3Store

UI_PORT = 8080
START_TIMEOUT_SECONDS = 180
# The feed ends after the last row.
MAY_END = ("feed", "set-up")

Processes = dict[str, subprocess.Popen]


class StackError(UserError, RuntimeError):
    """A part of the stack did not start, stopped, or makes no progress. The message names its log."""


@dataclass(frozen=True)
class Stack:
    """Files, ports and secrets of a stack.

    Attributes:
        root: folder of its S3 data, warehouse, Airflow metadata and logs.
        source: file of transactions for the feed.
        reserved: bound sockets that keep the ports free until the servers listen on them.
        began_at: time of its creation, in seconds of ``time.monotonic()``.
    """

    root: Path
    source: Path
    ui_port: int
    execution_port: int
    s3_port: int
    spark_port: int
    reserved: list[socket.socket] = field(repr=False)
    access_key: str = field(default_factory=partial(secrets.token_hex, 10), repr=False)
    secret_key: str = field(default_factory=partial(secrets.token_urlsafe, 30), repr=False)
    password: str = field(default_factory=partial(secrets.token_urlsafe, 9), repr=False)
    began_at: float = field(default_factory=time.monotonic)

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def s3_url(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def settings(self) -> Settings:
        """The settings from the environment, with the warehouse and the schedule of this stack."""
        schedule = os.environ.get("TALLYMARK_SCHEDULE", "@continuous")
        return Settings(warehouse=self.root / "warehouse.duckdb", schedule=schedule)

    @property
    def has_spark(self) -> bool:
        """Whether the stack runs its own Spark: when the engine is Spark and the environment names no Spark server."""
        return self.settings.engine == "spark" and "SPARK_REMOTE" not in os.environ

    @property
    def bucket(self) -> S3Store:
        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        client = boto3.client("s3", endpoint_url=self.s3_url, region_name="us-east-1", config=S3_CONFIG, **keys)
        return S3Store(client, self.settings.bucket)

    @property
    def bucket_folder(self) -> Path:
        """The folder in which the S3 server stores the objects of the bucket."""
        return self.root / "s3" / self.settings.bucket

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.root / "logs" / f"{name}.log"

    def environment(self) -> dict[str, str]:
        """Return the environment of Airflow's processes: paths, ports and secrets of this stack, and airflow.env."""
        settings, airflow_home = self.settings, self.root / "airflow"
        connection = {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {"endpoint_url": self.s3_url, "region_name": "us-east-1"},
        }
        return {
            **isolated(os.environ),
            **{name: value or "" for name, value in dotenv_values(PROJECT_ROOT / "airflow.env").items()},
            "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
            "TALLYMARK_WAREHOUSE": str(settings.warehouse),
            "TALLYMARK_SCHEDULE": settings.schedule,
            "TALLYMARK_OWNER_LINK": f"{self.ui_url}/plugin/detections",
            f"AIRFLOW_CONN_{settings.aws_conn_id.upper()}": json.dumps(connection),
            "AIRFLOW_HOME": str(airflow_home),
            "AIRFLOW__API__BASE_URL": self.ui_url,
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.execution_port}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.root / "passwords.json"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow_home}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.root / "logs" / "tasks"),
            **({"SPARK_REMOTE": f"sc://127.0.0.1:{self.spark_port}"} if self.has_spark else {}),
        }

    def feed_environment(self) -> dict[str, str]:
        """Return the environment of the feed, which does not use Airflow."""
        return {
            **isolated(os.environ),
            "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
            "TALLYMARK_FEED_SOURCE": str(self.source),
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def new_stack(root: Path, source: Path | None) -> Stack:
    """Create a stack and its folder. Generate transactions if ``source`` is None."""
    for folder in ("logs", "airflow"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    if source is None:
        if not (root / "source").exists():
            print("Generating 200,000 transactions ...", flush=True)
            unfinished = root / "source.unfinished"
            generate.generate(unfinished)
            unfinished.replace(root / "source")
        source = find_source(root / "source")
    reserved = [reserve_port(UI_PORT), reserve_port(), reserve_port(), reserve_port()]
    ui_port, execution_port, s3_port, spark_port = (port.getsockname()[1] for port in reserved)
    stack = Stack(root, source.absolute(), ui_port, execution_port, s3_port, spark_port, reserved)
    passwords = root / "passwords.json"
    passwords.touch(0o600)
    passwords.write_text(json.dumps({"admin": stack.password}))
    return stack


def reserve_port(wanted: int = 0) -> socket.socket:
    """Return a socket that is bound to a port of 127.0.0.1: the wanted one, or another one if it is in use.

    The socket does not listen. While it is open, the system does not assign its port to processes that ask for any free
    port. A server that sets SO_REUSEADDR, as most do, can still listen on it.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reserved.bind(("127.0.0.1", wanted))
    except OSError:
        reserved.close()
        print(f"Port {wanted} is in use. Using another one.", flush=True)
        return reserve_port()
    return reserved


def start(stack: Stack) -> Processes:
    """Start the S3 server and Airflow, wait until they answer, and return the processes by name.

    Raises:
        StackError: when a process does not start. All of them are stopped in that case.
    """
    processes: Processes = {}
    environment, airflow = stack.environment(), [sys.executable, "-m", "airflow"]

    def run(name: str, command: list[str], variables: dict[str, str] = environment) -> None:
        processes[name] = spawn(stack.root, command, variables, stack.log(name))

    def api_server(app: str, port: int) -> list[str]:
        return [*airflow, "api-server", "--apps", app, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]

    def is_up(name: str, what: str, answers: Callable[[], bool]) -> None:
        wait_until_up(stack, processes, name, what, answers)

    try:
        stack.bucket_folder.mkdir(parents=True, exist_ok=True)
        rclone = [str(Path(sys.executable).parent / "rclone"), "--config", "/dev/null", "serve", "s3"]
        rclone += ["--addr", f"127.0.0.1:{stack.s3_port}", "--dir-cache-time", "1h", str(stack.root / "s3")]
        run("s3", rclone, isolated(os.environ) | {"RCLONE_AUTH_KEY": f'"{stack.access_key},{stack.secret_key}"'})
        if stack.has_spark:
            run("spark", spark.connect_server(stack.root / "spark", stack.spark_port), spark.server_environment())
        run("set-up", [sys.executable, "-m", "tallymark", "set-up"])
        is_up("s3", "S3 server", lambda: listens(processes["s3"], stack.s3_port))
        is_up("set-up", "Airflow's database", lambda: processes["set-up"].poll() == 0)
        del processes["set-up"]
        if stack.has_spark:
            is_up("spark", "Spark", lambda: listens(processes["spark"], stack.spark_port))
        # Two API servers, because SQLite has one writer: docs/decisions/accidents-in-airflow.md
        run("api-server", api_server("core", stack.ui_port))
        run("execution-api", api_server("execution", stack.execution_port))
        run("dag-processor", [*airflow, "dag-processor"])
        run("scheduler", [*airflow, "scheduler", "--skip-serve-logs"])
        is_up(
            "api-server",
            "Airflow's UI",
            lambda: bool(airflow_api.health(stack.ui_url)) and listens(processes["api-server"], stack.ui_port),
        )
        is_up("scheduler", "Airflow's scheduler", lambda: airflow_api.health(stack.ui_url)["scheduler"] == "healthy")
        # No task needs the triggerer, so nothing waits for it. Without it, Airflow's home page shows it in red.
        run("triggerer", [*airflow, "triggerer", "--skip-serve-logs"])
    except BaseException:
        stop(stack.root)
        raise
    return processes


def start_feed(stack: Stack, processes: Processes) -> None:
    """Start the feed and add it to the processes. It continues after the last chunk in the bucket."""
    command = [sys.executable, "-m", "tallymark", "feed"]
    processes["feed"] = spawn(stack.root, command, stack.feed_environment(), stack.log("feed"))
    _say(stack, "Feed is up")


def wait_until_up(stack: Stack, processes: Processes, name: str, what: str, answers: Callable[[], bool]) -> None:
    """Wait until a part answers, and print that it is up.

    Raises:
        StackError: when a process ends, or after START_TIMEOUT_SECONDS.
    """
    deadline, reason = time.monotonic() + START_TIMEOUT_SECONDS, "not ready yet"
    while True:
        check_alive(stack, processes)
        try:
            if answers():
                return _say(stack, f"{what} is up")
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        if time.monotonic() > deadline:
            raise StackError(f"{what} did not start within {START_TIMEOUT_SECONDS} s ({reason}). See {stack.log(name)}")
        time.sleep(0.2)


def _say(stack: Stack, what: str) -> None:
    print(f"{time.monotonic() - stack.began_at:5.0f} s   {what}", flush=True)


def check_alive(stack: Stack, processes: Processes) -> None:
    """Raise a StackError when a process that must keep running has ended."""
    for name, process in processes.items():
        code = process.poll()
        if code is not None and not (code == 0 and name in MAY_END):
            raise StackError(f"{name} stopped with exit code {code}. See {stack.log(name)}")


@contextmanager
def running(stack: Stack) -> Iterator[Processes]:
    """Start a stack with its feed. Always stop it at the end, also on SIGTERM and Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    processes = start(stack)
    try:
        # If the feed started earlier, the latency would include the start of Airflow.
        tasks = stack.root / "logs" / "tasks"
        wait_until_up(stack, processes, "scheduler", "Airflow's task runner", lambda: any(tasks.rglob("attempt=*.log")))
        start_feed(stack, processes)
        yield processes
    finally:
        print("Stopping ...", flush=True)
        stop(stack.root)
