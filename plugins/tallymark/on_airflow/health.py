"""Health checks of Airflow's parts, from the API server. Docker runs one every few seconds, so this imports little."""

import json
import os
import urllib.request
from http.client import HTTPException

URL = "http://api-server:8080/api/v2/monitor/health"
HEALTHY = 0
# Python also exits with 1 on any other error.
NOT_ITS_FAULT = 1
ITS_FAULT = 2


def check(part: str) -> int:
    """Print the health of a part of Airflow.

    Args:
        part: ``scheduler``, ``dag_processor``, ``triggerer``, or ``metadatabase`` for the API server itself.

    Returns:
        HEALTHY, NOT_ITS_FAULT, or ITS_FAULT if restarting the part may help.
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
    """Return whether PostgreSQL accepts a new connection within 4 seconds."""
    import psycopg2

    url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    try:
        psycopg2.connect(url, connect_timeout=4).close()
    except psycopg2.OperationalError:
        return False
    return True
