"""The endpoints of the Detections page, without a browser and without a running Airflow."""

import base64
import csv
import hashlib
import io
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from support.many_detections import ODD_CUSTOMER, make_warehouse
from support.oracle import Row
from support.site import NO_RUNS, Site, publish
from support.streams import write_chunk
from tallymark import __version__
from tallymark.local.replay import replay
from tallymark.publish import snapshot
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store import BucketError
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

BACKTEST = "20260101T000000Z-0000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A published snapshot with one detection per pattern, and a backtest without changes."""
    folder = tmp_path_factory.mktemp("small")
    settings = make_warehouse(folder)
    publish(settings, FolderStore(folder))
    for name, content in {"summary": b"{}", "detections": b"[]"}.items():
        FolderStore(folder).put(f"output/backtests/{BACKTEST}/{name}.json", content)
    return folder


@pytest.fixture
def site(page, folder):
    yield Site(page, Settings(warehouse=folder / "warehouse.duckdb"), folder)
    page.app.dependency_overrides = {}


def paths(app) -> list[str]:
    """Return the path of every route, with values for its parameters."""
    assert all(route.methods <= {"GET", "HEAD"} for route in app.routes)
    file = "output/detections/detections-00000001.csv"
    known = {"name": "page.js", "listed": "conflicts", "backtest": BACKTEST, "key:path": file}
    return [re.sub("{(.*?)}", lambda found: known[found[1]], route.path) for route in app.routes]


