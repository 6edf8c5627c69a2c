"""The Detections page in a browser, inside the UI of a real Airflow with a real S3 server.

With ``TALLYMARK_SCREENSHOTS=1`` the tests also write the pictures of the documentation.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.servers import Mailbox, SmtpServer
from support.streams import HEADER
from support.waiting import wait_for
from tallymark import __version__
from tallymark.local import stack as local_stack
from tallymark.local.generate import generate
from tallymark.local.processes import stop
from tallymark.settings import PROJECT_ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]
THRESHOLDS = {"upgrade_min_merchant_transactions": 8000, "child_min_transactions": 25, "dei_min_female_customers": 40}
CHUNKS, CHUNK_ROWS = 10, 4000
ODD_CUSTOMER = "<script>pwned = 1</script>"
SECTIONS = [
    "Is it keeping up?",
    "What did it detect?",
    "Who is close to a threshold?",
    "What if the thresholds were different?",
    "What arrived, and what was rejected?",
]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
PICTURES = PROJECT_ROOT / "docs" / "images" if os.environ.get("TALLYMARK_SCREENSHOTS") else None

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM, reason="No browser found: install Chromium, on Debian with apt install chromium"),
]


class Site:
    """A running stack, an API token, and the e-mails that alerts sent."""

    def __init__(self, stack: local_stack.Stack, processes: dict[str, subprocess.Popen], mailbox: Mailbox):
        self.stack, self.processes, self.mailbox = stack, processes, mailbox
        body = json.dumps({"username": "admin", "password": stack.password}).encode()
        self.token = None
        self.token = self.api("/auth/token", body)["access_token"]

    def api(self, path: str, body: bytes | None = None) -> dict:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(f"{self.stack.ui_url}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def chunks_done(self) -> int:
        return self.api("/tallymark/api/keeping-up").get("loaded") or 0

    def put(self, name: str, body: str) -> None:
        key = f"input/transactions/{name}"
        self.stack.bucket.client.put_object(Bucket=self.stack.settings.bucket, Key=key, Body=body.encode())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A stack without any chunks yet."""
    root = tmp_path_factory.mktemp("site")
    (root / "source").mkdir()
    (root / "source/transactions.csv").write_text(HEADER + "\n")
    controller = SmtpServer(Mailbox())
    controller.start()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TALLYMARK_VARS", json.dumps(THRESHOLDS))
        environment.setenv("TALLYMARK_ALERT_EMAIL", "analyst@example.com")
        environment.setenv("AIRFLOW_CONN_SMTP_DEFAULT", controller.connection)
        stack = local_stack.new_stack(root / "stack", root / "source/transactions.csv")
        processes = local_stack.start(stack)
        try:
            yield Site(stack, processes, controller.handler)
        finally:
            stop(stack.root)
            controller.stop()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield running
        running.close()


def log_in(page, site) -> None:
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", site.stack.password)
    page.keyboard.press("Enter")


