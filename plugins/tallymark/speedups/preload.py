"""Preloads everything that tasks need into the process that they are forked from.

Airflow imports this module because airflow.env lists it in ``[scheduler] mp_forkserver_preload``. It leaves no
warehouse, connection or thread open.
"""

import gzip
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from airflow.dag_processing.dagbag import BundleDagBag

from tallymark.on_airflow.bucket import BucketHook, ListingHook
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_and_report
from tallymark.pipeline.load import load_chunks
from tallymark.settings import PROJECT_ROOT, Settings, SettingsError
from tallymark.speedups.s3 import share_descriptions
from tallymark.store.folder import FolderStore

log = logging.getLogger(__name__)

CHUNK = "customer,merchant,gender,amount\n" + "'C1','M1','F',1.50\n" * 100
IMPORTANCE = "source,target,weight\n'C1','M1',1.50\n"


def read_descriptions() -> None:
    """Load botocore's description of the S3 API."""
    share_descriptions()
    BucketHook(aws_conn_id=None, region_name="us-east-1").get_conn().get_paginator("list_objects_v2")


def make_clients() -> None:
    """Create the S3 clients that tasks inherit, if the connection is in the environment.

    Connections in Airflow's database are left to the tasks.
    """
    connection = Settings().aws_conn_id
    if f"AIRFLOW_CONN_{connection.upper()}" in os.environ:
        BucketHook(connection).get_conn()
        ListingHook(connection).get_conn()


def parse_dags() -> None:
    """Parse the DAG files, to import everything that they and their parsing need."""
    folder = PROJECT_ROOT / "dags"
    BundleDagBag(str(folder), bundle_path=folder, bundle_name=folder.name, safe_mode=False, load_op_links=False)


@contextmanager
def no_logs() -> Iterator[None]:
    """Drop all log messages, so that operators do not mistake the synthetic chunk and its detection for real ones."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def send_nothing(settings: Settings, lines: list[str]) -> bool:
    """Replace ``tallymark.on_airflow.notify.send``, so that nobody gets an alert about the synthetic chunk."""
    return True


@no_logs()
def process_a_chunk() -> None:
    """Run the pipeline once with a synthetic chunk in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Settings()
        # DuckDB, because forked processes cannot share a connection to Spark.
        settings = settings.model_copy(update={"warehouse": root / settings.warehouse.name, "engine": "duckdb"})
        store = FolderStore(root)
        store.put(f"{settings.transactions_prefix}chunk_1.csv.gz", gzip.compress(CHUNK.encode()))
        store.put(f"{settings.customers_prefix}all.csv.gz", gzip.compress(IMPORTANCE.encode()))
        since = datetime.now(UTC)
        load_chunks(settings, store)
        build_models(settings)
        export_and_report(settings, store, send_nothing, since)


def warm_up() -> None:
    """Run each step whose results tasks inherit. If a step fails here, every task runs it itself."""
    for step in (read_descriptions, make_clients, parse_dags, process_a_chunk):
        try:
            step()
        except Exception:
            log.exception("%s failed. Tasks still work, but start more slowly.", step.__name__)


try:
    is_on = Settings().speedups
except SettingsError:
    # Each task reports the error.
    is_on = False
if is_on:
    warm_up()
