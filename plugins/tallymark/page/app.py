"""The routes of the page: HTML, its files, a JSON endpoint behind each part, downloads. See docs/ui.md."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.responses import FileResponse, StreamingResponse

from tallymark.outbox.detections import detection_key
from tallymark.outbox.spreadsheet import defused
from tallymark.page import runs
from tallymark.page.backlog import Backlog
from tallymark.page.reader import Reader
from tallymark.patterns import PROJECT_ROOT, explain_evidence, patterns
from tallymark.settings import Settings
from tallymark.store import BucketError, Store

STATIC = Path(__file__).parent / "static"
FILES = {
    "page.js": "text/javascript",
    "chart.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    "icon-dark.svg": "image/svg+xml",
}
MODELS = PROJECT_ROOT / "docs" / "models.html"
FROM_HERE_ONLY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'self'",
    "Cache-Control": "no-cache",
}
EVERYTHING = 2**62
DETECTION_COLUMNS = (
    *("detection_id", "pattern_id", "action_type", "customer", "merchant", "evidence"),
    *("chunk_seq", "y_started_at", "detected_at", "file_number"),
)
REFUSED = ("refusals", "conflicts", "rejected_rows")
MAX_REFUSED = 50

app = FastAPI(
    title="Tallymark",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[Depends(requires_access_view(AccessView.PLUGINS))],
)


@lru_cache
def settings() -> Settings:
    """The settings, read once."""
    return Settings()


def _open_bucket() -> Store:
    from tallymark.on_airflow.bucket import open_bucket

    return open_bucket(settings())


@lru_cache
def reader() -> Reader:
    """The snapshot, shared by all requests."""
    return Reader(settings(), _open_bucket)


@lru_cache
def backlog() -> Backlog:
    """What is in the bucket and was not taken, shared by all requests."""
    return Backlog(settings(), reader())


Snapshot = Annotated[Reader, Depends(reader)]
Text = Annotated[str, Query(max_length=200)]
Page = Annotated[int, Query(ge=1, le=10**6)]
Limit = Annotated[int, Query(ge=1, le=200)]


@app.get("/")
def page() -> FileResponse:
    """The page itself."""
    return FileResponse(STATIC / "index.html", headers=FROM_HERE_ONLY)


@app.get("/models")
def models() -> FileResponse:
    """The documentation of the dbt project, if ``make docs`` made it."""
    if not MODELS.is_file():
        raise HTTPException(404, "Run make docs first.")
    policy = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data:; frame-ancestors 'self'"
    return FileResponse(MODELS, headers={"Content-Security-Policy": policy})


@app.get("/static/{name}")
def static(name: str) -> FileResponse:
    """Script, style, icons and the chart library."""
    if name not in FILES:
        raise HTTPException(404, "There is no such file.")
    return FileResponse(STATIC / name, media_type=FILES[name], headers={"Cache-Control": "no-cache"})


@app.get("/api/keeping-up")
def keeping_up(snapshot: Snapshot, chunks: Annotated[Backlog, Depends(backlog)]) -> dict[str, Any]:
    """Chunks landed, loaded and waiting, time from landing to file, and what Airflow says of the runs."""
    published = snapshot.is_published()
    numbers = snapshot.query("keeping_up")[0] if published else {}
    return {
        **_about(snapshot),
        **chunks.look(),
        **numbers,
        "runs": runs.last_runs(),
        "latency": snapshot.query("latency") if published else [],
        "has_models": MODELS.is_file(),
        "limits": {
            "lag_seconds": settings().lag_limit_seconds,
            "standstill_seconds": settings().standstill_seconds,
        },
    }


@app.get("/api/detections")
def detections(
    snapshot: Snapshot,
    pattern: Text = "",
    merchant: Text = "",
    customer: Text = "",
    page: Page = 1,
    limit: Limit = 25,
) -> dict[str, Any]:
    """Detections, newest first, with their evidence in words; counts by pattern, and over time."""
    if not snapshot.is_published():
        return {**_about(snapshot), "found": 0, "rows": [], "patterns": [], "over_time": []}
    chosen = {"pattern": pattern, "merchant": merchant, "customer": customer}
    return {
        **_about(snapshot),
        **snapshot.query("detection_count", **chosen)[0],
        "rows": [
            _shown(row) | {"file": _detection_file(row["file_number"])}
            for row in snapshot.query("detections", **chosen, limit=limit, offset=(page - 1) * limit)
        ],
        "patterns": _patterns(snapshot),
        "over_time": snapshot.query("detections_over_time", **chosen),
    }


@app.get("/api/detections.csv")
def detections_csv(
    snapshot: Snapshot, pattern: Text = "", merchant: Text = "", customer: Text = ""
) -> StreamingResponse:
    """All detections that the filters leave, newest first."""
    chosen = {"pattern": pattern, "merchant": merchant, "customer": customer}
    rows = snapshot.query("detections", **chosen, limit=EVERYTHING, offset=0) if snapshot.is_published() else []
    return _csv("detections", DETECTION_COLUMNS, (list(_shown(row).values()) for row in rows))


@app.get("/api/merchants")
def merchants(snapshot: Snapshot, merchant: Text = "", page: Page = 1, limit: Limit = 10) -> dict[str, Any]:
    """Merchants, those with most transactions first; if ``merchant`` is the name of one, who is nearest there."""
    if not snapshot.is_published():
        return {**_about(snapshot), "found": 0, "rows": [], "nearest": []}
    rows = snapshot.query("merchants", merchant=merchant, limit=limit, offset=(page - 1) * limit)
    return {
        **_about(snapshot),
        "found": rows[0]["found"] if rows else 0,
        "rows": [{name: value for name, value in row.items() if name != "found"} for row in rows],
        "nearest": [
            {name: row[name] for name in ("pattern_id", "action_type", "customer", "chunk_seq")}
            | {"evidence": explain_evidence(row)}
            for row in snapshot.query("nearest", merchant=merchant)
        ],
    }


@app.get("/api/chunks")
def chunks(snapshot: Snapshot, state: Text = "", chunk: Text = "", page: Page = 1, limit: Limit = 25) -> dict[str, Any]:
    """The ledger, newest first, what is to be put right, and the latest of what was refused."""
    if not snapshot.is_published():
        return {**_about(snapshot), "found": 0, "rows": [], **{name: [] for name in REFUSED}, "importance": []}
    chosen = {"state": state, "chunk": chunk}
    return {
        **_about(snapshot),
        **snapshot.query("chunk_count", **chosen)[0],
        "totals": snapshot.query("arrived")[0],
        "rows": snapshot.query("chunks", **chosen, limit=limit, offset=(page - 1) * limit),
        **{name: snapshot.query(name, limit=MAX_REFUSED) for name in REFUSED},
        "importance": snapshot.query("importance"),
    }


@app.get("/api/chunks.csv")
def chunks_csv(snapshot: Snapshot, state: Text = "", chunk: Text = "") -> StreamingResponse:
    """All chunks that the filters leave, newest first."""
    return _table(snapshot, "chunks", state=state, chunk=chunk, limit=EVERYTHING, offset=0)


@app.get("/api/refusals.csv")
def refusals_csv(snapshot: Snapshot) -> StreamingResponse:
    """What is to be put right, the latest first, as many as the snapshot has."""
    return _table(snapshot, "refusals", limit=EVERYTHING)


@app.get("/api/conflicts.csv")
def conflicts_csv(snapshot: Snapshot) -> StreamingResponse:
    """The latest conflicts, as many as the snapshot has."""
    return _table(snapshot, "conflicts", limit=EVERYTHING)


@app.get("/api/rejected_rows.csv")
def rejected_rows_csv(snapshot: Snapshot) -> StreamingResponse:
    """The latest rejected rows, as many as the snapshot has; each chunk's file has all of its own."""
    return _table(snapshot, "rejected_rows", limit=EVERYTHING)


