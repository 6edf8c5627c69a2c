"""Spark Connect servers for tests, and helpers that kill builds on them."""

import itertools
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.waiting import wait_for
from tallymark.local.processes import listens
from tallymark.local.replay import replay
from tallymark.local.spark import connect_server, server_environment
from tallymark.local.stack import reserve_port

SERVERS: list[subprocess.Popen] = []
SAIL = """
from pysail.spark import SparkConnectServer

server = SparkConnectServer(ip="127.0.0.1", port=0)
server.start(background=True)
print(server.listening_address[1], flush=True)
input()
"""


def sail(environment: Mapping[str, str]) -> str:
    """Start Sail, an engine without Java, in its own process, and return the value for SPARK_REMOTE.

    It ends after this process, because a client spends minutes trying to release its session if the server is gone. All
    clients use the same session, because Sail has one catalog per session.

    Args:
        environment: variables in addition to those of this process.
    """
    server = subprocess.Popen(
        [sys.executable, "-c", SAIL],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    SERVERS.append(server)
    assert server.stdout is not None
    return f"sc://127.0.0.1:{server.stdout.readline().strip()}/;session_id={uuid.uuid4()}"


@contextmanager
def apache_spark(root: Path, memory: str = "4g") -> Iterator[str]:
    """Run a Spark Connect server with Delta that keeps its files in a folder, and yield the value for SPARK_REMOTE."""
    from pyspark.sql import SparkSession

    with reserve_port() as reserved, (root / "server.log").open("wb") as log:
        port = reserved.getsockname()[1]
        server = subprocess.Popen(
            connect_server(root, port, memory), env=server_environment(), cwd=root, stdout=log, stderr=log
        )
        try:
            wait_for(lambda: server.poll() is not None or listens(server, port), f"Spark: see {root / 'server.log'}")
            assert server.poll() is None, (root / "server.log").read_text()[-2000:]
            yield f"sc://127.0.0.1:{port}"
        finally:
            # A client spends minutes trying to release its session if the server is gone.
            if session := SparkSession.getActiveSession():
                session.stop()
            server.terminate()
            server.wait()


def die_before_statement(number: int, late: Path) -> None:
    """Make this process die before a statement on Spark, and write that statement to a file.

    Args:
        number: number of statements that run before it.
        late: the file.
    """
    from dbt.adapters.spark.session import Cursor

    execute, left = Cursor.execute, itertools.count(-number)

    def dying(self: Cursor, sql: str, *parameters: object) -> None:
        if next(left) == 0:
            late.write_text(sql)
            os.kill(os.getpid(), signal.SIGKILL)
        execute(self, sql, *parameters)

    Cursor.execute = dying


def run(data: Path, out: Path, vars: dict, number: int, late: Path, environment: dict[str, str]) -> None:
    """Replay the remaining chunks, and die after ``number`` statements on Spark, if there are more."""
    os.environ.update(environment)
    die_before_statement(number, late)
    replay(data, out, vars=vars)


def watch(patched: pytest.MonkeyPatch, look: Callable[[str], object]) -> None:
    """Call a function with each statement before dbt sends it to Spark."""
    from dbt.adapters.spark.session import Cursor

    execute = Cursor.execute

    def watched(self: Cursor, sql: str, *parameters: object) -> None:
        look(sql)
        execute(self, sql, *parameters)

    patched.setattr(Cursor, "execute", watched)


def sql(statement: str) -> None:
    """Run a statement in the session of this process."""
    from pyspark.sql import SparkSession

    SparkSession.builder.getOrCreate().sql(statement).collect()


def run_late(statement: str) -> None:
    """Run a statement that a killed client had sent. Errors are ignored, because no client receives them."""
    from pyspark.errors import PySparkException

    with suppress(PySparkException):
        sql(statement)
