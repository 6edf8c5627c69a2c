"""End to end: real Airflow processes take chunks that boto3 puts into a real S3 server."""

import io
import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from unittest.mock import patch

import pytest
from dotenv import dotenv_values
from support import foreign
from support.oracle import detect
from support.streams import HEADER, THRESHOLDS, csv_text, detected, small_stream
from support.waiting import wait_for
from tallymark.local import stack as local_stack
from tallymark.local.isolation import isolate_this_process
from tallymark.local.processes import stop
from tallymark.settings import PROJECT_ROOT
from tallymark.warehouse.ledger_index import LedgerIndex

PAGE = [
    "/tallymark/",
    "/tallymark/static/page.js",
    "/tallymark/api/keeping-up",
    "/tallymark/api/detections",
    "/tallymark/api/detections.csv",
    "/tallymark/api/merchants",
    "/tallymark/api/chunks",
    "/tallymark/api/open_issues.csv",
    "/tallymark/api/rejected_rows.csv",
    "/tallymark/files/output/detections/detections-00000001.csv",
]


@pytest.fixture
def running(tmp_path, capsys):
    """A running stack without a feed, and its processes by name.

    It is started with environment variables left over from other installations.
    """
    source = tmp_path / "source"
    source.mkdir()
    (source / "transactions.csv").write_text(HEADER + "\n")
    variables = foreign.VARIABLES | foreign.PROXIES | {"TALLYMARK_VARS": json.dumps(THRESHOLDS)}
    with patch.dict(os.environ, variables):
        isolate_this_process()
        made = local_stack.new_stack(tmp_path / "stack", source / "transactions.csv")
        processes = local_stack.start(made)
        try:
            yield made, processes
        finally:
            stop(made.root)


@pytest.fixture
def plain_airflow(monkeypatch) -> dict[str, str]:
    """The Airflow settings without speedups: lines of the speedups' README override those of airflow.env."""
    page = (PROJECT_ROOT / "plugins/tallymark/speedups/README.md").read_text()
    plain = dotenv_values(stream=io.StringIO(re.search(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]))
    monkeypatch.setattr(local_stack, "dotenv_values", lambda path: {**dotenv_values(path), **plain})
    return plain


def test_chunk_in_s3_becomes_a_detection_file(running, capsys):
    stack, processes = running
    assert_start_is_announced(capsys.readouterr().out)
    client, bucket, settings = stack.bucket.client, stack.settings.bucket, stack.settings
    chunks, importance = small_stream(chunks=4, rows=60)

    def put(key: str, body: str) -> None:
        client.put_object(Bucket=bucket, Key=key, Body=body.encode())

    def taken() -> list[str]:
        return LedgerIndex(settings.warehouse, settings.limits).last_keys(100)

    def is_done(chunks: int) -> bool:
        return len(taken()) == chunks and not LedgerIndex(settings.warehouse, settings.limits).is_open()

    lines = [f"{customer},{merchant},{weight},es_food,0" for customer, merchant, weight in importance]
    put("input/customers/customer_importance.csv", "\n".join(["Source,Target,Weight,typeTrans,fraud", *lines]))
    put("input/transactions/chunk_10", csv_text(chunks[1]))
    put("input/transactions/chunk_9", csv_text(chunks[0]))
    wait_for(lambda: is_done(2), "two chunks that landed together are exported")
    first = taken()
    put("input/transactions/chunk_11", csv_text(chunks[2]))
    wait_for(lambda: is_done(3), "a chunk that landed later is exported")
    put("input/transactions/chunk_2.csv", csv_text(chunks[3]) + "C1,too,short\n")
    wait_for(lambda: is_done(4), "a late chunk with a lower number is exported")

    in_order = [chunks[0], chunks[1]] if first[0].endswith("chunk_9") else [chunks[1], chunks[0]]
    expected = detect([*in_order, *chunks[2:]], importance, THRESHOLDS)
    assert {detection.pattern_id for detection in expected} == {"PatId1", "PatId2", "PatId3"}
    written = stack.root / "s3" / bucket / "output"
    (stack.root / "output").symlink_to(written)
    assert detected(stack.root) == expected
    rejected = (written / "rejected/chunk_2.csv").read_text().splitlines()
    assert rejected[1:] == ['input/transactions/chunk_2.csv,62,has 3 fields instead of 10,"C1,too,short"']

    assert_airflow_is_healthy(stack)
    assert_logs_have_no_secrets(stack)
    assert_login_is_required(stack)
    assert_page_shows(stack, len(expected))
    processes["s3"].kill()
    assert_log_of_failed_task_ends_with_advice(stack)


