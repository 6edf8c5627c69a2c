"""Alerts: sent once when a condition begins and once when it ends, to a real SMTP server and a Slack webhook."""

import http.server
import json
import logging
import re
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import airflow.sdk  # noqa: F401  configures logging, which must happen before a test reads logs
import pytest
from support.many_detections import make_warehouse
from support.oracle import Row
from support.servers import Mailbox, SmtpServer
from support.streams import csv_text, write_chunk
from tallymark.local.replay import replay
from tallymark.on_airflow.notify import send
from tallymark.pipeline.export import export_and_report
from tallymark.publish import alerts
from tallymark.publish.report import report_dry_run
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def mailbox(monkeypatch):
    controller = SmtpServer(Mailbox())
    controller.start()
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", controller.connection)
    yield controller.handler
    controller.stop()


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_warehouse(tmp_path)
    return settings.model_copy(update={"alert_email": "analyst@example.com, merchant@example.com"})


def alerts_after_export(settings: Settings) -> None:
    with connect(settings, read_only=True) as warehouse:
        found = alerts.conditions(settings, warehouse)
    alerts.Alerts(settings, send).after_export(found)


def put(settings: Settings, sql: str, *values) -> None:
    with connect(settings) as warehouse:
        warehouse.execute(sql, values)


def test_rejected_chunk_alerts_at_begin_and_end(settings, mailbox, tmp_path):
    alerts_after_export(settings)
    (mail,) = mailbox.mails
    assert mail["Subject"] == "Tallymark: rejected chunk"
    assert mail["To"] == "analyst@example.com, merchant@example.com"
    assert mailbox.texts() == [
        "<p>REJECTED CHUNK: input/transactions/chunk_3: header lacks gender, amount; the first line is: "
        "&#x27;customer,merchant&#x27;. Put a corrected object under the same key.</p>"
    ]
    alerts_after_export(settings)
    assert mailbox.texts() == []
    (tmp_path / "input/transactions/chunk_3").write_text(csv_text([]))
    replay(tmp_path, tmp_path, vars=settings.vars)
    alerts_after_export(settings)
    alerts_after_export(settings)
    assert mailbox.texts() == ["<p>OVER: rejected chunk: input/transactions/chunk_3</p>"]


def test_text_from_files_is_escaped(settings, mailbox):
    key = "input/transactions/chunk_<b>{{ 6 * 7 }}"
    put(settings, "update raw.chunks set chunk_key = ? where chunk_seq = 3", key)
    alerts_after_export(settings)
    assert "chunk_&lt;b&gt;{{ 6 * 7 }}: header" in mailbox.texts()[0]


BEGINS = {
    "rejected customer importance": (
        "insert into raw.importance_versions by name select 98 as importance_version, 'rejected' as state, "
        "'broken gzip' as reason, now() at time zone 'UTC' + interval 1 hour as loaded_at",
        "insert into raw.importance_versions by name select 99 as importance_version, 'accepted' as state, "
        "now() at time zone 'UTC' + interval 2 hour as loaded_at",
    ),
    "conflict": (
        "insert into raw.conflicts values ('input/transactions/chunk_1', 'new', 'is', now(), now() at time zone 'UTC')",
        "update raw.conflicts set seen_at = seen_at - interval 2 days",
    ),
    "lag": (
        "update raw.chunks set landed_at = landed_at - interval 1 hour",
        "update raw.chunks set landed_at = landed_at + interval 1 hour",
    ),
    "no detections": (
        "update detections set detected_at = detected_at - interval 2 days",
        "update detections set detected_at = detected_at + interval 2 days",
    ),
    "many detections": (
        """
        insert into raw.chunks by name
        select
            3 + n as chunk_seq, 'k' || n as chunk_key, 'accepted' as state,
            now() at time zone 'UTC' as landed_at, now() at time zone 'UTC' as loaded_at
        from range(1, 31) as numbers (n);
        insert into output.releases select 32, now() at time zone 'UTC' from range(1);
        insert into output.releases select 33, now() at time zone 'UTC' + interval 1 second from range(1);
        insert into detections by name
        select
            (select max(detection_id) from detections) + n as detection_id, 'PatId2' as pattern_id, 'M' as merchant,
            'many ' || n as customer, 33 as chunk_seq, now() at time zone 'UTC' as detected_at
        from range(1, 61) as numbers (n)
        """,
        "insert into raw.chunks by name select 34 as chunk_seq, 'last' as chunk_key, 'accepted' as state, "
        "now() at time zone 'UTC' as landed_at, now() at time zone 'UTC' as loaded_at; "
        "insert into output.releases select 34, now() at time zone 'UTC' + interval 2 second from range(1)",
    ),
}


@pytest.mark.parametrize("kind", BEGINS)
def test_warehouse_conditions_begin_and_end(settings, mailbox, kind):
    begin, end = BEGINS[kind]
    put(settings, "delete from raw.chunks where chunk_seq = 3")
    alerts_after_export(settings)
    assert mailbox.texts() == []
    put(settings, begin)
    alerts_after_export(settings)
    alerts_after_export(settings)
    (text,) = mailbox.texts()
    assert text.startswith(f"<p>{kind.upper()}: ")
    assert text.count("<p>") == 1
    put(settings, end)
    alerts_after_export(settings)
    (text,) = mailbox.texts()
    assert text.startswith(f"<p>OVER: {kind}: ")