@pytest.fixture(scope="module")
def login(site, browser):
    """Browser state after a login through Airflow's form."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(site.stack.ui_url)
    log_in(page, site)
    page.get_by_role("link", name="Detections", exact=True).wait_for()
    yield context.storage_state()
    context.close()


@pytest.fixture
def open_page(site, browser, login):
    """Opens an address; returns the browser page and the page or frame with the detections. Fails on script errors."""
    contexts, errors = [], []

    def opened(path: str, theme: str = "light", size: dict = DESKTOP):
        context = browser.new_context(
            storage_state=login, viewport=size, reduced_motion="reduce", accept_downloads=True, locale="en-GB"
        )
        context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(site.stack.ui_url + path)
        inside = page if path.startswith("/tallymark/") else page.frame_locator("iframe[title=Detections]")
        inside.locator("body[data-ready]").wait_for(timeout=30_000)
        return page, inside

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="module")
def stream(site, tmp_path_factory) -> Site:
    """The site after a stream with good chunks, a chunk with bad rows, a rejected chunk and a conflict."""
    source = tmp_path_factory.mktemp("source")
    generate(source, rows=CHUNKS * CHUNK_ROWS)
    client, bucket = site.stack.bucket.client, site.stack.settings.bucket
    importance = gzip.decompress((source / "customer_importance.csv.gz").read_bytes())
    client.put_object(Bucket=bucket, Key="input/customers/customer_importance.csv", Body=importance)
    header, *lines = gzip.decompress((source / "transactions.csv.gz").read_bytes()).decode().splitlines()
    for number in range(1, CHUNKS + 1):
        rows = lines[(number - 1) * CHUNK_ROWS : number * CHUNK_ROWS]
        if number == 7:
            rows = [*rows, "1,too,short", f"0,'{ODD_CUSTOMER}','2','F','28007','M1','28007','x',many,0"]
        if number == 9:
            rows = [*rows, *[f"0,'{ODD_CUSTOMER}','2','F','28007','M<i>1','28007','x',4.55,0"] * 30]
        site.put(f"chunk_{number}", "\n".join([header, *rows]))
        if number == 6:
            wait_for(lambda done=number: site.chunks_done() >= done, f"{number} chunks")
    site.put("chunk_11", "customer,merchant\nC1,M1\n")
    site.put("chunk_3", "\n".join([header, *lines[:5]]))
    wait_for(lambda: site.api("/tallymark/api/chunks")["conflicts"], "the conflict")
    wait_for(lambda: site.chunks_done() == CHUNKS + 1, "the rejected chunk")
    return site


def axe_finds_nothing(page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found] == []


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def tables(page) -> dict[str, dict]:
    """Return, for each visible table by label, whether it fits its box, and whether the box scrolls and shows that."""
    return page.locator(".table").evaluate_all(
        """boxes => Object.fromEntries(boxes.filter((box) => box.clientWidth).map((box) => {
            const { overflowX, backgroundImage } = getComputedStyle(box);
            const scrolls = overflowX === "auto" && backgroundImage.includes("gradient");
            return [box.getAttribute("aria-label"), { fits: box.scrollWidth <= box.clientWidth, scrolls }];
        }))"""
    )


def picture(page, name: str) -> None:
    if PICTURES:
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURES / f"{name}.png")


def test_empty_states(site, open_page):
    page, _ = open_page("/tallymark/")
    upload = f"No chunks yet. Upload a file of transactions to s3://{site.stack.settings.bucket}/input/transactions/."
    for part, text in {
        "as-of": "No snapshot yet. The first export publishes one.",
        "sign": upload,
        "found-table": "No detections yet. They appear after the first export of detect_patterns.",
        "merchants-table": "No merchants yet. They appear after the first export of accepted transactions.",
        "backtests-table": "No backtests yet. Trigger backtest_patterns to start one; its form shows every threshold.",
        "chunks-table": upload,
        "open-issues-table": "No open issues.",
        "rejected-table": "No rejected rows.",
    }.items():
        assert page.locator(f"#{part}").inner_text().strip() == text
    assert page.locator("#importance-table").inner_text().strip().endswith("/input/customers/.")
    assert page.locator("#open-issues-line").is_hidden()
    assert page.locator("canvas:visible").count() == 0
    assert [label for label, table in tables(page).items() if not table["fits"]] == []
    axe_finds_nothing(page)
    with pytest.raises(urllib.error.HTTPError) as failed:
        urllib.request.urlopen(f"{site.stack.ui_url}/tallymark/api/detections", timeout=10)
    assert failed.value.code == 401


def test_footer_has_version_and_documentation(site, open_page):
    _, inside = open_page("/plugin/detections")
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    assert inside.locator("footer").inner_text().startswith(f"Tallymark {__version__}")
    has_models = (PROJECT_ROOT / "docs/models.html").exists()
    links = [*project.get("urls", {}), *(["dbt documentation"] if has_models else [])]
    assert inside.locator("footer a").all_inner_texts() == links


@pytest.mark.parametrize("path", ["/plugin/detections/tallymark/", "/tallymark/"], ids=["in Airflow", "alone"])
def test_deep_link_survives_the_login(stream, browser, path):
    """A logged-out user who opens the address of a view gets the login form, then that view."""
    address = f"{stream.stack.ui_url}{path}?state=with+rejected+rows&customer=%3Cscript%3E#arrived"
    context = browser.new_context(viewport=DESKTOP, locale="en-GB")
    page = context.new_page()
    page.goto(address)
    page.wait_for_url(lambda url: "/auth/login?next=" in url)
    log_in(page, stream)
    page.wait_for_url(lambda url: url == address)
    inside = page if path == "/tallymark/" else page.frame_locator("iframe[title=Detections]")
    inside.locator("body[data-ready]").wait_for(timeout=30_000)
    assert inside.locator("[data-part=arrived] select").input_value() == "with rejected rows"
    assert inside.locator("[data-part=found] [name=customer]").input_value() == "<script>"
    assert 0 <= inside.locator("#arrived-title").bounding_box()["y"] < DESKTOP["height"] / 2
    context.close()


def test_from_navigation_to_one_detection(stream, open_page):
    """The path of a new user: from Airflow's navigation to a detection and the reason for it."""
    page, inside = open_page("/plugin/detections")
    assert inside.locator("h2").all_inner_texts() == SECTIONS
    assert inside.locator("#sign").inner_text().startswith(("Keeping up", "Slow"))
    assert [label for label, table in tables(inside).items() if not table["fits"]] == []
    picture(page, "keeping-up")
    inside.locator("[data-part=found] select").select_option("PatId1")
    inside.locator("[data-part=found] button").click()
    page.wait_for_url("**/plugin/detections/tallymark/?pattern=PatId1#found")
    inside.locator("body[data-ready]").wait_for()
    why = inside.locator("#found-table tbody tr").first.locator("td").nth(4).inner_text()
    assert re.fullmatch(
        r"[\d,]+ transactions, [\d,]+ of [\d,]+ customers have fewer \(top 1 percent required\); "
        r"weight [\d.]+, [\d,]+ of [\d,]+ weights are smaller \(bottom 1 percent required\)",
        why,
    )
    picture(page, "found")
    inside.locator("#found-table tbody tr").first.locator("td").nth(3).locator("a").click()
    page.wait_for_url("**merchant=M*#merchants")
    inside.locator("body[data-ready]").wait_for()
    assert "Close to a threshold" in inside.locator("#merchant").inner_text()
    assert "(top 1 percent required)" in inside.locator("#nearest-table tbody tr").first.inner_text()
    sent, again = open_page(page.url.removeprefix(stream.stack.ui_url))
    assert again.locator("#found-table caption").inner_text() == inside.locator("#found-table caption").inner_text()
    assert again.locator("#found-table tbody tr").first.locator("td").nth(4).inner_text() == why
    picture(sent, "merchant")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_sections_in_both_modes_and_widths(stream, open_page, theme, size):
    merchant = stream.api("/tallymark/api/merchants")["rows"][0]["merchant"]
    page, _ = open_page(f"/tallymark/?merchant={merchant}", theme, size)
    assert page.locator("html").evaluate("element => element.classList.contains('dark')") == (theme == "dark")
    assert fits(page)
    wide = {label: table["scrolls"] for label, table in tables(page).items() if not table["fits"]}
    assert all(wide.values())
    assert set(wide) <= ({"Merchants", "Chunks", "Backtests"} if size is PHONE else set())
    why = page.locator("#found-table td.words").first.bounding_box()
    assert why["x"] + why["width"] <= size["width"]
    for chart in ("latency", "over-time"):
        drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(v => v)"
        assert page.locator(f"#{chart}").evaluate(drawn)
    for table in (
        "found-table",
        "merchants-table",
        "nearest-table",
        "chunks-table",
        "open-issues-table",
        "conflicts-table",
        "rejected-table",
    ):
        assert page.locator(f"#{table} tbody tr").count() >= 1
    axe_finds_nothing(page)
    picture(page, f"{theme}-{'phone' if size is PHONE else 'desktop'}")


