"""How dbt logs on to the engine, where Airflow keeps that in a connection."""

import os

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from tallymark.settings import Settings


def use_connection(settings: Settings) -> None:
    """Give this process the variables of dbt_project/profiles.yml for Databricks, from the connection if it exists.

    Its host and the ``http_path`` in its extra lead to a SQL warehouse or a cluster. Its password is a token; with a
    login, it is the secret of the service principal with that client ID.
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