def test_failed_run_ends_with_next_success(settings, mailbox):
    """A failed run ends no other condition, because it does not know their state."""
    alerts_after_export(settings)
    assert mailbox.texts()[0].startswith("<p>REJECTED CHUNK")
    for _ in range(2):
        alerts.Alerts(settings, send).run_failed("scheduled__1", "build", RuntimeError("Nothing is exported.\nmore"))
    assert mailbox.texts() == [
        "<p>FAILED RUN: detect_patterns: scheduled__1 failed in build: Nothing is exported. Nothing is lost; the next "
        "run continues where it stopped.</p>"
    ]
    alerts_after_export(settings)
    assert mailbox.texts() == ["<p>OVER: failed run: detect_patterns</p>"]


def test_stalled_stream(settings, mailbox):
    put(settings, "delete from raw.chunks where chunk_seq = 3")
    alerts.Alerts(settings, send).nothing_landed()
    assert mailbox.texts() == []
    impatient = settings.model_copy(update={"stalled_seconds": 0.01})
    for _ in range(2):
        alerts.Alerts(impatient, send).nothing_landed()
    (text,) = mailbox.texts()
    assert text.startswith("<p>STREAM STALLED: input/transactions/: No chunk has landed for ")
    alerts_after_export(settings)
    assert mailbox.texts() == ["<p>OVER: stream stalled: input/transactions/</p>"]


def test_no_alert_without_a_channel(settings, mailbox, caplog, monkeypatch):
    alerts_after_export(settings.model_copy(update={"alert_email": ""}))
    assert mailbox.texts() == []
    Path(f"{settings.warehouse}.alerts.json").unlink()
    monkeypatch.delenv("AIRFLOW_CONN_SMTP_DEFAULT")
    alerts_after_export(settings)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_unreachable_mail_server_loses_no_alert(settings, mailbox, monkeypatch, caplog):
    with socket.socket() as silent, monkeypatch.context() as unreachable:
        silent.bind(("127.0.0.1", 0))
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": silent.getsockname()[1]}
        connection["extra"] = {"disable_ssl": True, "disable_tls": True, "from_email": "a@example.com"}
        connection["extra"]["retry_limit"] = 1
        unreachable.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        alerts_after_export(settings)
        alerts.Alerts(settings, send).run_failed("r1", "load", None)
    assert caplog.text.count("SmtpNotifier could not send an alert") == 1
    alerts_after_export(settings)
    assert mailbox.texts() == []
    later = datetime.now(UTC).timestamp() + alerts.RETRY_SECONDS + 1
    monkeypatch.setattr(alerts.time, "time", lambda: later)
    alerts_after_export(settings)
    (text,) = mailbox.texts()
    kinds = [line.partition(":")[0] for line in text.removeprefix("<p>").split("</p><p>")]
    assert kinds == ["REJECTED CHUNK", "FAILED RUN", "OVER"]
    alerts_after_export(settings)
    assert mailbox.texts() == []


def test_slack(settings, monkeypatch):
    sent = []

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/services"
        connection = {"conn_type": "slackwebhook", "host": url, "password": "T0/B0/X0"}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", json.dumps(connection))
        alerts_after_export(settings.model_copy(update={"alert_email": ""}))
        server.shutdown()
    (text,) = sent
    assert text.startswith("*Tallymark: rejected chunk*\nREJECTED CHUNK: input/transactions/chunk_3: header lacks")


def test_run_report(settings, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    _, put_files = export_and_report(settings, FolderStore(tmp_path), send, since=LONG_AGO)
    assert (put_files.keys, put_files.detections) == (["output/detections/detections-00000001.csv"], 3)
    assert (
        "PatId3   DEI-NEEDED  M1                                3 female customers (more than 2 required)"
        in caplog.text
    )
    assert (tmp_path / "output/snapshot/current.duckdb").exists()
    caplog.clear()
    _, nothing = export_and_report(
        settings, FolderStore(tmp_path), send, since=datetime.now(UTC) + timedelta(seconds=1)
    )
    assert (nothing.keys, nothing.detections) == ([], 0)
    assert "No new detections." in caplog.text


def test_dry_run_report(settings, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_chunk(tmp_path, "chunk_4", [Row("C", "M", "F", "1")] * 80)
    from tallymark.pipeline.build import build_models
    from tallymark.pipeline.load import load_chunks

    load_chunks(settings, FolderStore(tmp_path))
    build_models(settings)
    assert re.search(r"success +\d+\.\d\d s +1 row  batch_detections\n", caplog.text)
    assert re.search(r"pass +\d+\.\d\d s +0 rows  detections_are_made_once\n", caplog.text)
    report_dry_run(settings, since=datetime.now(UTC))
    lines = [line for line in caplog.text.splitlines() if "PatId2" in line]
    assert len(lines) == 1 and "80 transactions (at least 5 required) of Rs 1.00" in lines[0]