ENDED = {"run_id": "r 1", "state": "success", "started_at": None, "ended_at": None, "tasks": {}}
QUIET = {"is_paused": False, "running": None, "ended": ENDED}
SIGNS = {
    "held back": ({"runs": QUIET | {"ended": ENDED | {"state": "failed", "tasks": {"build": "failed"}}}}, "Held back"),
    "failed": ({"runs": QUIET | {"ended": ENDED | {"state": "failed", "tasks": {"load": "failed"}}}}, "failed in load"),
    "retried": (
        {"runs": QUIET | {"running": ENDED | {"tasks": {"build": "up_for_retry"}}}},
        "Nothing is exported until it passes",
    ),
    "paused": ({"runs": QUIET | {"is_paused": True}}, "Paused"),
    "none": ({"runs": QUIET, "waiting": 0, "landed": 0}, "No chunks yet. Upload a file of transactions to s3://"),
    "behind": (
        {"runs": QUIET, "waiting": 1, "oldest_waits_seconds": 300},
        "Falling behind: 1 waiting chunk; the oldest landed 5 min ago.",
    ),
    "stalled": (
        {"runs": QUIET, "waiting": 0, "nothing_landed_for_seconds": 4000},
        "No new chunks: the last one landed 67",
    ),
    "slow": ({"runs": QUIET, "p95_seconds": 200}, "Slow: 1 in 20 chunks took more than 3 min"),
    "S3 unreachable": ({"runs": QUIET, "listing_problem": "Could not list input"}, "Could not list input"),
    "cut listing": ({"runs": QUIET, "waiting": 0, "listing_is_cut": True}, "Backlog unknown"),
    "keeping up": ({"runs": QUIET, "waiting": 0, "nothing_landed_for_seconds": 5, "p95_seconds": 9}, "Keeping up"),
}


