"""An environment without the variables of other installations: docs/decisions/local-stack.md."""

import os
import re
from collections.abc import Mapping

LOOPBACK = ("127.0.0.1", "localhost")

# Variables of another installation of Airflow, dbt, rclone or Python, or of an AWS account, and the options that make
# passes to a command. Connections stay, because alerts need them. No client in here can use a SOCKS proxy, and httpx
# fails if there is one.
FOREIGN = re.compile("_?AIRFLOW_(?!CONN_|VAR_)|AWS_|BOTO|DBT_|MAKE_|OTEL_|PYTHON|RCLONE_|(?i:[a-z]+_proxy=socks)")


def isolated(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without ``FOREIGN`` variables and AWS files, in which no proxy is asked for loopback."""
    kept = {name: value for name, value in environment.items() if not FOREIGN.match(f"{name}={value}")}
    exempt = {host.strip() for name in ("NO_PROXY", "no_proxy") for host in kept.get(name, "").split(",")}
    # A list with a star among other hosts would exempt only these.
    no_proxy = "*" if "*" in exempt else ",".join(sorted(filter(None, exempt.union(LOOPBACK))))
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    return {**kept, **files, "NO_PROXY": no_proxy, "no_proxy": no_proxy}


def isolate_this_process() -> None:
    """Give this process an isolated environment: urllib asks proxies, and boto3 reads ``AWS_*``."""
    kept = isolated(os.environ)
    os.environ.clear()
    os.environ.update(kept)