def test_every_route_requires_a_login(page, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MODELS", tmp_path / "models.html")
    page.MODELS.write_text("<html>")
    site = Site(page, Settings(), folder)
    assert len(paths(page.app)) >= 9
    for path in paths(page.app):
        site.get(path)
    page.app.dependency_overrides = {}
    for path in paths(page.app):
        answer = site.client.get(path)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"}), path


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("root", ["", "/airflow"])
def test_logged_out_browser_gets_the_login_page(page, root):
    airflow = FastAPI(root_path=root)
    airflow.mount("/tallymark", page.app)
    for path in ("/tallymark/?page=2", "/tallymark/models", "/tallymark/files/output/detections/x.csv"):
        answer = TestClient(airflow).get(f"{root}{path}", headers=BROWSER)
        assert answer.status_code == 401
        assert f'data-login="{root}/api/v2/auth/login"' in answer.text
        script = re.search("<script>(.*?)</script>", answer.text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("status", "detail"), [(401, "Token Expired"), (403, "Invalid JWT token")])
def test_rejected_token_leads_to_the_login_page(page, site, status, detail):
    def reject():
        raise HTTPException(status, detail)

    page.app.dependency_overrides |= {login.dependency: reject for login in page.app.router.dependencies}
    answer = site.client.get("/", headers=BROWSER)
    assert (answer.status_code, "data-login=" in answer.text) == (status, True)


def test_other_errors_stay_json(page, site):
    def forbid():
        raise HTTPException(403, "Forbidden")

    assert site.client.get("/static/x", headers=BROWSER).json() == {"detail": "The page has no file x."}
    page.app.dependency_overrides |= {login.dependency: forbid for login in page.app.router.dependencies}
    assert site.client.get("/", headers=BROWSER).json() == {"detail": "Forbidden"}


def test_about_has_version_links_and_input(page, site, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "settings", lambda: Settings(bucket="my-bucket"))
    monkeypatch.setattr(page, "MODELS", tmp_path / "models.html")
    monkeypatch.setattr(page, "project_urls", lambda: {"Documentation": "https://example.com/docs"})
    about = site.json("/api/about")
    assert about == {
        "version": __version__,
        "documentation": [{"name": "Documentation", "address": "https://example.com/docs"}],
        "transactions": "s3://my-bucket/input/transactions/",
        "customers": "s3://my-bucket/input/customers/",
    }
    page.MODELS.write_text("<html>")
    assert site.json("/api/about")["documentation"][-1] == {"name": "dbt documentation", "address": "models"}


def test_links_are_optional(page, site, tmp_path, monkeypatch):
    """The page works without pyproject.toml next to the code."""
    monkeypatch.setattr(page, "PYPROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(page, "MODELS", tmp_path / "models.html")
    page.project_urls.cache_clear()
    try:
        assert site.json("/api/about")["documentation"] == []
    finally:
        page.project_urls.cache_clear()


def test_only_files_of_the_page_are_served(site):
    files = {file.name for file in (PROJECT_ROOT / "plugins/tallymark/page/static").iterdir()}
    for name in files - {"index.html", "login.html", "chart.LICENSE.md"}:
        assert site.get(f"/static/{name}").headers["Content-Type"].split(";")[0].count("/") == 1
    for path in ("/static/index.html", "/static/..%2Fapp.py", "/files/input/transactions/chunk_1", "/files/output/x"):
        assert site.client.get(path).status_code == 404, path
    assert site.client.get("/files/output/detections/../../input/transactions/chunk_1").status_code == 404


def test_detections_have_evidence_in_words(site):
    found = site.json("/api/detections")
    assert [(row["pattern_id"], row["merchant"], row["customer"], row["evidence"]) for row in found["rows"]] == [
        (
            "PatId3",
            "M1",
            "",
            "3 female customers (more than 2 required) and 5 male (more than female required)",
        ),
        (
            "PatId2",
            "M1",
            ODD_CUSTOMER,
            "6 transactions (at least 5 required) of Rs 4.55 on average (below Rs 23 required)",
        ),
        (
            "PatId1",
            "M1",
            "C6",
            "7 transactions, 7 of 8 customers have fewer (top 20 percent required); weight 3, 0 of 7 weights are "
            "smaller (bottom 20 percent required)",
        ),
    ]
    assert {row["file"] for row in found["rows"]} == {"output/detections/detections-00000001.csv"}
    assert site.get(f"/files/{found['rows'][0]['file']}").content.count(b"\n") == 4
    assert sum(row["detections"] for row in found["over_time"]) == 3
    assert [(row["pattern_id"], row["rule"], row["detections"]) for row in found["patterns"]] == [
        (
            "PatId1",
            "A customer is in a merchant's top 20 percent by number of transactions and in its bottom 20 percent by "
            "importance weight, once the merchant has more than 20 transactions.",
            1,
        ),
        ("PatId2", "A customer's transactions at a merchant average below Rs 23, over at least 5 transactions.", 1),
        ("PatId3", "A merchant has more than 2 female customers, and fewer female than male.", 1),
    ]


@pytest.mark.parametrize(
    ("query", "patterns"),
    [
        ("pattern=PatId2", ["PatId2"]),
        ("merchant=M1", ["PatId3", "PatId2", "PatId1"]),
        ("merchant=M2", []),
        ("customer=c6", ["PatId1"]),
        ("customer=SCRIPT", ["PatId2"]),
        ("pattern=PatId2&customer=C6", []),
        ("limit=1&page=3", ["PatId1"]),
        ("pattern=' or true --", []),
    ],
)
def test_filters(site, query, patterns):
    found = site.json(f"/api/detections?{query}")
    assert [row["pattern_id"] for row in found["rows"]] == patterns
    assert found["found"] == (3 if "page" in query else len(patterns))
    if "page" not in query:
        lines = list(csv.reader(io.StringIO(site.get(f"/api/detections.csv?{query}").text)))
        assert [line[1] for line in lines[1:]] == patterns
        assert lines[0][:5] == ["detection_id", "pattern_id", "action_type", "customer", "merchant"]


def test_exact_name_matches_only_itself(page, tmp_path):
    settings = make_warehouse(tmp_path, detections=100, chunks=1)
    publish(settings, FolderStore(tmp_path))
    site = Site(page, settings, tmp_path)
    for name in ("M1", "M11"):
        assert {row["merchant"] for row in site.json(f"/api/detections?merchant={name}")["rows"]} == {name}
    assert len({row["merchant"] for row in site.json("/api/detections?merchant=m1")["rows"]}) == 11


def test_csv_downloads_escape_formulas(page, tmp_path):
    write_chunk(tmp_path, "chunk_1", [Row("=1+1", "M", "F", "1")] * 80)
    replay(tmp_path, tmp_path)
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    publish(settings, FolderStore(tmp_path))
    site = Site(page, settings, tmp_path)
    answer = site.get("/api/detections.csv")
    assert [line[3] for line in csv.reader(io.StringIO(answer.text))] == ["customer", "'=1+1"]
    assert answer.headers["Content-Disposition"] == 'attachment; filename="detections.csv"'
    assert site.json("/api/detections")["rows"][0]["customer"] == "=1+1"


def test_merchant_shows_who_is_closest(site):
    found = site.json("/api/merchants")
    assert [(row["merchant"], row["transactions"], row["customers"]) for row in found["rows"]] == [
        ("M1", 34, 8),
        ("M2", 4, 1),
    ]
    one = site.json("/api/merchants?merchant=M1")
    assert [(row["female_customers"], row["male_customers"]) for row in one["rows"]] == [(3, 5)]
    assert one["rows"][0]["detections"] == {"PatId1": 1, "PatId2": 1, "PatId3": 1}
    assert [(row["action_type"], row["customer"]) for row in one["nearest"]][:2] == [
        ("UPGRADE", "C5"),
        ("UPGRADE", "C4"),
    ]
    assert one["nearest"][0]["evidence"] == (
        "6 transactions, 5 of 8 customers have fewer (top 20 percent required); weight 4, 1 of 7 weights are smaller "
        "(bottom 20 percent required)"
    )
    assert [row["merchant"] for row in site.json("/api/merchants?merchant=m")["rows"]] == ["M1", "M2"]


def test_chunks_and_rejected_rows(site):
    found = site.json("/api/chunks")
    assert [(row["chunk_seq"], row["state"], row["rows_rejected"]) for row in found["rows"]] == [
        (3, "rejected", 0),
        (2, "accepted", 0),
        (1, "accepted", 2),
    ]
    assert found["totals"]["rows_in_file"] == found["totals"]["rows_accepted"] + found["totals"]["rows_rejected"] == 40
    assert [(row["line_number"], row["reason"]) for row in found["rejected_rows"]] == [
        (40, "amount is not a number"),
        (41, "no customer"),
    ]
    rejected = found["rows"][2]["rejected_file"]
    assert site.get(f"/files/{quote(rejected)}").text.count("\n") == 3
    assert [row["chunk_seq"] for row in site.json("/api/chunks?state=rejected")["rows"]] == [3]
    assert [row["chunk_seq"] for row in site.json("/api/chunks?state=with rejected rows")["rows"]] == [1]
    assert site.json("/api/chunks?chunk=CHUNK_2")["found"] == 1
    assert len(site.get("/api/chunks.csv?state=accepted").text.splitlines()) == 3
    rejected = csv.DictReader(io.StringIO(site.get("/api/rejected_rows.csv").text))
    assert [(row["line_number"], row["reason"]) for row in rejected] == [
        ("40", "amount is not a number"),
        ("41", "no customer"),
    ]


def test_waiting_chunks_are_counted(page, tmp_path):
    settings = make_warehouse(tmp_path)
    publish(settings, FolderStore(tmp_path))
    (tmp_path / "input/transactions/chunk_4").write_text("new\n")
    (tmp_path / "input/transactions/chunk_1").write_text("other content\n")
    found = Site(page, settings, tmp_path).json("/api/keeping-up")
    assert (found["landed"], found["loaded"], found["waiting"]) == (4, 3, 2)
    assert found["oldest_waits_seconds"] >= 0
    assert len(found["latency"]) == 2
    assert found["runs"] == NO_RUNS


def test_listing_stops_at_the_key_limit(page, folder, monkeypatch):
    """Beyond the limit the backlog is unknown, and the response says so."""
    monkeypatch.setattr("tallymark.page.backlog.MAX_KEYS", 2)
    monkeypatch.setattr("tallymark.page.backlog.LIST_AGAIN_SECONDS", 600)
    listed = []

    class Counting(FolderStore):
        def list(self, *where):
            for stored in super().list(*where):
                listed.append(stored.key)
                yield stored

    site = Site(page, Settings(warehouse=folder / "warehouse.duckdb"), folder)
    site.reader.store = Counting(folder)
    found = site.json("/api/keeping-up")
    assert (found["landed"], found["listing_is_cut"], found["nothing_landed_for_seconds"]) == (3, True, None)
    assert sum("transactions/" in key for key in listed) == 2
    site.json("/api/keeping-up")
    assert sum("transactions/" in key for key in listed) == 2


def test_only_new_keys_are_listed(page, tmp_path, monkeypatch):
    """The backlog stays exact, however many chunks the ledger has."""
    monkeypatch.setattr("tallymark.intake.listing.KEYS_PER_CALL", 3)
    monkeypatch.setattr("tallymark.page.backlog.MAX_KEYS", 4)
    for number in range(1, 6):
        write_chunk(tmp_path, f"chunk_{number}", [Row("C1", "M1", "F", "1")])
    replay(tmp_path, tmp_path)
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    publish(settings, FolderStore(tmp_path))
    for number in (6, 10):
        write_chunk(tmp_path, f"chunk_{number}", [Row("C1", "M1", "F", "1")])
    found = Site(page, settings, tmp_path).json("/api/keeping-up")
    assert (found["landed"], found["loaded"], found["waiting"], found["listing_is_cut"]) == (7, 5, 2, False)
    assert found["nothing_landed_for_seconds"] >= 0


def test_empty_bucket(page, tmp_path):
    site = Site(page, Settings(), tmp_path)
    for path in paths(page.app):
        if path.startswith("/api/") and not path.endswith(".csv") and not re.search("about|backtests", path):
            assert site.json(path)["snapshot"]["published_at"] is None
    assert site.json("/api/keeping-up")["landed"] == 0
    assert site.json("/api/backtests")["found"] == 0
    assert site.get("/api/detections.csv").text.count("\n") == 1


def test_new_snapshot_is_shown_and_outage_survived(page, tmp_path, monkeypatch):
    monkeypatch.setattr("tallymark.page.reader.LOOK_AGAIN_SECONDS", 0)
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 2)
    settings = make_warehouse(tmp_path)
    site = Site(page, settings, tmp_path)
    assert site.json("/api/detections")["found"] == 0
    publish(settings, site.store)
    assert site.json("/api/detections")["found"] == 3
    with connect(settings) as warehouse:
        warehouse.execute(
            "insert into detections by name select * replace (4 as detection_id, 'M9' as merchant) from detections "
            "where detection_id = 3"
        )
        warehouse.execute("update output.files set last_detection_id = 4 where file_number = 1")
    publish(settings, site.store)
    assert [row["merchant"] for row in site.json("/api/detections")["rows"]] == ["M9", "M1", "M1", "M1"]

    def fail(prefix):
        raise BucketError("S3 is unreachable")

    site.reader.store = type("Unreachable", (), {"list": staticmethod(fail)})()
    after = site.json("/api/detections")
    assert (after["found"], after["snapshot"]["problem"]) == (4, "S3 is unreachable")
    failed = site.client.get(f"/files/{after['rows'][0]['file']}")
    assert (failed.status_code, failed.json()["detail"]) == (503, "S3 is unreachable")


def test_new_pattern_adds_columns_to_older_parts(page, tmp_path, monkeypatch):
    monkeypatch.setattr("tallymark.page.reader.LOOK_AGAIN_SECONDS", 0)
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 1)
    settings = make_warehouse(tmp_path)
    site = Site(page, settings, tmp_path)
    publish(settings, site.store)
    assert site.json("/api/detections")["found"] == 3
    with connect(settings) as warehouse:
        warehouse.execute("alter table detections add column chunk_amount decimal(18, 4)")
        warehouse.execute(
            "insert into detections by name select 4 as detection_id, 4.5 as chunk_amount, 2 as chunk_seq, "
            "'M9' as merchant, 'C9' as customer, 'PatId9' as pattern_id, 1 as file_number"
        )
        warehouse.execute("update output.files set last_detection_id = 4 where file_number = 1")
    publish(settings, site.store)
    site.json("/api/detections")
    after = site.json("/api/detections")
    assert (after["found"], after["snapshot"]["problem"]) == (4, None)


