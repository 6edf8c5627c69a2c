"""The preload's synthetic chunk leaves no trace in logs and alerts."""

import os
import subprocess
import sys

import pytest
from support.servers import Mailbox, SmtpServer
from tallymark.settings import PROJECT_ROOT

PRELOAD = """
import logging
import airflow.sdk
from tallymark.speedups import preload
logging.getLogger("tallymark").info("LOGS AGAIN")
"""


@pytest.mark.system
@pytest.mark.parametrize("max_object_bytes", [pytest.param("1000000", id="accepted"), pytest.param("1", id="rejected")])
def test_synthetic_chunk_is_not_shown(tmp_path, max_object_bytes):
    server = SmtpServer(Mailbox())
    server.start()
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW_CONN_SMTP_DEFAULT": server.connection,
        "PYTHONPATH": str(PROJECT_ROOT / "plugins"),
        "TALLYMARK_WAREHOUSE": str(tmp_path / "warehouse.duckdb"),
        "TALLYMARK_ALERT_EMAIL": "analyst@example.com",
        "TALLYMARK_MAX_OBJECT_BYTES": max_object_bytes,
    }
    command = [sys.executable, "-c", PRELOAD]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    server.stop()
    output = done.stdout + done.stderr
    assert "Filling up the DagBag" in output
    assert "LOGS AGAIN" in output
    for word in ("Traceback", "chunk_1", "detections-0", "manifest", "rows", "CHILD", "C1", "M1", "ALERT"):
        assert word not in output
    assert server.handler.mails == []