def test_status_line_names_the_problem(stream, open_page):
    page, _ = open_page("/tallymark/")
    answer = stream.api("/tallymark/api/keeping-up")
    for case, (said, expected) in SIGNS.items():
        words, links = page.evaluate(
            """async (data) => {
                const { verdict } = await import("./static/keeping-up.js");
                const [, ...parts] = verdict(data);
                const links = parts.filter((part) => part instanceof Element).map((link) => link.getAttribute("href"));
                return [parts.map((part) => part.textContent ?? part).join(""), links];
            }""",
            answer | said,
        )
        assert expected in words, case
        expected_link = "../dags/detect_patterns" if case == "paused" else "../dags/detect_patterns/runs/r%201/tasks/"
        assert all(link.startswith(expected_link) for link in links), case


def test_page_follows_airflows_mode(stream, open_page):
    page, inside = open_page("/plugin/detections", "dark", PHONE)
    assert inside.locator("html").get_attribute("class") == "dark"
    page.evaluate("document.documentElement.classList.replace('dark', 'light')")
    wait_for(lambda: inside.locator("html").get_attribute("class") == "", "the light mode")


def test_data_is_shown_as_text(stream, open_page):
    page, _ = open_page("/tallymark/?customer=script&chunk=chunk_7")
    assert page.locator("#found-table tbody tr").count() == 1
    assert page.locator("#found-table tbody td").nth(2).inner_text() == ODD_CUSTOMER
    assert page.locator("#found-table tbody td").nth(3).inner_text() == "M<i>1"
    assert ODD_CUSTOMER in page.locator("#rejected-table").inner_text()
    assert page.evaluate("typeof pwned") == "undefined"
    page.locator("#found-table tbody a").first.click()
    page.locator("body[data-ready]").wait_for()
    assert page.locator("[data-part=found] [name=customer]").input_value() == ODD_CUSTOMER
    assert page.locator("#found-table caption").inner_text().startswith("1 of ")


