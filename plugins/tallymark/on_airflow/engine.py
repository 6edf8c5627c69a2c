"""Credentials for the engine, from an Airflow connection."""

import os

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from tallymark.settings import Settings


def use_connection(settings: Settings) -> None:
    """Set the environment variables of dbt_project/profiles.yml for Databricks, if the connection exists.

    The connection's host and the ``http_path`` in its extra identify a SQL warehouse or a cluster. Without a login, the
    password is a token. With a login, the login is the client ID of a service principal, and the password its secret.
    """
    if settings.engine != "databricks":
        return
    try:
        connection = BaseHook.get_connection(settings.databricks_conn_id)
    except AirflowNotFoundException:
        return
    secret = {"CLIENT_ID": connection.login, "CLIENT_SECRET" if connection.login else "TOKEN": connection.password}
    found = {"HOST": connection.host, "HTTP_PATH": connection.extra_dejson.get("http_path"), **secret}
    os.environ.update({f"DATABRICKS_{name}": value for name, value in found.items() if value})
