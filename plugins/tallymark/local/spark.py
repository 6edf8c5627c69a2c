"""Start a Spark Connect server with Delta on this machine."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tallymark.errors import UserError
from tallymark.local.isolation import isolated
from tallymark.settings import PROJECT_ROOT

# Where make installs Spark.
ENVIRONMENT = PROJECT_ROOT / ".venv" / "spark"
CONFIGURATION = PROJECT_ROOT / "deploy" / "spark"
JAVA = 17
HOW_TO_GET_JAVA = "On Debian and Ubuntu: apt-get install openjdk-17-jre-headless; on macOS: brew install openjdk@17"


class NoSparkError(UserError, RuntimeError):
    """Spark or Java is missing on this machine."""


def connect_server(root: Path, port: int, memory: str = "2g") -> list[str]:
    """Return the command of a server on loopback that keeps all its files in ``root``. Its first start downloads Delta.

    Args:
        memory: maximum heap size in Java's notation, such as ``2g``.

    Raises:
        NoSparkError: when Spark, or Java 17 or later, is not installed.
    """
    if not (home := _spark_home()):
        raise NoSparkError(f"Spark is not installed in {ENVIRONMENT}. Run make spark-demo, which installs it.")
    _check_java()
    root.mkdir(parents=True, exist_ok=True)
    settings = {
        "spark.jars.ivy": ENVIRONMENT / "ivy",
        "spark.local.dir": root / "tmp",
        "spark.sql.warehouse.dir": root / "tables",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": port,
        # The location of Hive's catalog, and of its database's log.
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={root / 'catalog'};create=true",
        "spark.driver.extraJavaOptions": f"-Dderby.stream.error.file={root / 'derby.log'}",
    }
    return [
        *(f"{home}/bin/spark-submit", "--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
        *("--master", "local[*]", "--driver-memory", memory),
        *(part for name, value in settings.items() for part in ("--conf", f"{name}={value}")),
        "spark-internal",
    ]


def server_environment() -> dict[str, str]:
    """Return the server's environment, without variables of other Spark installations."""
    kept = {name: value for name, value in isolated(os.environ).items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    # Without SPARK_HOME, spark-submit uses the Spark of the first Python on the path.
    return {
        **kept,
        "SPARK_HOME": str(_spark_home()),
        "SPARK_CONF_DIR": str(CONFIGURATION),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


def _spark_home() -> Path | None:
    return next(ENVIRONMENT.glob("lib/python3.*/site-packages/pyspark"), None)


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    try:
        output = subprocess.run([java or "java", "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        raise NoSparkError(f"Spark needs Java {JAVA} or later, but there is no Java. {HOW_TO_GET_JAVA}") from None
    version = re.search(r'version "(\d+)', output)
    if version and int(version[1]) < JAVA:
        raise NoSparkError(f"Spark needs Java {JAVA} or later, but {java} is Java {version[1]}. {HOW_TO_GET_JAVA}")