def test_rejections_and_downloads(stream, open_page):
    page, _ = open_page("/tallymark/?state=rejected#arrived")
    assert "chunk_11" in page.locator("#chunks-table tbody").inner_text()
    assert "header lacks gender, amount" in page.locator("#chunks-table tbody").inner_text()
    assert "chunk_3" in page.locator("#conflicts-table tbody").inner_text()
    picture(page, "rejected")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download conflicts").click()
    assert "input/transactions/chunk_3" in Path(download.value.path()).read_text()
    with page.expect_download() as download:
        page.locator("#chunks-csv").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 2
    page.goto(f"{stream.stack.ui_url}/tallymark/?state=with+rejected+rows")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download 2 rejected rows of chunk 7").click()
    assert download.value.suggested_filename == "chunk_7.csv"
    assert "has 3 fields instead of 10" in Path(download.value.path()).read_text()
    with page.expect_download() as download:
        page.locator("#found-table tbody a[download]").first.click()
    assert download.value.suggested_filename.startswith("detections-0000")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_open_issues_stay_visible_in_all_sections(stream, open_page, size):
    page, _ = open_page("/tallymark/", size=size)
    line = page.locator("#open-issues-line")
    assert line.inner_text() == "2 open issues. See what to do"
    for section in SECTIONS:
        page.get_by_role("heading", name=section).evaluate("element => element.scrollIntoView()")
        shown = line.bounding_box()
        assert shown["y"] >= 0 and shown["y"] + shown["height"] <= size["height"]
        assert page.get_by_role("heading", name=section).bounding_box()["y"] >= shown["y"] + shown["height"]
    line.get_by_role("link").click()
    heading = page.get_by_role("heading", name="Open issues").bounding_box()
    assert line.bounding_box()["y"] < heading["y"] < size["height"]
    rows = page.locator("#open-issues-table tbody").inner_text()
    assert "chunk_11" in rows and "header lacks gender, amount" in rows and "chunk_3" in rows
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the rejection reason of input/transactions/chunk_11").click()
    assert download.value.suggested_filename == "chunk_11.csv"
    assert "header lacks gender, amount" in Path(download.value.path()).read_text()


def test_page_past_the_end_shows_the_first(stream, open_page):
    page, _ = open_page("/tallymark/?page=900&merchants_page=900&chunks_page=900")
    for name, table in {"page": "found", "merchants_page": "merchants", "chunks_page": "chunks"}.items():
        assert "Page 1 of" in page.locator(f"[data-pages={name}]").inner_text()
        assert page.locator(f"#{table}-table tbody tr").count() > 1


def test_keyboard_only(stream, open_page):
    page, _ = open_page("/tallymark/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "pattern"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("C")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?customer=C#found")


def test_run_notes_and_asset_events(stream):
    runs = stream.api("/api/v2/dags/detect_patterns/dagRuns?limit=100")["dag_runs"]
    notes = [run["note"] for run in runs if run["note"]]
    assert sum(int(re.match(r"(\d+) chunk", note)[1]) for note in notes) == CHUNKS
    assert any("1 conflict;" in note for note in notes)
    events = stream.api("/api/v2/assets/events?limit=100")["asset_events"]
    files = [file for event in events for file in event["extra"]["files"]]
    found = stream.api("/tallymark/api/detections?limit=1")
    assert sum(event["extra"]["detections"] for event in events) == found["found"]
    numbers = range(1, found["snapshot"]["detection_files"] + 1)
    assert sorted(files) == [f"output/detections/detections-{number:08d}.csv" for number in numbers]


def test_tasks_sent_alerts(stream):
    texts = "".join(stream.mailbox.texts())
    assert texts.count("REJECTED CHUNK: input/transactions/chunk_11: header lacks") == 1
    assert texts.count("CONFLICT: input/transactions/chunk_3: was accepted before") == 1


def test_trigger_form_rejects_invalid_values(stream):
    path = "/api/v2/dags/detect_patterns/dagRuns"
    with pytest.raises(urllib.error.HTTPError) as rejected:
        stream.api(path, json.dumps({"logical_date": None, "conf": {"max_chunks": 0}}).encode())
    assert rejected.value.code in (400, 422)


