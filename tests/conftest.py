"""Fixtures shared by several tests. Shared helpers are in support/."""

import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from botocore.retries.standard import ExponentialBackoff
from dbt_common.behavior_flags import BehaviorFlagRendered
from support import servers
from support.bucket import Bucket, names
from support.faulty_s3 import faulty_s3
from support.four_chunks import VARS
from support.loading import DenyingStore
from support.site import NO_RUNS
from tallymark.local import stack as local_stack
from tallymark.publish import snapshot
from tallymark.settings import PROJECT_ROOT
from tallymark.store.s3 import S3_CONFIG, S3Store
from tenacity import wait_none

# Airflow writes its configuration here when a test imports it.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow"))

# In each call, dbt searches all imported modules for the origin of a warning that nobody sees: 0.15 s in tests.
BehaviorFlagRendered._default_source = staticmethod(lambda: "dbt")

# 0 means any free port: two stacks that start at the same time would both find the default port free.
local_stack.UI_PORT = 0

# Long timeouts where success is expected: the machine may be busy.
local_stack.START_TIMEOUT_SECONDS = 600
snapshot.PUT_SECONDS = 600


@pytest.fixture(scope="session")
def processes(tmp_path_factory):
    """A multiprocessing context whose processes have already imported and parsed everything, like Airflow's tasks."""
    paths = os.pathsep.join(str(PROJECT_ROOT / folder) for folder in ("plugins", "tests"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tallymark.speedups.preload", "support.crash"])
    warehouse = tmp_path_factory.mktemp("parsed") / "warehouse.duckdb"
    variables = {"TALLYMARK_VARS": json.dumps(VARS), "TALLYMARK_WAREHOUSE": str(warehouse)}
    with patch.dict(os.environ, variables, PYTHONPATH=paths):
        first = context.Process(target=int)
        first.start()
        first.join()
    return context


@pytest.fixture(scope="session")
def banksim() -> Path:
    """The folder with the BankSim data set, which is not part of the repository."""
    folder = Path(os.environ.get("TALLYMARK_BANKSIM", PROJECT_ROOT.parent / "shared" / "data"))
    if not (folder / "transactions.csv.gz").is_file():
        pytest.skip("BankSim was not found. Set TALLYMARK_BANKSIM to a folder with its transactions.csv.gz")
    return folder


@pytest.fixture
def brief_pauses(monkeypatch) -> None:
    """Make boto3's pauses before a retry last hundredths of a second."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.02)
    for call in (S3Store._download, S3Store._put_unless_there):
        monkeypatch.setattr(call.retry, "wait", wait_none())


@pytest.fixture(scope="session")
def moto(tmp_path_factory) -> Iterator[servers.Served]:
    with servers.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def bucket(moto, brief_pauses) -> Iterator[Bucket]:
    """An empty bucket behind a proxy."""
    name = next(names)
    moto.client().create_bucket(Bucket=name)
    with faulty_s3(moto.port) as proxy:
        client = moto.client(url=proxy.url, config=S3_CONFIG)
        yield Bucket(S3Store(moto.client(), name), S3Store(client, name, "my_s3"), proxy)


@pytest.fixture
def denying(tmp_path) -> DenyingStore:
    """A folder store that denies objects as S3 does, according to its ``codes``."""
    bucket = DenyingStore(tmp_path)
    bucket.codes = {}
    return bucket


@pytest.fixture(scope="module")
def page():
    """The module of the page's app."""
    with pytest.MonkeyPatch.context() as patched:
        from tallymark.page import app, runs

        patched.setattr(runs, "last_runs", lambda: NO_RUNS)
        yield app
