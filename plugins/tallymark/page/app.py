"""The routes of the page: HTML, its files, a JSON endpoint behind each part, downloads. See docs/ui.md."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.responses import FileResponse, StreamingResponse

from tallymark.backtest.report import folder
from tallymark.outbox.detections import detection_key
from tallymark.outbox.safe_csv import as_csv
from tallymark.page import runs
from tallymark.page.backlog import Backlog
from tallymark.page.backtests import Backtests
from tallymark.page.reader import Reader
from tallymark.patterns import PROJECT_ROOT, explain_evidence, patterns
from tallymark.settings import Settings
from tallymark.store import BucketError, Store

STATIC = Path(__file__).parent / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FILES = {path.name: TYPES[path.suffix] for path in STATIC.iterdir() if path.suffix in TYPES}
MODELS = PROJECT_ROOT / "docs" / "models.html"
FROM_HERE_ONLY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'self'",
    "Cache-Control": "no-cache",
}

DETECTIONS = """
    from matching_detections($pattern, $merchant, $customer)
    order by detection_id desc
    limit $limit offset $offset
"""
DETECTION_COUNT = "select count(*) from matching_detections($pattern, $merchant, $customer)"
DETECTIONS_OVER_TIME = "from detections_over_time($pattern, $merchant, $customer)"
MERCHANTS = "from matching_merchants($merchant) order by transactions desc, merchant limit $limit offset $offset"
MERCHANT_COUNT = "select count(*) from matching_merchants($merchant)"
NEAREST = "from nearest cross join thresholds where merchant = $merchant order by pattern_id, distance, customer"
CHUNKS = "from matching_chunks($state, $chunk) order by chunk_seq desc limit $limit offset $offset"
CHUNK_COUNT = "select count(*) from matching_chunks($state, $chunk)"
# What did not count, the latest first, as many as the snapshot has.
LISTS = {
    "open_issues": "from open_issues limit $limit",
    "conflicts": "from conflicts_with_etags limit $limit",
    "rejected_rows": "from rejected_rows limit $limit",
}
LISTED = 50
DETECTION_COLUMNS = (
    *("detection_id", "pattern_id", "action_type", "customer", "merchant", "evidence"),
    *("chunk_seq", "y_started_at", "detected_at", "file_number"),
)

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
    """The reader of the snapshot, shared by all requests."""
    return Reader(settings().output_prefix, _open_bucket)


@lru_cache
def backlog() -> Backlog:
    """What is in the bucket and was not taken, shared by all requests."""
    return Backlog(settings(), reader())


@lru_cache
def backtests() -> Backtests:
    """The backtests in the bucket, shared by all requests."""
    return Backtests(settings().output_prefix, reader())


def newest_snapshot(shared: Annotated[Reader, Depends(reader)]) -> Reader:
    """The reader, brought up to date for a request."""
    shared.refresh()
    return shared


Snapshot = Annotated[Reader, Depends(newest_snapshot)]
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
    """Scripts, style, icons and the chart library."""
    if name not in FILES:
        raise HTTPException(404, "There is no such file.")
    return FileResponse(STATIC / name, media_type=FILES[name], headers={"Cache-Control": "no-cache"})


@app.get("/api/keeping-up")
def keeping_up(snapshot: Snapshot, chunks: Annotated[Backlog, Depends(backlog)]) -> dict[str, Any]:
    """Chunks landed, loaded and waiting, landing-to-file times, and what Airflow says of the runs."""
    return {
        **_about(snapshot),
        **chunks.look(),
        **_first(snapshot.query("from progress")),
        "runs": runs.last_runs(),
        "latency": snapshot.query("from latency"),
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
    chosen = {"pattern": pattern, "merchant": merchant, "customer": customer}
    return {
        **_about(snapshot),
        "found": snapshot.count(DETECTION_COUNT, **chosen),
        "rows": [
            _shown(row) | {"file": _detection_file(row["file_number"])}
            for row in snapshot.query(DETECTIONS, **chosen, **_slice(page, limit))
        ],
        "patterns": _patterns(snapshot),
        "over_time": snapshot.query(DETECTIONS_OVER_TIME, **chosen),
    }


@app.get("/api/detections.csv")
def detections_csv(
    snapshot: Snapshot, pattern: Text = "", merchant: Text = "", customer: Text = ""
) -> StreamingResponse:
    """All detections that the filters leave, newest first."""
    rows = snapshot.query(DETECTIONS, pattern=pattern, merchant=merchant, customer=customer, **_slice())
    return _csv("detections", DETECTION_COLUMNS, (list(_shown(row).values()) for row in rows))


@app.get("/api/merchants")
def merchants(snapshot: Snapshot, merchant: Text = "", page: Page = 1, limit: Limit = 10) -> dict[str, Any]:
    """Merchants, those with most transactions first; if ``merchant`` is the name of one, who is nearest there."""
    return {
        **_about(snapshot),
        "found": snapshot.count(MERCHANT_COUNT, merchant=merchant),
        "rows": snapshot.query(MERCHANTS, merchant=merchant, **_slice(page, limit)),
        "nearest": [
            {name: row[name] for name in ("pattern_id", "action_type", "customer", "chunk_seq")}
            | {"evidence": explain_evidence(row)}
            for row in snapshot.query(NEAREST, merchant=merchant)
        ],
    }


@app.get("/api/chunks")
def chunks(snapshot: Snapshot, state: Text = "", chunk: Text = "", page: Page = 1, limit: Limit = 25) -> dict[str, Any]:
    """The ledger, newest first, open issues, and the latest of what did not count."""
    chosen = {"state": state, "chunk": chunk}
    return {
        **_about(snapshot),
        "found": snapshot.count(CHUNK_COUNT, **chosen),
        "totals": _first(snapshot.query("from totals")),
        "rows": snapshot.query(CHUNKS, **chosen, **_slice(page, limit)),
        **{name: snapshot.query(rows, limit=LISTED) for name, rows in LISTS.items()},
        "importance": snapshot.query("from importance_versions"),
    }


@app.get("/api/chunks.csv")
def chunks_csv(snapshot: Snapshot, state: Text = "", chunk: Text = "") -> StreamingResponse:
    """All chunks that the filters leave, newest first."""
    return _csv("chunks", *snapshot.table(CHUNKS, state=state, chunk=chunk, **_slice()))


@app.get("/api/{listed}.csv")
def list_csv(listed: Literal["open_issues", "conflicts", "rejected_rows"], snapshot: Snapshot) -> StreamingResponse:
    """Open issues, conflicts or rejected rows, as many as the snapshot has; each chunk's file has all of its own."""
    return _csv(listed, *snapshot.table(LISTS[listed], limit=None))


