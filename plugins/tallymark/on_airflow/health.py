"""Whether a part of Airflow works, as the API server knows. Docker asks every few seconds, so this imports little."""

import json
import os
import urllib.request
from http.client import HTTPException

URL = "http://api-server:8080/api/v2/monitor/health"
HEALTHY = 0
# Also the exit code of any other error.
NOT_ITS_FAULT = 1
ITS_FAULT = 2


def check(part: str) -> int:
    """Print the health of a part; returns HEALTHY, NOT_ITS_FAULT, or ITS_FAULT when a restart of the part may help.

    Parts are ``scheduler``, ``dag_processor``, ``triggerer``, and ``metadatabase`` for the API server itself.
    """
    is_api_server = part == "metadatabase"
    try:
        with urllib.request.urlopen(URL, timeout=8) as answer:
            found = json.load(answer)
    except (OSError, HTTPException, ValueError) as error:
        print(f"The API server does not answer: {error}")
        return ITS_FAULT if is_api_server and database_answers() else NOT_ITS_FAULT
    print(found[part])
    if found[part]["status"] == "healthy":
        return HEALTHY
    return NOT_ITS_FAULT if is_api_server or found["metadatabase"]["status"] != "healthy" else ITS_FAULT


def database_answers() -> bool:
    """Whether PostgreSQL answers a new connection within seconds."""
    import psycopg2

    url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    try:
        psycopg2.connect(url, connect_timeout=4).close()
    except psycopg2.OperationalError:
        return False
    return True
