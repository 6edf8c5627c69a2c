"""Servers that speak Spark Connect, and kills of a build that uses one."""

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


def sail(environment: Mapping[str, str] = os.environ) -> str:
    """Start Sail, an engine without Java, in a process of its own; returns what SPARK_REMOTE must be.

    It ends after this process: a client whose server is gone asks it for minutes to release the session. Its catalog is
    that of a session, so that all clients use the same one.
    """
    server = subprocess.Popen(
        [sys.executable, "-c", SAIL],
        env=environment,
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
    """A Spark Connect server with Delta, which keeps its files in a folder; gives what SPARK_REMOTE must be."""
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
            # A client whose server is gone asks it for minutes to release the session.
            if session := SparkSession.getActiveSession():
                session.stop()
            server.terminate()
            server.wait()


def die_before_statement(number: int, late: Path) -> None:
    """Let this process die before its next statement but so many on Spark, and leave that one in a file."""
    from dbt.adapters.spark.session import Cursor

    execute, left = Cursor.execute, itertools.count(-number)

    def dying(self: Cursor, sql: str, *parameters: object) -> None:
        if next(left) == 0:
            late.write_text(sql)
            os.kill(os.getpid(), signal.SIGKILL)
        execute(self, sql, *parameters)

    Cursor.execute = dying


def run(data: Path, out: Path, vars: dict, number: int, late: Path, environment: dict[str, str]) -> None:
    """Replay what is left, and die before the statement with this number, if there are so many."""
    os.environ.update(environment)
    die_before_statement(number, late)
    replay(data, out, vars=vars)


def watch(patched: pytest.MonkeyPatch, look: Callable[[str], object]) -> None:
    """Let a function look at each statement before dbt sends it to Spark."""
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
    """Run what a client sent that was killed; errors are the server's answer to nobody."""
    from pyspark.errors import PySparkException

    with suppress(PySparkException):
        sql(statement)
