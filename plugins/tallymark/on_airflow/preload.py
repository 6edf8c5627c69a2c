"""What every task needs, imported, read and used once in the process that tasks are forked from.

Named in Airflow's ``[core] mp_forkserver_preload``; docs/decisions/quick-tasks.md says what each part saves. It leaves
no warehouse, no connection and no thread open.
"""

import gc
import gzip
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import botocore.session
from airflow.dag_processing.dagbag import BundleDagBag

from tallymark.on_airflow.bucket import BucketHook, ListingHook
from tallymark.pipeline.build import build_models
from tallymark.pipeline.load import load_chunks
from tallymark.publish.report import export_and_report
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.invoke_dbt import parse

CHUNK = "customer,merchant,gender,amount\n" + "'C1','M1','F',1.50\n" * 100
IMPORTANCE = "source,target,weight\n'C1','M1',1.50\n"


def keep_what_botocore_reads() -> None:
    """Share botocore's descriptions of services among sessions; each would read them again."""
    botocore.session.create_loader = cache(botocore.session.create_loader)
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
        settings = settings.model_copy(update={"warehouse": root / settings.warehouse.name})
        store = FolderStore(root)
        store.put(f"{settings.transactions_prefix}chunk_1.csv.gz", gzip.compress(CHUNK.encode()))
        store.put(f"{settings.customers_prefix}all.csv.gz", gzip.compress(IMPORTANCE.encode()))
        since = datetime.now(UTC)
        load_chunks(settings, store)
        build_models(settings)
        export_and_report(settings, store, send_nothing, since)


try:
    keep_what_botocore_reads()
    make_clients()
    parse_dags()
    parse(Settings())
    process_a_chunk()
    # The garbage collector of a task need not look through what it inherits, nor write to that memory.
    gc.collect()
    gc.freeze()
except Exception:
    logging.getLogger(__name__).exception("Tasks work all the same, and are slower to start")