def damaged(body: bytes) -> bytes:
    return body[: len(body) // 2]


def newer(body: bytes) -> bytes:
    """Set a storage version that no DuckDB supports yet, with a matching header checksum."""
    header = [int.from_bytes(body[at : at + 8], "little") for at in range(0, 16, 8)]
    version = int.from_bytes(body[8:12] + (9_999).to_bytes(4, "little"), "little")
    checksum = header[0] ^ (header[1] * 0xBF58476D1CE4E5B9) % 2**64 ^ (version * 0xBF58476D1CE4E5B9) % 2**64
    return checksum.to_bytes(8, "little") + version.to_bytes(8, "little") + body[16:]


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (damaged, "The next export replaces it."),
        (newer, "A newer DuckDB wrote it. Run the same version of Tallymark in the api-server and in the tasks."),
    ],
)
def test_unreadable_snapshot_is_reported(page, tmp_path, monkeypatch, change, advice):
    """The page keeps the previous snapshot, says why, and recovers with the next one."""
    monkeypatch.setattr("tallymark.page.reader.LOOK_AGAIN_SECONDS", 0)
    settings = make_warehouse(tmp_path)
    site = Site(page, settings, tmp_path)
    publish(settings, site.store)
    assert site.json("/api/detections")["found"] == 3
    path = tmp_path / "output/snapshot/current.duckdb"
    path.write_bytes(change(path.read_bytes()))
    answer = site.json("/api/detections")
    problem = answer["snapshot"]["problem"]
    assert answer["found"] == 3
    assert problem.startswith(f"Could not read the snapshot output/snapshot/current.duckdb. {advice} DuckDB reports: ")
    publish(settings, site.store)
    assert site.json("/api/detections")["snapshot"]["problem"] is None


