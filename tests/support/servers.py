"""Real servers for tests, each on a free port and with its own folder."""

import email
import email.policy
import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
from aiosmtpd.controller import Controller
from botocore.config import Config

START_SECONDS = 600


@dataclass
class Served:
    """A running S3 server: its port and credentials."""

    port: int
    key: str = field(repr=False)
    secret: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str = "s3", url: str | None = None, config: Config | None = None):
        """Return a boto3 client for this server, or for a proxy in front of it."""
        names = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret, "region_name": "us-east-1"}
        return boto3.client(service, endpoint_url=url or self.url, config=config, **names)


@contextmanager
def rclone(folder: Path) -> Iterator[Served]:
    """Run rclone as an S3 server, which ignores conditional headers; each folder in ``folder`` is a bucket."""
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    arguments = ["--config", "/dev/null", "serve", "s3", "--addr", "127.0.0.1:0", "--dir-cache-time", "1s"]
    with _running([_script("rclone"), *arguments, "--auth-key", f"{key},{secret}", str(folder)], folder) as port:
        yield Served(port, key, secret)


@contextmanager
def moto(folder: Path) -> Iterator[Served]:
    """Run moto, which imitates S3 and IAM in memory; its log is next to ``folder``."""
    with _running([_script("moto_server"), "-H", "127.0.0.1", "-p", "0"], folder) as port:
        yield Served(port, "root", "root")


def _script(name: str) -> str:
    return str(Path(sys.executable).parent / name)


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[int]:
    """Start a server that logs the port it listens on, and yield the port."""
    log = folder.with_name(f"{folder.name}.log")
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{command[0]} did not start: {log.read_text()}"
            time.sleep(0.05)
        yield int(found[1])
    finally:
        server.terminate()
        server.wait(START_SECONDS)


class SmtpServer(Controller):
    """An SMTP server in a thread, on a free port. ``port`` is set when it starts."""

    def __init__(self, handler):
        super().__init__(handler, hostname="127.0.0.1", port=0, ready_timeout=START_SECONDS)

    @property
    def connection(self) -> str:
        """An Airflow connection to this server, as the value of an ``AIRFLOW_CONN_...`` variable."""
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "tallymark@example.com"}
        return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": self.port, "extra": extra})

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Mailbox:
    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"

    def texts(self) -> list[str]:
        """Return the text of each mail received since the last call."""
        mails, self.mails = self.mails, []
        return [mail.get_body().get_content().strip() for mail in mails]