def test_backtest_from_form_to_page(stream, open_page, browser, login):
    page, inside = open_page("/plugin/detections")
    assert "No backtests yet." in inside.locator("#backtests-table").inner_text()
    inside.get_by_role("link", name="Try other thresholds").click()
    page.wait_for_url(f"{stream.stack.ui_url}/dags/backtest_patterns**")
    page.set_viewport_size({"width": 1280, "height": 1100})
    for value in (15, 20):
        page.goto(f"{stream.stack.ui_url}/dags/backtest_patterns")
        page.get_by_role("button", name="Trigger").first.click()
        field = page.locator("[name=element_child_min_transactions]")
        field.scroll_into_view_if_needed()
        assert field.input_value() == "25"
        assert "Current value: 25. Allowed: a number from 0 to 999999999999" in page.get_by_role("dialog").inner_text()
        picture(page, "backtest-form")
        field.fill(str(value))
        field.blur()
        page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
        wait_for(
            lambda value=value: any(
                row["vars"] == {"child_min_transactions": str(value)}
                for row in stream.api("/tallymark/api/backtests")["rows"]
            ),
            "the backtest",
        )
    latest, first = stream.api("/tallymark/api/backtests")["rows"]
    assert first["totals"]["added"] > latest["totals"]["added"] > 0
    page, _ = open_page("/tallymark/#what-if")
    page.locator("#backtests-table tbody tr").nth(1).get_by_role("link").first.click()
    page.wait_for_url(f"**backtest={first['name']}#backtest")
    page.locator("body[data-ready]").wait_for()
    assert page.locator("#backtest-thresholds strong").inner_text() == "child_min_transactions"
    assert f"{first['totals']['added']}" in page.locator("#backtest-patterns").inner_text()
    page.locator("[data-part=backtest] select").select_option("added")
    page.locator("[data-part=backtest] button").click()
    page.locator("body[data-ready]").wait_for()
    assert "(at least 15 required)" in page.locator("#backtest-detections tbody tr").first.inner_text()
    assert fits(page)
    axe_finds_nothing(page)
    picture(page, "backtest")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download detections.csv").click()
    assert Path(download.value.path()).read_text().startswith("change,pattern_id")
    page.get_by_role("link", name="Compare with the backtest of").click()
    page.wait_for_url(f"**compared={latest['name']}**")
    page.locator("body[data-ready]").wait_for()
    assert "Detections that differ" in page.locator("#backtest-detections caption").inner_text()
    assert "not detected" in page.locator("#backtest-detections tbody").inner_text()


def test_failed_run_and_its_log(stream, browser, login):
    """The last test, because it stops the S3 server. In the grid, runs with a note have a corner in another green."""
    stream.processes["s3"].kill()
    failed = []

    def has_failed() -> bool:
        failed[:] = stream.api("/api/v2/dags/detect_patterns/dagRuns?state=failed")["dag_runs"]
        return bool(failed)

    wait_for(has_failed, "a failed run")
    context = browser.new_context(storage_state=login, viewport={"width": 1500, "height": 800}, locale="en-GB")
    page = context.new_page()
    page.goto(f"{stream.stack.ui_url}/dags/detect_patterns")
    page.get_by_text("wait_for_chunk").first.wait_for()
    page.wait_for_timeout(3_000)
    picture(page, "grid")
    page.set_viewport_size({"width": 1500, "height": 550})
    page.goto(f"{stream.stack.ui_url}/dags/detect_patterns/runs/{failed[0]['dag_run_id']}/tasks/wait_for_chunk")
    # The end of the message: line breaks before it depend on the port of the server.
    last = page.get_by_text("and the network.").last
    last.wait_for()
    page.wait_for_timeout(1_000)
    assert 0 < last.bounding_box()["y"] < 550
    picture(page, "failed")
    context.close()
