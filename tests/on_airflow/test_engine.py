"""The engine's credentials from an Airflow connection."""

import json
import os

from tallymark.on_airflow.engine import use_connection
from tallymark.settings import Settings

CONNECTION = {"conn_type": "databricks", "host": "dbc.example.com", "password": "s3cret"}


def log_on(monkeypatch, engine: str, connection: dict | None) -> dict[str, str]:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    if connection:
        os.environ["AIRFLOW_CONN_DATABRICKS_DEFAULT"] = json.dumps(connection)
    use_connection(Settings(engine=engine))
    return {name: value for name, value in os.environ.items() if name.startswith("DATABRICKS_")}


def test_token_sets_variables(monkeypatch):
    connection = CONNECTION | {"extra": {"http_path": "/sql/1.0/warehouses/1"}}
    assert log_on(monkeypatch, "databricks", connection) == {
        "DATABRICKS_HOST": "dbc.example.com",
        "DATABRICKS_HTTP_PATH": "/sql/1.0/warehouses/1",
        "DATABRICKS_TOKEN": "s3cret",
    }


def test_service_principal_sets_variables(monkeypatch):
    assert log_on(monkeypatch, "databricks", CONNECTION | {"login": "client"}) == {
        "DATABRICKS_HOST": "dbc.example.com",
        "DATABRICKS_CLIENT_ID": "client",
        "DATABRICKS_CLIENT_SECRET": "s3cret",
    }


def test_no_variables_without_connection_or_databricks(monkeypatch):
    assert log_on(monkeypatch, "databricks", None) == {}
    assert log_on(monkeypatch, "duckdb", CONNECTION) == {}
