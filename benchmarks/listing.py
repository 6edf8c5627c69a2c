"""What one poke of the sensor costs with 100,000 processed chunks in the bucket, counted at the server."""

import json
import logging
import os
import time
from datetime import UTC, datetime

import boto3
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from tallymark.settings import PROJECT_ROOT
from tallymark.warehouse.ledger_index import LedgerIndex

from benchmarks.common import Measured, Options, fresh, settings_of, timed


class _Requests(logging.Handler):
    """Listings that the server answered, from its own log."""

    def __init__(self):
        super().__init__()
        self.listings = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.listings += "list-type=2" in record.getMessage()


def measure(options: Options) -> Measured:
    count = 20_000 if options.quick else 100_000
    root = fresh("listing")
    settings = settings_of(root)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    _, port = server.get_host_and_port()
    os.environ["AIRFLOW_HOME"] = str(root / "airflow")
    os.environ["TALLYMARK_WAREHOUSE"] = str(settings.warehouse)
    connection = {
        "conn_type": "aws",
        "login": "testing",
        "password": "testing",
        "extra": {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"},
    }
    os.environ[f"AIRFLOW_CONN_{settings.aws_conn_id.upper()}"] = json.dumps(connection)
    requests = _Requests()
    logger = logging.getLogger("werkzeug")
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [requests], False
    try:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        client.create_bucket(Bucket=settings.bucket)
        backend = next(iter(s3_backends.values()))["aws"]
        seen = []
        for number in range(1, count + 1):
            key = f"{settings.transactions_prefix}chunk_{number}"
            etag = backend.put_object(settings.bucket, key, b"x").etag.strip('"')
            seen.append((key, etag))
        settings.warehouse.touch()
        LedgerIndex(settings.warehouse, settings.limits).create(seen, taken_at=time.time())
        LedgerIndex(settings.warehouse, settings.limits).confirm()
        poke = _sensor()
        context = {"ti": None, "run_id": "bench", "logical_date": datetime.now(UTC)}
        found = Measured()

        def measured(name: str, is_there_work: bool) -> None:
            before = requests.listings
            seconds = timed(lambda: _must_be(poke(context), is_there_work))
            found.figures[f"listing_{name}_calls"] = (requests.listings - before, "LIST calls")
            found.figures[f"listing_{name}"] = (seconds, "s")

        measured("first_poke", False)
        measured("poke", False)
        found.figures["listing_calls"] = found.figures.pop("listing_poke_calls")
        backend.put_object(settings.bucket, f"{settings.transactions_prefix}chunk_{count + 1}", b"y")
        measured("new_chunk", True)
    finally:
        server.stop()
    found.figures["listing_chunks"] = (count, "chunks")
    found.notes.append("The server is moto, which keeps all in memory; seconds say more of it than of S3.")
    return found


def _must_be(said: object, expected: bool) -> None:
    if bool(said) != expected:
        raise RuntimeError(f"the sensor said {said!r}")


def _sensor():
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(PROJECT_ROOT / "dags" / "detect_patterns.py"))
    return bag.dags["detect_patterns"].get_task("wait_for_chunk").poke
