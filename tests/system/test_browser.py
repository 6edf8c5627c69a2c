"""The page Detections in a browser, inside the UI of a real Airflow with a real S3 server behind it.

``TALLYMARK_SCREENSHOTS=1`` writes the pictures of the documentation on the way.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.servers import Mailbox, SmtpServer
from support.streams import HEADER
from support.waiting import wait_for
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
PARTS = [
    "Is it keeping up?",
    "What did it find?",
    "What about this merchant?",
    "What if the thresholds were different?",
    "What came in, and what was rejected?",
]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
PICTURES = PROJECT_ROOT / "docs" / "images" if os.environ.get("TALLYMARK_SCREENSHOTS") else None

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM, reason="There is no browser: install Debian's package chromium"),
]


class Site:
    """A running stack, somebody who is logged in, and the mails that alerts sent."""

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
    """A stack to which nothing has landed yet."""
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


@pytest.fixture(scope="module")
def login(site, browser):
    """Cookies of somebody who logged in through the form."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(site.stack.ui_url)
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", site.stack.password)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Detections", exact=True).wait_for()
    yield context.storage_state()
    context.close()


@pytest.fixture
def open_page(site, browser, login):
    """Opens the page, alone or inside Airflow; gives the page and what the detections are in. No script may fail."""
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
    """The site after a stream of good chunks, one with bad rows, one that is bad, and one that came back changed."""
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
    wait_for(lambda: site.chunks_done() == CHUNKS + 1, "the bad chunk")
    return site


def axe_finds_nothing(page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found] == []


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def picture(page, name: str) -> None:
    if PICTURES:
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURES / f"{name}.png")


def test_empty_states(site, open_page):
    page, _ = open_page("/tallymark/")
    assert "Nothing has landed yet" in page.locator("#sign").inner_text()
    assert "There are no results yet" in page.locator("#found-table").inner_text()
    assert page.locator("#open-issues-line").is_hidden()
    assert "No chunk has been taken yet." in page.locator("#chunks-table").inner_text()
    axe_finds_nothing(page)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{site.stack.ui_url}/tallymark/api/detections", timeout=10)
    assert refused.value.code == 401


def test_from_navigation_to_one_detection(stream, open_page):
    """As somebody would who has read nothing: from Airflow's start page on, in words that say why."""
    page, inside = open_page("/plugin/detections")
    assert [inside.locator("h2").nth(n).inner_text() for n in range(len(PARTS))] == PARTS
    assert inside.locator("#sign").inner_text().startswith(("Keeping up", "Slow"))
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
    assert "Nearest to a detection" in inside.locator("#merchant").inner_text()
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
    "tried again": (
        {"runs": QUIET | {"running": ENDED | {"tasks": {"build": "up_for_retry"}}}},
        "nothing is exported until it passes",
    ),
    "paused": ({"runs": QUIET | {"is_paused": True}}, "Paused"),
    "behind": (
        {"runs": QUIET, "waiting": 1, "oldest_waits_seconds": 300},
        "Fallen behind: the oldest of 1 waiting chunk",
    ),
    "still": (
        {"runs": QUIET, "waiting": 0, "nothing_landed_for_seconds": 4000},
        "stands still: the last chunk landed 67",
    ),
    "slow": ({"runs": QUIET, "p95_seconds": 200}, "Slow: one chunk in twenty took more than 3 min"),
    "S3 away": ({"runs": QUIET, "listing_problem": "Could not list input"}, "Could not list input"),
    "too many": ({"runs": QUIET, "waiting": 0, "listing_is_cut": True}, "the backlog is unknown"),
    "well": ({"runs": QUIET, "waiting": 0, "nothing_landed_for_seconds": 5, "p95_seconds": 9}, "Keeping up"),
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
        for link in links:
            assert link.startswith("../dags/detect_patterns/runs/r%201/tasks/"), case


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
    picture(page, "refused")
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
def test_open_issues_are_in_sight_in_every_part(stream, open_page, size):
    page, _ = open_page("/tallymark/", size=size)
    line = page.locator("#open-issues-line")
    assert line.inner_text() == "2 open issues. See which, and what to do"
    for part in PARTS:
        page.get_by_role("heading", name=part).evaluate("element => element.scrollIntoView()")
        shown = line.bounding_box()
        assert shown["y"] >= 0 and shown["y"] + shown["height"] <= size["height"]
        assert page.get_by_role("heading", name=part).bounding_box()["y"] >= shown["y"] + shown["height"]
    line.get_by_role("link").click()
    heading = page.get_by_role("heading", name="Open issues").bounding_box()
    assert line.bounding_box()["y"] < heading["y"] < size["height"]
    rows = page.locator("#open-issues-table tbody").inner_text()
    assert "chunk_11" in rows and "header lacks gender, amount" in rows and "chunk_3" in rows
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the reason why input/transactions/chunk_11 was rejected").click()
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
    with pytest.raises(urllib.error.HTTPError) as refused:
        stream.api(path, json.dumps({"logical_date": None, "conf": {"max_chunks": 0}}).encode())
    assert refused.value.code in (400, 422)


def test_backtest_from_form_to_page(stream, open_page, browser, login):
    page, _ = open_page("/tallymark/")
    assert "None yet." in page.locator("#backtests-table").inner_text()
    page.get_by_role("link", name="Try other thresholds").click()
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
    assert "Detections that differ between the two" in page.locator("#backtest-detections caption").inner_text()
    assert "not detected" in page.locator("#backtest-detections tbody").inner_text()


def test_failed_run_and_its_log(stream, browser, login):
    """The last test, as it takes the S3 server away. The grid shows runs with a note by a corner in another green."""
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
    # How the lines are wrapped depends on the port of the server.
    last = page.get_by_text("and the network.").last
    last.wait_for()
    page.wait_for_timeout(1_000)
    assert 0 < last.bounding_box()["y"] < 550
    picture(page, "failed")
    context.close()
