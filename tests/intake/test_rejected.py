"""Open issues are the same in alerts, on the page and in the notes of runs."""

import pytest
from support.loading import FIRST, GOOD, DenyingStore, put
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
def stream(page, tmp_path, denying, monkeypatch):
    """A bucket with one good chunk, and the page that shows the runs over it."""
    monkeypatch.setattr("tallymark.page.reader.LOOK_AGAIN_SECONDS", 0)
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    put(denying, "all.csv", IMPORTANCE, "input/customers")
    put(denying, "chunk_0", GOOD)
    yield Stream(settings, denying, Site(page, settings, tmp_path))
    page.app.dependency_overrides = {}


class Stream:
    def __init__(self, settings: Settings, bucket: DenyingStore, site: Site):
        self.settings, self.bucket, self.site = settings, bucket, site

    def issues(self) -> list[tuple[str, str]]:
        """Run the pipeline and return kind and subject of the open issues, which must be the same everywhere."""
        loaded = load_chunks(self.settings, self.bucket)
        build_models(self.settings)
        exported = export.export_detections(self.settings, self.bucket)
        with connect(self.settings, read_only=True) as warehouse:
            conditions = alerts.conditions(self.settings, warehouse)
        publish(self.settings, self.bucket)
        issues = self.site.json("/api/chunks")["open_issues"]
        assert sorted((row["kind"], row["about"], row["message"]) for row in issues) == conditions
        for part in ("keeping-up", "detections", "merchants", "chunks"):
            assert self.site.json(f"/api/{part}")["snapshot"]["open_issues"] == len(issues)
        assert len(self.site.get("/api/open_issues.csv").text.splitlines()) == len(issues) + 1
        number = {0: "", 1: "1 open issue"}.get(len(issues), f"{len(issues)} open issues")
        assert summary(loaded, exported).endswith(f"; {number}: see the Detections page.") == bool(issues)
        return [(row["kind"], row["about"]) for row in issues]


def test_rejected_chunk_is_open_until_corrected(stream):
    assert stream.issues() == []
    put(stream.bucket, "chunk_1", "no header\n")
    put(stream.bucket, "chunk_1.csv", GOOD + "bad\n")
    for content in (None, "no header either\n"):
        if content:
            put(stream.bucket, "chunk_1", content)
        for _ in range(2):
            assert stream.issues() == [("rejected chunk", FIRST)]
    put(stream.bucket, "chunk_1", GOOD)
    assert stream.issues() == []


def test_page_links_to_file_of_rejected_chunk(stream):
    """If several files exist, the page links to the latest one. Long names are truncated."""
    name = "chunk_1".ljust(255, "x")
    put(stream.bucket, "chunk_1", GOOD + "bad\n")
    put(stream.bucket, "chunk_1.csv", "no header\n")
    put(stream.bucket, name, "no header\n")
    stream.issues()
    put(stream.bucket, "chunk_1.csv", "holds,other,columns\n")
    stream.issues()
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


def test_unreadable_chunk_is_open_until_read(stream, monkeypatch):
    monkeypatch.setattr("tallymark.intake.ledger.FIRST_RETRY_SECONDS", 0)
    assert stream.issues() == []
    put(stream.bucket, "chunk_1", GOOD)
    put(stream.bucket, "chunk_2", GOOD)
    stream.bucket.codes[FIRST] = "InvalidObjectState"
    for _ in range(2):
        assert stream.issues() == [("unreadable chunk", FIRST)]
        [row] = stream.site.json("/api/chunks")["open_issues"]
        assert "Restore the object from its archive." in row["message"] and row["seen_at"]
    del stream.bucket.codes[FIRST]
    assert stream.issues() == []


def test_rejected_importance_is_open_until_corrected(stream):
    assert stream.issues() == []
    put(stream.bucket, "all.csv", "no header\n", "input/customers")
    for _ in range(2):
        assert stream.issues() == [("rejected customer importance", "version 2")]
    put(stream.bucket, "all.csv", f"{IMPORTANCE}C2,M1,2\n", "input/customers")
    assert stream.issues() == []


def test_conflict_is_open_for_a_day(stream):
    assert stream.issues() == []
    put(stream.bucket, "chunk_0", GOOD + GOOD.splitlines()[1])
    put(stream.bucket, "chunk_1", "no header\n")
    for _ in range(2):
        assert stream.issues() == [("rejected chunk", FIRST), ("conflict", f"{FIRST[:-1]}0")]
    with connect(stream.settings) as warehouse:
        warehouse.execute("update raw.conflicts set seen_at = seen_at - interval 1 day")
    assert stream.issues() == [("rejected chunk", FIRST)]


def test_issues_beyond_snapshot_limit_are_counted(stream, monkeypatch):
    monkeypatch.setattr(snapshot, "MAX_REJECTED_ROWS", 2)
    for number in range(1, 6):
        put(stream.bucket, f"chunk_{number}", "no header\n")
    load_chunks(stream.settings, stream.bucket)
    build_models(stream.settings)
    assert export.export_detections(stream.settings, stream.bucket)["open_issues"] == 5
    publish(stream.settings, stream.bucket)
    answer = stream.site.json("/api/chunks")
    assert (answer["snapshot"]["open_issues"], len(answer["open_issues"])) == (5, 2)