def test_missing_part_is_reported(page, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "ROWS_PER_PART", 2)
    settings = make_warehouse(tmp_path)
    publish(settings, FolderStore(tmp_path))
    (part,) = tmp_path.glob("output/snapshot/detections-*")
    part.unlink()
    answer = Site(page, settings, tmp_path).json("/api/detections")
    assert answer["snapshot"]["problem"] == (
        f"The snapshot output/snapshot/current.duckdb refers to output/snapshot/{part.name}, which is not in the "
        "bucket. Restore it from a backup, or run make rebuild."
    )


@pytest.mark.system
def test_large_snapshot_answers_in_300_ms(page, tmp_path):
    settings = make_warehouse(tmp_path, detections=100_000, chunks=12_000)
    publish(settings, FolderStore(tmp_path))
    site = Site(page, settings, tmp_path)
    assert site.json("/api/detections")["found"] == 100_003
    slow = {}
    for path in (
        "/api/keeping-up",
        "/api/detections",
        "/api/detections?merchant=M7&customer=1&page=30",
        "/api/merchants?merchant=M1",
        "/api/chunks?chunk=9",
    ):
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            site.json(path)
            times.append(time.perf_counter() - begun)
        if statistics.median(times) > 0.3:
            slow[path] = times
    assert slow == {}


def test_plugin_import_is_cheap():
    """Every task loads the plugin, so it must not import FastAPI, DuckDB or boto3."""
    code = (
        "import sys; from airflow.plugins_manager import AirflowPlugin; before = set(sys.modules); "
        "import detections_page; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT / "plugins", capture_output=True, text=True, timeout=600
    )
    assert set(done.stdout.split()) <= {
        "airflow._shared.listeners",
        "airflow.listeners",
        "detections_page",
        "tallymark",
        "tallymark.on_airflow",
        "tallymark.on_airflow.run_note",
    }, done.stderr
    assert (PROJECT_ROOT / "plugins/.airflowignore").read_text().split() == ["tallymark/**"]
    top = {path.name for path in (PROJECT_ROOT / "plugins").glob("*.py")}
    assert top == {"detections_page.py"}
