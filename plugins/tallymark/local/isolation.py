"""Remove the variables of other installations from the environment: docs/decisions/local-stack.md."""

import os
import re
from collections.abc import Mapping

LOOPBACK = ("127.0.0.1", "localhost")

# Variables of other installations of Airflow, dbt, rclone and Python, of AWS accounts, and the options that make passes
# to a command. Connections stay, because alerts need them. SOCKS proxies are dropped, because no client here supports
# them, and httpx fails if one is set.
FOREIGN = re.compile("_?AIRFLOW_(?!CONN_|VAR_)|AWS_|BOTO|DBT_|MAKE_|OTEL_|PYTHON|RCLONE_|(?i:[a-z]+_proxy=socks)")


def isolated(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without ``FOREIGN`` variables and AWS files, and with loopback exempt from proxies."""
    kept = {name: value for name, value in environment.items() if not FOREIGN.match(f"{name}={value}")}
    exempt = {host.strip() for name in ("NO_PROXY", "no_proxy") for host in kept.get(name, "").split(",")}
    # A star in a list with other hosts has no effect.
    no_proxy = "*" if "*" in exempt else ",".join(sorted(filter(None, exempt.union(LOOPBACK))))
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    return {**kept, **files, "NO_PROXY": no_proxy, "no_proxy": no_proxy}


def isolate_this_process() -> None:
    """Isolate the environment of this process, because urllib uses its proxies and boto3 its ``AWS_*``."""
    kept = isolated(os.environ)
    os.environ.clear()
    os.environ.update(kept)
