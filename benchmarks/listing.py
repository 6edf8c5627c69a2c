"""How many LIST calls does it take to find new chunks in a large bucket?

The sensor of `detect_patterns` pokes a bucket with 100,000 processed chunks, and the server counts the LIST calls. The
server is moto, which keeps all objects in memory, so the times say little about S3.
"""

import json
import logging
import os
import time
from datetime import UTC, datetime
from logging.handlers import BufferingHandler
from pathlib import Path

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from tallymark.settings import PROJECT_ROOT
from tallymark.warehouse.ledger_index import LedgerIndex

from benchmarks import common

ANSWER = "A poke of the sensor makes {listing_calls}; the first poke after a start makes {listing_first_poke_calls}."
table = common.target_table(
    ("poke that finds nothing", "listing_calls", 2),
    ("poke that finds a new chunk", "listing_new_chunk_calls", 2),
    ("time of a poke that finds nothing", "listing_poke"),
    ("time of the first poke, which lists everything", "listing_first_poke"),
)


def measure(data: Path, quick: bool) -> dict:
    count = 20_000 if quick else 100_000
    root = common.fresh("listing")
    settings = common.settings_of(root)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    extra = {"endpoint_url": "http://{}:{}".format(*server.get_host_and_port()), "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    os.environ |= {
        "AIRFLOW_HOME": str(root / "airflow"),
        "TALLYMARK_WAREHOUSE": str(settings.warehouse),
        f"AIRFLOW_CONN_{settings.aws_conn_id.upper()}": json.dumps(connection),
    }
    log, requests = logging.getLogger("werkzeug"), BufferingHandler(10**6)
    log.setLevel(logging.INFO)
    log.handlers, log.propagate = [requests], False
    bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    bucket.create_bucket(settings.bucket, "us-east-1")
    keys = [f"{settings.transactions_prefix}chunk_{number}" for number in range(1, count + 1)]
    etags = [bucket.put_object(settings.bucket, key, b"x").etag.strip('"') for key in keys]
    settings.warehouse.touch()
    LedgerIndex(settings.warehouse, settings.limits).create(zip(keys, etags, strict=True), taken_at=time.time())
    LedgerIndex(settings.warehouse, settings.limits).confirm()
    from airflow.dag_processing.dagbag import DagBag  # reads the environment

    dags = DagBag(str(PROJECT_ROOT / "dags" / "detect_patterns.py")).dags
    sensor, figures = dags["detect_patterns"].get_task("wait_for_chunk"), {}

    def poke(name: str, calls: str, finds: bool) -> None:
        requests.buffer.clear()
        start = time.perf_counter()
        returned = sensor.poke({"ti": None, "run_id": "bench", "logical_date": datetime.now(UTC)})
        figures[name] = (time.perf_counter() - start, "s")
        if bool(returned) != finds:
            raise RuntimeError(f"The sensor returned {returned!r} instead of {finds}.")
        figures[calls] = (sum("list-type=2" in request.getMessage() for request in requests.buffer), "LIST calls")

    poke("listing_first_poke", "listing_first_poke_calls", finds=False)
    poke("listing_poke", "listing_calls", finds=False)
    bucket.put_object(settings.bucket, f"{settings.transactions_prefix}chunk_{count + 1}", b"y")
    poke("listing_new_chunk", "listing_new_chunk_calls", finds=True)
    server.stop()
    return {"figures": figures}
