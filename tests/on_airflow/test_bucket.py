"""S3 clients are created once per connection, in the process that tasks are forked from."""

import json
import os
import subprocess
import sys

import pytest
from tallymark.settings import PROJECT_ROOT, Settings

KEYS = {"conn_type": "aws", "login": "key", "password": "a secret", "extra": {"region_name": "us-east-1"}}
LOADED = """
from tallymark.on_airflow import bucket
from tallymark.settings import Settings
from tallymark.speedups import preload, s3
made = list(s3._clients.values())
print("MADE", len(made), bucket.open_bucket(Settings()).client in made)
"""


@pytest.fixture
def client(monkeypatch):
    """Return a function that returns the client of a hook for a connection."""
    from tallymark.on_airflow import bucket
    from tallymark.speedups import s3

    monkeypatch.setattr(s3, "_clients", {})

    def of(connection: dict, hook: str = "BucketHook"):
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        return getattr(bucket, hook)("aws_default").get_conn()

    return of


def test_connection_with_keys_has_one_client(client):
    first = client(KEYS)
    assert client(KEYS) is first
    assert first.meta.config.read_timeout == 20


def test_hooks_share_no_client_without_speedups(client, monkeypatch):
    monkeypatch.setenv("TALLYMARK_SPEEDUPS", "false")
    assert client(KEYS) is not client(KEYS)


@pytest.mark.parametrize(
    "changed", [{"login": "other"}, {"password": "another secret"}, {"extra": {"region_name": "eu-west-1"}}]
)
def test_changed_connection_gets_new_client(client, changed):
    assert client(KEYS) is not client(KEYS | changed)


def test_sensor_client_has_shorter_timeouts(client):
    assert client(KEYS) is not client(KEYS, "ListingHook")
    assert client(KEYS, "ListingHook").meta.config.read_timeout == 10


def test_connection_config_takes_precedence(client):
    assert client(KEYS).meta.config.request_checksum_calculation == "when_required"
    assert client(KEYS).meta.config.response_checksum_validation == "when_required"
    more = {"request_checksum_calculation": "when_supported", "s3": {"addressing_style": "virtual"}, "read_timeout": 7}
    config = client(KEYS | {"extra": {"region_name": "us-east-1", "config_kwargs": more}}).meta.config
    assert (config.request_checksum_calculation, config.read_timeout) == ("when_supported", 7)
    assert config.s3["addressing_style"] == "virtual"
    assert (config.response_checksum_validation, config.connect_timeout) == ("when_required", 5)


def test_open_bucket_uses_settings(client):
    from tallymark.on_airflow.bucket import has_connection, open_bucket

    client(KEYS)
    settings = Settings(bucket="mine", server_side_encryption="aws:kms", kms_key_id="key", requester_pays=True)
    store = open_bucket(settings)
    assert (store.bucket, store.aws_conn_id) == ("mine", "aws_default")
    assert (store.server_side_encryption, store.kms_key_id, store.requester_pays) == ("aws:kms", "key", True)
    assert has_connection(settings)
    assert not has_connection(Settings(aws_conn_id="nobody"))


@pytest.mark.parametrize("extra", [{}, {"role_arn": "arn:aws:iam::123456789012:role/reader"}])
def test_temporary_keys_are_looked_up_each_time(client, monkeypatch, extra):
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    monkeypatch.setattr(AwsGenericHook, "get_client_type", lambda *_, **__: object())
    connection = {"conn_type": "aws", "extra": extra} | ({"login": "key", "password": "a secret"} if extra else {})
    assert client(connection) is not client(connection)


@pytest.mark.system
@pytest.mark.parametrize(("connection", "line"), [(KEYS, "MADE 2 True"), (None, "MADE 0 False")])
def test_tasks_inherit_clients_of_environment_connection(tmp_path, connection, line):
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
        "TALLYMARK_WAREHOUSE": str(tmp_path / "warehouse.duckdb"),
    }
    environment |= {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection)} if connection else {}
    done = subprocess.run([sys.executable, "-c", LOADED], env=environment, capture_output=True, text=True, timeout=600)
    assert line in done.stdout.splitlines(), done.stderr
