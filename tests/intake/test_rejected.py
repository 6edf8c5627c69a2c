"""Open issues are the same in alerts, on the page and in the notes of runs."""

import pytest
from support.loading import FIRST, GOOD, Refusing, put
from support.site import Site, publish
from tallymark.on_airflow.run_note import summary
from tallymark.pipeline import export
from tallymark.pipeline.build import build_models
from tallymark.pipeline.load import load_chunks
from tallymark.publish import alerts, snapshot
from tallymark.settings import Settings
from tallymark.warehouse.connection import connect

IMPORTANCE = "Source,Target,Weight\nC1,M1,1\n"


@pytest.fixture
def stream(page, tmp_path, refusing, monkeypatch):
    """What somebody sees after a run over a bucket of one good chunk."""
    monkeypatch.setattr("tallymark.page.reader.LOOK_AGAIN_SECONDS", 0)
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    put(refusing, "all.csv", IMPORTANCE, "input/customers")
    put(refusing, "chunk_0", GOOD)
    yield Stream(settings, refusing, Site(page, settings, tmp_path))
    page.app.dependency_overrides = {}


class Stream:
    def __init__(self, settings: Settings, bucket: Refusing, site: Site):
        self.settings, self.bucket, self.site = settings, bucket, site

    def seen(self) -> list[tuple[str, str]]:
        """Kind and object of what a run says is to be put right, the same everywhere."""
        loaded = load_chunks(self.settings, self.bucket)
        build_models(self.settings)
        exported = export.export_detections(self.settings, self.bucket)
        with connect(self.settings, read_only=True) as warehouse:
            conditions = alerts.conditions(self.settings, warehouse)
        publish(self.settings, self.bucket)
        refusals = self.site.json("/api/chunks")["open_issues"]
        assert sorted((row["kind"], row["about"], row["message"]) for row in refusals) == conditions
        for part in ("keeping-up", "detections", "merchants", "chunks"):
            assert self.site.json(f"/api/{part}")["snapshot"]["open_issues"] == len(refusals)
        assert len(self.site.get("/api/open_issues.csv").text.splitlines()) == len(refusals) + 1
        number = {0: "", 1: "1 open issue"}.get(len(refusals), f"{len(refusals)} open issues")
        assert summary(loaded, exported).endswith(f"; {number}: see the Detections page.") == bool(refusals)
        return [(row["kind"], row["about"]) for row in refusals]


def test_a_chunk_that_is_rejected_whole_until_another_is_accepted_under_its_key(stream):
    assert stream.seen() == []
    put(stream.bucket, "chunk_1", "no header\n")
    put(stream.bucket, "chunk_1.csv", GOOD + "bad\n")
    for content in (None, "no header either\n"):
        if content:
            put(stream.bucket, "chunk_1", content)
        for _ in range(2):
            assert stream.seen() == [("rejected chunk", FIRST)]
    put(stream.bucket, "chunk_1", GOOD)
    assert stream.seen() == []


def test_the_page_links_to_the_reason_whatever_its_file_is_called(stream):
    """The last one, if there are several; a long name is cut."""
    name = "chunk_1".ljust(255, "x")
    put(stream.bucket, "chunk_1", GOOD + "bad\n")
    put(stream.bucket, "chunk_1.csv", "no header\n")
    put(stream.bucket, name, "no header\n")
    stream.seen()
    put(stream.bucket, "chunk_1.csv", "holds,other,columns\n")
    stream.seen()
    answer = stream.site.json("/api/chunks")
    files = {row["about"]: row["rejected_file"] for row in answer["open_issues"]}
    assert files == {
        f"{FIRST}.csv": "output/rejected/chunk_1-5.csv",
        f"input/transactions/{name}": f"output/rejected/{name[:249]}-4.csv",
    }
    assert {row["chunk_seq"]: row["rejected_file"] for row in answer["rows"]} == {
        1: None,
        2: "output/rejected/chunk_1.csv",
        3: "output/rejected/chunk_1-3.csv",
        4: f"output/rejected/{name[:249]}-4.csv",
        5: "output/rejected/chunk_1-5.csv",
    }
    assert "'holds,other,columns'" in stream.site.get(f"/files/{files[f'{FIRST}.csv']}").text


def test_an_unreadable_chunk_until_it_is_read(stream, monkeypatch):
    monkeypatch.setattr("tallymark.intake.ledger.FIRST_RETRY_SECONDS", 0)
    assert stream.seen() == []
    put(stream.bucket, "chunk_1", GOOD)
    put(stream.bucket, "chunk_2", GOOD)
    stream.bucket.codes[FIRST] = "InvalidObjectState"
    for _ in range(2):
        assert stream.seen() == [("unreadable chunk", FIRST)]
        [row] = stream.site.json("/api/chunks")["open_issues"]
        assert "Restore the object from its archive." in row["message"] and row["seen_at"]
    del stream.bucket.codes[FIRST]
    assert stream.seen() == []


def test_a_customer_importance_that_is_rejected_until_a_good_one_is_found(stream):
    assert stream.seen() == []
    put(stream.bucket, "all.csv", "no header\n", "input/customers")
    for _ in range(2):
        assert stream.seen() == [("rejected customer importance", "version 2")]
    put(stream.bucket, "all.csv", f"{IMPORTANCE}C2,M1,2\n", "input/customers")
    assert stream.seen() == []


def test_a_conflict_for_a_day(stream):
    assert stream.seen() == []
    put(stream.bucket, "chunk_0", GOOD + GOOD.splitlines()[1])
    put(stream.bucket, "chunk_1", "no header\n")
    for _ in range(2):
        assert stream.seen() == [("rejected chunk", FIRST), ("conflict", f"{FIRST[:-1]}0")]
    with connect(stream.settings) as warehouse:
        warehouse.execute("update raw.conflicts set seen_at = seen_at - interval 1 day")
    assert stream.seen() == [("rejected chunk", FIRST)]


def test_more_than_the_snapshot_keeps_are_counted(stream, monkeypatch):
    monkeypatch.setattr(snapshot, "MAX_REJECTED_ROWS", 2)
    for number in range(1, 6):
        put(stream.bucket, f"chunk_{number}", "no header\n")
    load_chunks(stream.settings, stream.bucket)
    build_models(stream.settings)
    assert export.export_detections(stream.settings, stream.bucket)["open_issues"] == 5
    publish(stream.settings, stream.bucket)
    answer = stream.site.json("/api/chunks")
    assert (answer["snapshot"]["open_issues"], len(answer["open_issues"])) == (5, 2)
