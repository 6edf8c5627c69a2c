"""What every task needs, imported, read and used once in the process that tasks are forked from.

Airflow imports it because ``[scheduler] mp_forkserver_preload`` names it (airflow.env). It leaves no warehouse, no
connection and no thread open.
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
    """Read botocore's description of S3."""
    share_descriptions()
    BucketHook(aws_conn_id=None, region_name="us-east-1").get_conn().get_paginator("list_objects_v2")


def make_clients() -> None:
    """Make the clients that tasks inherit, unless the connection is to be read from Airflow's database."""
    connection = Settings().aws_conn_id
    if f"AIRFLOW_CONN_{connection.upper()}" in os.environ:
        BucketHook(connection).get_conn()
        ListingHook(connection).get_conn()


def parse_dags() -> None:
    """Import what the DAG files import, and what Airflow imports to read them."""
    folder = PROJECT_ROOT / "dags"
    BundleDagBag(str(folder), bundle_path=folder, bundle_name=folder.name, safe_mode=False, load_op_links=False)


@contextmanager
def no_logs() -> Iterator[None]:
    """Drop all log messages: operators would take the made-up chunk and its detection for real ones."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def send_nothing(settings: Settings, lines: list[str]) -> bool:
    """Takes the place of ``tallymark.on_airflow.notify.send``: an alert about the made-up chunk reaches nobody."""
    return True


@no_logs()
def process_a_chunk() -> None:
    """Run the pipeline once with a made-up chunk in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Settings()
        # Processes that are forked from this one could not share its connection to Spark.
        settings = settings.model_copy(update={"warehouse": root / settings.warehouse.name, "engine": "duckdb"})
        store = FolderStore(root)
        store.put(f"{settings.transactions_prefix}chunk_1.csv.gz", gzip.compress(CHUNK.encode()))
        store.put(f"{settings.customers_prefix}all.csv.gz", gzip.compress(IMPORTANCE.encode()))
        since = datetime.now(UTC)
        load_chunks(settings, store)
        build_models(settings)
        export_and_report(settings, store, send_nothing, since)


def warm_up() -> None:
    """Take each step that tasks would take again; tasks take one themselves that fails here."""
    for step in (read_descriptions, make_clients, parse_dags, process_a_chunk):
        try:
            step()
        except Exception:
            log.exception("Tasks work all the same, and are slower to start: %s failed", step.__name__)


try:
    is_on = Settings().speedups
except SettingsError:
    # Each task says so.
    is_on = False
if is_on:
    warm_up()