@app.get("/api/backtests")
def list_backtests(shared: Annotated[Backtests, Depends(backtests)], limit: Limit = 10) -> dict[str, Any]:
    """The latest backtests: thresholds side by side, and what they would change in all and by pattern."""
    with _bucket_errors():
        found, rows = shared.latest(limit)
    return {"found": found, "rows": rows, "folder": folder(settings().output_prefix)}


@app.get("/api/backtests/{backtest}")
def one_backtest(
    backtest: str,
    shared: Annotated[Backtests, Depends(backtests)],
    other: Text = "",
    change: Text = "",
    pattern: Text = "",
    merchant: Text = "",
    page: Page = 1,
    limit: Limit = 25,
) -> dict[str, Any]:
    """One backtest and what it would change, a row for each detection; with ``other``, where the two differ."""
    with _bucket_errors():
        summaries = [shared.summary(wanted) for wanted in (backtest, other) if wanted]
        if None in summaries:
            raise HTTPException(404, "There is no such backtest in the bucket.")
        rows = shared.compared(backtest, other) if other else shared.detections(backtest)
    wanted = {"change": change, "pattern_id": pattern, "merchant": merchant}
    chosen = [row for row in rows if all(row[column] == value for column, value in wanted.items() if value)]
    begin = (page - 1) * limit
    return {"backtests": summaries, "found": len(chosen), "rows": chosen[begin : begin + limit]}


@app.get("/files/{key:path}")
def file(key: str, snapshot: Snapshot) -> Response:
    """A file of detections, of rejected rows or of a backtest, as it is in the bucket."""
    prefix = settings().output_prefix
    if not key.startswith((f"{prefix}detections/", f"{prefix}rejected/", f"{prefix}backtests/")):
        raise HTTPException(404, "Only files of detections, of rejected rows and of backtests can be had here.")
    with _bucket_errors():
        stored = snapshot.find(key)
        if stored is None:
            raise HTTPException(404, "There is no such file in the bucket.")
        content = snapshot.store.get(stored)
    return _download(iter([content]), key.rpartition("/")[2])


@contextmanager
def _bucket_errors() -> Iterator[None]:
    try:
        yield
    except BucketError as error:
        raise HTTPException(503, str(error)) from error


def _slice(page: int = 1, limit: int | None = None) -> dict[str, int | None]:
    """Parameters for one page of a query; without a limit, for all of it."""
    return {"limit": limit, "offset": (page - 1) * (limit or 0)}


def _first(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return rows[0] if rows else {}


def _about(snapshot: Reader) -> dict[str, Any]:
    facts = _first(snapshot.query("from snapshot_facts")) or {"published_at": None, "time_zone": None}
    return {"snapshot": {**facts, "problem": snapshot.problem}}


def _detection_file(number: int | None) -> str | None:
    return detection_key(settings().output_prefix, number) if number else None


def _shown(detection: dict[str, Any]) -> dict[str, Any]:
    """A detection as API and CSV have it."""
    row = detection | {"evidence": explain_evidence(detection)}
    return {name: row[name] for name in DETECTION_COLUMNS}


def _patterns(snapshot: Reader) -> list[dict[str, Any]]:
    """All patterns with their rule under the thresholds in force, and any other that was detected."""
    counts = {row["pattern_id"]: row for row in snapshot.query("from detections_by_pattern")}
    in_force = _first(snapshot.query("from thresholds"))
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


def _csv(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> StreamingResponse:
    lines = chain([columns], rows)
    return _download(iter(lambda: as_csv(islice(lines, 1000)), b""), f"{name}.csv")


def _download(content: Iterator[bytes], name: str) -> StreamingResponse:
    quoted = "".join(character if character.isalnum() or character in "._-" else "_" for character in name)
    headers = {
        "Content-Disposition": f'attachment; filename="{quoted.encode("ascii", "replace").decode().replace("?", "_")}"',
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(content, media_type="text/csv; charset=utf-8", headers=headers)
