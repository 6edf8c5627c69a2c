"""Whether a part of Airflow does its work, as the API server knows: ``python -m tallymark health scheduler``.

Docker asks again and again, so it imports next to nothing.
"""

import json
import urllib.request

URL = "http://api-server:8080/api/v2/monitor/health"


def main(arguments: list[str]) -> int:
    """Exit code 0 if a part's last heartbeat is recent: metadatabase, scheduler, dag_processor or triggerer."""
    with urllib.request.urlopen(URL, timeout=10) as answer:
        found = json.load(answer)[arguments[0]]
    print(found)
    return 0 if found["status"] == "healthy" else 1