@pytest.mark.system
def test_without_speedups(plain_airflow, running):
    """Two runs with Airflow's own executor, whose tasks import everything themselves."""
    stack, _ = running
    assert plain_airflow.items() <= stack.environment().items()
    chunks, importance = small_stream(chunks=4, rows=60)

    def put(key: str, body: str) -> None:
        stack.bucket.client.put_object(Bucket=stack.settings.bucket, Key=key, Body=body.encode())

    def is_done(chunks: int) -> bool:
        index = LedgerIndex(stack.settings.warehouse, stack.settings.limits)
        return len(index.last_keys(100)) == chunks and not index.is_open()

    lines = [f"{customer},{merchant},{weight},es_food,0" for customer, merchant, weight in importance]
    put("input/customers/customer_importance.csv", "\n".join(["Source,Target,Weight,typeTrans,fraud", *lines]))
    for number, rows in enumerate(chunks[:2], start=1):
        put(f"input/transactions/chunk_{number}", csv_text(rows))
        wait_for(lambda number=number: is_done(number), f"chunk {number} is exported")
    (stack.root / "output").symlink_to(stack.root / "s3" / stack.settings.bucket / "output")
    assert detected(stack.root) == detect(chunks[:2], importance, THRESHOLDS)


def assert_start_is_announced(output: str) -> None:
    lines = re.findall(r"^ +\d+ s   (.+)$", output, re.MULTILINE)
    assert lines == [
        "S3 server is up",
        "Airflow's database is up",
        "Airflow's UI is up",
        "Airflow's scheduler is up",
    ]


def assert_airflow_is_healthy(stack: local_stack.Stack) -> None:
    """Wait until all components on Airflow's home page are healthy; the triggerer starts last."""
    answer: dict = {}

    def is_healthy() -> bool:
        answer.update(json.loads(ask(stack, "/api/v2/monitor/health")))
        return all(part["status"] == "healthy" for part in answer.values())

    wait_for(is_healthy, "all of Airflow is healthy")
    assert set(answer) == {"metadatabase", "scheduler", "triggerer", "dag_processor"}


def assert_logs_have_no_secrets(stack: local_stack.Stack) -> None:
    logs = [path for folder in ("logs", "airflow") for path in (stack.root / folder).rglob("*.log")]
    assert any("task_id=export" in str(path) for path in logs)
    for path in logs:
        assert_free_of(path, stack.secret_key, stack.access_key, stack.password)


def assert_free_of(path: Path, *secrets: str) -> None:
    text = path.read_text(errors="replace")
    for secret in secrets:
        assert secret not in text, f"{path} contains a credential"


def ask(stack: local_stack.Stack, path: str, token: str | None = None, body: dict | None = None) -> bytes:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(stack.ui_url + path, json.dumps(body).encode() if body else None, headers)
    with urllib.request.urlopen(request, timeout=600) as answer:
        return answer.read()


def assert_login_is_required(stack: local_stack.Stack) -> None:
    nobody = {"username": "admin", "password": "admin"}
    for path, body in [("/api/v2/dags", None), *((path, None) for path in PAGE), ("/auth/token", nobody)]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(stack, path, body=body)
        assert refused.value.code == 401, path


def assert_page_shows(stack: local_stack.Stack, detections: int) -> None:
    """Request every route of the page inside Airflow as a logged-in user."""
    login = {"username": "admin", "password": stack.password}
    token = json.loads(ask(stack, "/auth/token", body=login))["access_token"]
    answers = {path: ask(stack, path, token) for path in PAGE}
    assert b"<title>" in answers["/tallymark/"]
    assert answers["/tallymark/files/output/detections/detections-00000001.csv"].startswith(b"YStartTime,")
    wait_for(
        lambda: json.loads(ask(stack, "/tallymark/api/detections", token))["found"] == detections,
        "the page shows all detections",
    )
    ran = json.loads(ask(stack, "/tallymark/api/keeping-up", token))["runs"]
    assert ran["ended"]["state"] == "success"


def assert_log_of_failed_task_ends_with_advice(stack: local_stack.Stack) -> None:
    def end() -> list[str]:
        """Return the lines of a sensor log after its traceback and outside folded groups."""
        for path in (stack.root / "logs/tasks").rglob("task_id=wait_for_chunk/attempt=*.log"):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            messages = [line["event"] for line in lines]
            if any("error_detail" in line for line in lines) and messages.count("::endgroup::") == 3:
                return messages[messages.index("::group::Post Execute") + 2 : -1]
        return []

    wait_for(end, "the log of the sensor says why it failed")
    assert max(map(len, end())) <= 90
    said = " ".join(end())
    assert said.startswith("Could not list input/transactions/* in bucket customer-transactions-detection at http")
    assert said.endswith("check endpoint_url and region_name of the Airflow connection aws_default, and the network.")