@app.get("/files/{key:path}")
def file(key: str, snapshot: Snapshot) -> Response:
    """A file of detections or of rejected rows, as it is in the bucket."""
    prefix = settings().output_prefix
    if not key.startswith((f"{prefix}detections/", f"{prefix}rejected/")):
        raise HTTPException(404, "Only files of detections and of rejected rows can be had here.")
    try:
        stored = next((found for found in snapshot.store.list(key) if found.key == key), None)
        content = stored and snapshot.store.get(stored)
    except BucketError as error:
        raise HTTPException(503, str(error)) from error
    if content is None:
        raise HTTPException(404, "There is no such file in the bucket.")
    return _download(iter([content]), key.rpartition("/")[2])


def _about(snapshot: Reader) -> dict[str, Any]:
    about = snapshot.query("about")[0] if snapshot.is_published() else {"published_at": None, "time_zone": None}
    return {"snapshot": {**about, "problem": snapshot.problem}}


def _detection_file(number: int | None) -> str | None:
    return number and detection_key(settings().output_prefix, number)


def _shown(detection: dict[str, Any]) -> dict[str, Any]:
    """A detection as API and CSV have it."""
    row = detection | {"evidence": explain_evidence(detection)}
    return {name: row[name] for name in DETECTION_COLUMNS}


def _patterns(snapshot: Reader) -> list[dict[str, Any]]:
    """All patterns with their rule under the thresholds in force, and any other that was detected."""
    counts = {row["pattern_id"]: row for row in snapshot.query("patterns")}
    in_force = next(iter(snapshot.query("thresholds")), None)
    known = {
        pattern.id: {
            "pattern_id": pattern.id,
            "action_type": pattern.action,
            "rule": pattern.explain_rule(in_force) if in_force else None,
            "detections": 0,
        }
        for pattern in patterns()
    }
    return [known.get(id, {"rule": None}) | counts.get(id, {}) for id in sorted(known | counts)]


def _table(snapshot: Reader, name: str, **parameters: Any) -> StreamingResponse:
    columns, rows = snapshot.table(name, **parameters) if snapshot.is_published() else ([], [])
    return _csv(name, columns, rows)


def _csv(name: str, columns: Sequence[str], rows: Iterable[list[Any]]) -> StreamingResponse:
    lines = chain([columns], rows)
    return _download(iter(lambda: _csv_lines(islice(lines, 1000)), b""), f"{name}.csv")


def _csv_lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([defused(value) if isinstance(value, str) else value for value in row] for row in rows)
    return text.getvalue().encode()


def _download(content: Iterator[bytes], name: str) -> StreamingResponse:
    quoted = "".join(character if character.isalnum() or character in "._-" else "_" for character in name)
    headers = {
        "Content-Disposition": f'attachment; filename="{quoted.encode("ascii", "replace").decode().replace("?", "_")}"',
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(content, media_type="text/csv; charset=utf-8", headers=headers)
