"""All of Tallymark on one machine: an S3 server, Airflow and the feed.

See ``make demo``, ``make up`` and ``make down`` in the README.
Everything listens on loopback only and keeps its files in ``.local/``.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import psutil
from botocore.config import Config
from dotenv import dotenv_values

from tallymark.cli.command_line import ArgumentParser, must_be_a_folder
from tallymark.errors import UserError
from tallymark.local import generate, summary
from tallymark.local.feed import check_source, open_source
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store.s3 import S3Store

LOCAL = PROJECT_ROOT / ".local"
UI_PORT = 8080
START_TIMEOUT_SECONDS = 180
STALL_TIMEOUT_SECONDS = 180
STOP_SECONDS = 3
LOOPBACK = ("127.0.0.1", "localhost")

# Variables of another installation of Airflow, dbt, rclone or Python, or of an AWS account. Connections stay, because
# alerts need them. No client in here can use a SOCKS proxy, and httpx fails if there is one.
FOREIGN = re.compile("_?AIRFLOW_(?!CONN_|VAR_)|AWS_|BOTO|DBT_|OTEL_|PYTHON|RCLONE_|(?i:[a-z]+_proxy=socks)")


class StackError(UserError, RuntimeError):
    """Something did not start, stopped by itself, or stands still; the message names its log."""


@dataclass(frozen=True)
class Stack:
    """Where one stack lives and how to reach it.

    Attributes:
        root: folder of its S3 data, warehouse, Airflow metadata and logs.
        source: the transactions that the feed replays.
        reserved: bound sockets that keep the three ports from others until they are listened to.
        laid_out_at: when it was, on the clock that time.monotonic() reads, seconds.
    """

    root: Path
    source: Path
    ui_port: int
    execution_port: int
    s3_port: int
    access_key: str
    secret_key: str
    password: str
    reserved: list[socket.socket] = field(repr=False)
    laid_out_at: float = field(default_factory=time.monotonic)

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}"

    @property
    def s3_url(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def settings(self) -> Settings:
        """Those of the environment, with the warehouse and the schedule of this stack."""
        given = {"warehouse": self.root / "warehouse.duckdb"}
        if "TALLYMARK_SCHEDULE" not in os.environ:
            given["schedule"] = "@continuous"
        return Settings(**given)

    @property
    def bucket(self) -> S3Store:
        client = boto3.client(
            "s3",
            endpoint_url=self.s3_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=30),
        )
        return S3Store(client, self.settings.bucket)

    def environment(self) -> dict[str, str]:
        """The variables of Airflow's processes: paths, ports and secrets of this stack, and airflow.env."""
        settings, airflow_home = self.settings, self.root / "airflow"
        connection = {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {"endpoint_url": self.s3_url, "region_name": "us-east-1"},
        }
        return {
            **isolated(os.environ),
            **dotenv_values(PROJECT_ROOT / "airflow.env"),
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
        }

    def feed_environment(self) -> dict[str, str]:
        """The variables of the feed, which knows no Airflow."""
        return {
            **isolated(os.environ),
            "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
            "TALLYMARK_FEED_SOURCE": str(self.source),
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def isolated(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without ``FOREIGN`` variables and AWS files, in which no proxy is asked for loopback."""
    kept = {name: value for name, value in environment.items() if not FOREIGN.match(f"{name}={value}")}
    exempt = {host.strip() for name in ("NO_PROXY", "no_proxy") for host in kept.get(name, "").split(",")}
    # A list with a star among other hosts would exempt only these.
    no_proxy = "*" if "*" in exempt else ",".join(sorted(filter(None, exempt.union(LOOPBACK))))
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    return {**kept, **files, "NO_PROXY": no_proxy, "no_proxy": no_proxy}


def isolate_this_process() -> None:
    """Give this process an isolated environment: urllib asks proxies, and boto3 reads ``AWS_*``."""
    kept = isolated(os.environ)
    os.environ.clear()
    os.environ.update(kept)


def find_source(data: Path) -> Path:
    """The file of transactions in a folder.

    Raises:
        UserError: when there is none.
        SourceError: when it cannot be replayed.
    """
    must_be_a_folder(data, "DATA", "transactions.csv(.gz)")
    sources = [path for name in ("transactions.csv.gz", "transactions.csv") if (path := data / name).is_file()]
    if not sources:
        raise UserError(
            f"There is neither transactions.csv.gz nor transactions.csv in {data.absolute()}, which DATA must hold"
        )
    check_source(sources[0])
    return sources[0]


def new_stack(root: Path, source: Path | None) -> Stack:
    """Lay out a stack's folder, with generated data unless there is a file of transactions."""
    for folder in ("logs", "airflow"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    if source is None:
        if not (root / "source").exists():
            print("Generating 200,000 transactions ...", flush=True)
            unfinished = root / "source.unfinished"
            generate.generate(unfinished)
            unfinished.replace(root / "source")
        source = find_source(root / "source")
    reserved = [reserve_port(UI_PORT), reserve_port(), reserve_port()]
    ui_port, execution_port, s3_port = (port.getsockname()[1] for port in reserved)
    password = secrets.token_urlsafe(9)
    (root / "passwords.json").write_text(json.dumps({"admin": password}))
    (root / "passwords.json").chmod(0o600)
    return Stack(
        root=root,
        source=source.absolute(),
        ui_port=ui_port,
        execution_port=execution_port,
        s3_port=s3_port,
        access_key=secrets.token_hex(10),
        secret_key=secrets.token_urlsafe(30),
        password=password,
        reserved=reserved,
    )


def reserve_port(wanted: int = 0) -> socket.socket:
    """A socket on the wanted port of 127.0.0.1, or on another one if it is taken.

    It does not listen. While it is open, the system gives its port to nobody who asks for any port; a server that
    sets SO_REUSEADDR, as most do, can listen to it.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reserved.bind(("127.0.0.1", wanted))
    except OSError:
        reserved.close()
        print(f"Port {wanted} is taken; another one is used.", flush=True)
        return reserve_port()
    return reserved


def start(stack: Stack) -> dict[str, subprocess.Popen]:
    """Start the S3 server and Airflow, wait until they answer, and say so; returns the processes by name.

    Raises:
        StackError: when one of them does not come up; all of them are stopped then.
    """
    processes = {}
    airflow, environment = [sys.executable, "-m", "airflow"], stack.environment()
    try:
        (stack.root / "s3" / stack.settings.bucket).mkdir(parents=True, exist_ok=True)
        rclone = [_script("rclone"), "--config", "/dev/null", "serve", "s3", "--addr", f"127.0.0.1:{stack.s3_port}"]
        rclone += ["--dir-cache-time", "1h", str(stack.root / "s3")]
        key = {"RCLONE_AUTH_KEY": f'"{stack.access_key},{stack.secret_key}"'}
        s3 = processes["s3"] = _spawn(stack, "s3", rclone, isolated(os.environ) | key)
        command = [sys.executable, "-m", "tallymark", "set-up"]
        set_up = processes["set-up"] = _spawn(stack, "set-up", command, environment)
        _wait_until_up(stack, {"s3": s3}, "s3", "S3 server", lambda: _s3_answers(stack, s3))
        with suppress(subprocess.TimeoutExpired):
            set_up.wait(START_TIMEOUT_SECONDS)
        if set_up.poll() != 0:
            raise StackError(f"Airflow's database could not be set up: see {_log(stack, 'set-up')}")
        del processes["set-up"]
        _say(stack, "Airflow's database is ready")
        for name, arguments in {
            "api-server": _api_server("core", stack.ui_port),
            "execution-api": _api_server("execution", stack.execution_port),
            "dag-processor": ["dag-processor"],
            "scheduler": ["scheduler", "--skip-serve-logs"],
        }.items():
            processes[name] = _spawn(stack, name, airflow + arguments, environment)
        _wait_until_up(
            stack, processes, "api-server", "Airflow's UI", lambda: _ui_answers(stack, processes["api-server"])
        )
        _wait_until_up(
            stack, processes, "scheduler", "Airflow's scheduler", lambda: _health(stack)["scheduler"] == "healthy"
        )
        # No task needs it, so nothing waits for it; without one Airflow's home page shows red.
        processes["triggerer"] = _spawn(stack, "triggerer", [*airflow, "triggerer", "--skip-serve-logs"], environment)
    except BaseException:
        stop([process.pid for process in processes.values()])
        raise
    return processes


def start_feed(stack: Stack, processes: dict[str, subprocess.Popen]) -> None:
    """Add the feed to the processes; it continues behind the last chunk in the bucket."""
    command = [sys.executable, "-m", "tallymark", "feed"]
    processes["feed"] = _spawn(stack, "feed", command, stack.feed_environment())
    _say(stack, "Feed is up")


def _wait_until_up(
    stack: Stack, processes: dict[str, subprocess.Popen], name: str, what: str, answers: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while (missing := _missing(answers)) is not None:
        check_alive(stack, processes)
        if time.monotonic() > deadline:
            raise StackError(f"{what} is not up after {START_TIMEOUT_SECONDS} s ({missing}): see {_log(stack, name)}")
        time.sleep(0.2)
    _say(stack, f"{what} is up")


def _say(stack: Stack, what: str) -> None:
    print(f"{time.monotonic() - stack.laid_out_at:5.0f} s   {what}", flush=True)


def _s3_answers(stack: Stack, server: subprocess.Popen) -> bool:
    stack.bucket.client.head_bucket(Bucket=stack.settings.bucket)
    return listens(server, stack.s3_port)


def _ui_answers(stack: Stack, server: subprocess.Popen) -> bool:
    return bool(_health(stack)) and listens(server, stack.ui_port)


def _health(stack: Stack) -> dict[str, str]:
    """What Airflow says of its parts: ``healthy``, ``unhealthy`` or None."""
    with urllib.request.urlopen(f"{stack.ui_url}/api/v2/monitor/health", timeout=5) as answer:
        return {part: found["status"] for part, found in json.load(answer).items()}


def _runs_a_task(stack: Stack) -> bool:
    path = "/api/v2/dags/~/dagRuns/~/taskInstances?state=running&limit=1"
    return _ask(stack, path, token=_token(stack))["total_entries"] > 0


def _durations(stack: Stack) -> dict[str, list[float]]:
    """Seconds that the tasks of runs with work took, by task in the order of the DAG."""
    token, runs, durations = _token(stack), "/api/v2/dags/detect_patterns/dagRuns/~/taskInstances", {}
    # A task that had nothing to do returned nothing.
    values = _pages(stack, f"{runs}/~/xcomEntries?xcom_key=return_value", "xcom_entries", token)
    with_work = {(value["run_id"], value["task_id"]) for value in values}
    for task in _pages(stack, f"{runs}?state=success&order_by=start_date", "task_instances", token):
        if (task["dag_run_id"], task["task_id"]) in with_work and task["task_id"] != "wait_for_chunk":
            durations.setdefault(task["task_id"], []).append(task["duration"])
    return durations


def _pages(stack: Stack, path: str, of: str, token: str) -> Iterator[dict]:
    offset = 0
    while found := _ask(stack, f"{path}&limit=100&offset={offset}", token=token)[of]:
        yield from found
        offset += len(found)


def _token(stack: Stack) -> str:
    return _ask(stack, "/auth/token", {"username": "admin", "password": stack.password})["access_token"]


def _ask(stack: Stack, path: str, body: dict | None = None, token: str | None = None) -> dict:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(stack.ui_url + path, data, headers), timeout=30) as answer:
        return json.load(answer)


def _api_server(app: str, port: int) -> list[str]:
    return ["api-server", "--apps", app, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def _script(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _log(stack: Stack, name: str) -> Path:
    return stack.root / "logs" / f"{name}.log"


def _spawn(stack: Stack, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    with _log(stack, name).open("ab") as log:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def listens(process: subprocess.Popen, port: int) -> bool:
    """Whether it is this process, or one that it started, that listens to a port."""
    started = psutil.Process(process.pid)
    family = [started, *started.children(recursive=True)]
    connections = [connection for member in family for connection in member.net_connections("tcp")]
    return any(found.status == psutil.CONN_LISTEN and found.laddr.port == port for found in connections)


def _missing(answers: Callable[[], bool]) -> str | None:
    """What is in the way of a server's answer, None if nothing is."""
    try:
        return None if answers() else "not ready yet"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def check_alive(stack: Stack, processes: dict[str, subprocess.Popen]) -> None:
    """Raise a StackError when a process has ended, other than a feed whose source is used up."""
    for name, process in processes.items():
        if process.poll() is not None and (name, process.returncode) != ("feed", 0):
            raise StackError(f"{name} stopped with exit code {process.returncode}: see {_log(stack, name)}")


def stop(pids: list[int]) -> None:
    """End processes and all that they started; returns when they have ended.

    Those that started the others are asked, and after STOP_SECONDS what is left is killed. Airflow's scheduler would
    wait for its tasks, and they fail, or heed no signal, while the servers that they need go away. So a task is killed
    at once, behind the worker that would tell of it, and the next scheduler begins it anew.
    """
    given, started = [], []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            started += process.children(recursive=True)
            given.append(process)
    asked = [process for process in given if process not in started]
    for task in filter(_leads_a_group, started):
        with suppress(psutil.NoSuchProcess):
            _send(signal.SIGKILL, [task.parent(), task])
    _send(signal.SIGINT, asked)
    psutil.wait_procs(asked, timeout=STOP_SECONDS)
    _send(signal.SIGKILL, [*asked, *started])
    psutil.wait_procs(asked, timeout=5)


def _send(number: signal.Signals, processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _leads_a_group(process: psutil.Process) -> bool:
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid) == process.pid
    return False


@contextmanager
def running(stack: Stack) -> Iterator[dict[str, subprocess.Popen]]:
    """A started stack with its feed, stopped at the end whatever happens, SIGTERM and Ctrl-C included."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    processes = start(stack)
    try:
        # Until then, chunks would wait for Airflow's start, and the latency would be that of the start.
        _wait_until_up(stack, processes, "scheduler", "Airflow's first task", lambda: _runs_a_task(stack))
        start_feed(stack, processes)
        yield processes
    finally:
        print("Stopping ...", flush=True)
        stop([process.pid for process in processes.values()])


def _expected_chunks(stack: Stack) -> int:
    with open_source(stack.source) as file:
        rows = sum(1 for _ in file) - 1
    return -(-rows // stack.settings.feed_chunk_rows)


def _watch(stack: Stack, processes: dict[str, subprocess.Popen], expected: int) -> None:
    """Print progress until every chunk has been processed.

    Raises:
        StackError: when nothing moves for STALL_TIMEOUT_SECONDS.
    """
    before, moved_at = None, time.monotonic()
    while True:
        check_alive(stack, processes)
        now = summary.progress(stack.settings, stack.bucket)
        if now != before:
            before, moved_at = now, time.monotonic()
            _say(
                stack,
                f"chunks landed {now.landed:3d} of {expected}, "
                f"loaded {now.loaded:3d}   detections {now.detections:4d} in {now.files} files",
            )
        if now.loaded >= expected and now.finished:
            return
        if time.monotonic() > moved_at + STALL_TIMEOUT_SECONDS:
            raise StackError(
                f"Nothing has moved for {STALL_TIMEOUT_SECONDS} s: see the task logs in {stack.root / 'logs' / 'tasks'}"
            )
        time.sleep(1)


def demo(data: Path | None) -> int:
    """Run the feed and the pipeline until the source is used up; returns 0 only if everything is right."""
    root = LOCAL / "demo"
    source = find_source(data) if data else None
    if root.exists():
        print(f"This demo replaces the last one in {root}.", flush=True)
        shutil.rmtree(root)
    stack = new_stack(root, source)
    expected = _expected_chunks(stack)
    print(f"Starting an S3 server and Airflow; {expected} chunks to come. Logs: {root / 'logs'}", flush=True)
    with running(stack) as processes:
        print(f"Airflow: {stack.ui_url}  (user admin, password {stack.password})", flush=True)
        _watch(stack, processes, expected)
        durations = _durations(stack)
    problems = summary.problems(stack.settings, root / "s3" / stack.settings.bucket, expected)
    print(summary.report(stack.settings, root / "s3" / stack.settings.bucket, durations), flush=True)
    for problem in problems:
        print(f"WRONG: {problem}", flush=True)
    return 1 if problems else 0


def up(data: Path | None) -> int:
    """Start a stack that stays; returns the exit code."""
    root, state = LOCAL / "up", LOCAL / "up" / "processes.json"
    if state.exists():
        before = json.loads(state.read_text())
        left = _left(before)
        # The feed ends when its source is used up.
        if {process.pid for process in left} >= {pid for pid, _ in before["processes"]} - {before["feed"]}:
            print(f"It runs already: {before['says']}")
            return 0
        print("Not all of what was started before is running any more: starting anew.", flush=True)
        stop([process.pid for process in left])
        state.unlink()
    stack = new_stack(root, find_source(data) if data else None)
    print("Starting an S3 server and Airflow, which takes half a minute ...", flush=True)
    processes = start(stack)
    start_feed(stack, processes)
    says = (
        f"Airflow {stack.ui_url} (user admin, password {stack.password}); "
        f"S3 {stack.s3_url} (key {stack.access_key}, secret {stack.secret_key}), bucket {stack.settings.bucket}"
    )
    started = [(process.pid, psutil.Process(process.pid).create_time()) for process in processes.values()]
    state.touch(0o600)
    about = {"says": says, "booted_at": psutil.boot_time(), "processes": started, "feed": processes["feed"].pid}
    state.write_text(json.dumps(about))
    files = root / "s3" / stack.settings.bucket / stack.settings.output_prefix / "detections"
    print(f"{says}\nWhat it finds, and why: {stack.ui_url}/plugin/detections")
    print(f"Detection files: {files}\n  once there are any: tail -n 3 {files}/*")
    print(f"Warehouse: {stack.settings.warehouse}\n  open it with DuckDB; while it is open there, the stream waits")
    print(f"The stream is running. Logs: {root / 'logs'}. Stop it with: make down", flush=True)
    return 0


def down() -> int:
    """Stop the stack that ``up`` started; its data stays."""
    state = LOCAL / "up" / "processes.json"
    if not state.exists():
        print("It does not run.")
        return 0
    print("Stopping ...", flush=True)
    stop([process.pid for process in _left(json.loads(state.read_text()))])
    state.unlink()
    print(f"Stopped. Data stays in {LOCAL / 'up'}; delete that folder to begin anew.")
    return 0


def _left(state: dict) -> list[psutil.Process]:
    """What still runs of the processes that ``up`` started, with orphans of theirs, and nobody else's.

    Each was started as the leader of a session, which its children stay in when it is gone.
    """
    if abs(psutil.boot_time() - state["booted_at"]) > 60:
        return []
    sessions = {
        pid
        for pid, began_at in state["processes"]
        if not psutil.pid_exists(pid) or psutil.Process(pid).create_time() == began_at
    }
    left = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
    return left


def main(arguments: list[str]) -> int:
    """Command line of ``make demo``, ``make up`` and ``make down``."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["demo", "up", "down"])
    parser.add_argument("--data", type=Path, help="folder with transactions.csv(.gz), customer_importance.csv(.gz)")
    given = parser.parse_args(arguments)
    if given.command == "down":
        return down()
    isolate_this_process()
    Settings()
    return {"demo": demo, "up": up}[given.command](given.data)
