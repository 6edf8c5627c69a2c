"""Routes of the Detections page: the HTML, its static files, one JSON endpoint per section, and downloads.

See docs/ui.md.
"""

import tomllib
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
from starlette.exceptions import HTTPException as StarletteHTTPException

from tallymark import __version__
from tallymark.backtest.report import folder
from tallymark.outbox.detections import detection_key
from tallymark.outbox.safe_csv import as_csv
from tallymark.page import runs
from tallymark.page.backlog import Backlog
from tallymark.page.backtests import Backtests
from tallymark.page.login import ask_for_login
from tallymark.page.reader import Reader
from tallymark.patterns import PROJECT_ROOT, explain_evidence, patterns
from tallymark.settings import Settings
from tallymark.store import BucketError, Store

STATIC = Path(__file__).parent / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FILES = {path.name: TYPES[path.suffix] for path in STATIC.iterdir() if path.suffix in TYPES}
PYPROJECT = PROJECT_ROOT / "pyproject.toml"
MODELS = PROJECT_ROOT / "docs" / "models.html"
SAME_ORIGIN_ONLY = {
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
# Newest first. The snapshot limits how many rows each list has.
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
    exception_handlers={StarletteHTTPException: ask_for_login},
)


@lru_cache
def settings() -> Settings:
    """Return the settings, which are read once."""
    return Settings()


def _open_bucket() -> Store:
    from tallymark.on_airflow.bucket import open_bucket

    return open_bucket(settings())


@lru_cache
def project_urls() -> dict[str, str]:
    """Return the links in pyproject.toml; none if the file was not deployed."""
    return tomllib.loads(PYPROJECT.read_text())["project"].get("urls", {}) if PYPROJECT.is_file() else {}


@lru_cache
def reader() -> Reader:
    """Return the snapshot reader that all requests share."""
    return Reader(settings().output_prefix, _open_bucket)


@lru_cache
def backlog() -> Backlog:
    """Return the backlog that all requests share."""
    return Backlog(settings(), reader())


@lru_cache
def backtests() -> Backtests:
    """Return the backtests that all requests share."""
    return Backtests(settings().output_prefix, reader())


def newest_snapshot(shared: Annotated[Reader, Depends(reader)]) -> Reader:
    """Return the shared reader after it has looked for a new snapshot."""
    shared.refresh()
    return shared


Snapshot = Annotated[Reader, Depends(newest_snapshot)]
Text = Annotated[str, Query(max_length=200)]
Page = Annotated[int, Query(ge=1, le=10**6)]
Limit = Annotated[int, Query(ge=1, le=200)]


@app.get("/")
def page() -> FileResponse:
    """Return the page's HTML."""
    return FileResponse(STATIC / "index.html", headers=SAME_ORIGIN_ONLY)


@app.get("/models")
def models() -> FileResponse:
    """Return the dbt documentation that ``make docs`` writes; 404 without it."""
    if not MODELS.is_file():
        raise HTTPException(404, "There is no dbt documentation. Run make docs to write it.")
    policy = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data:; frame-ancestors 'self'"
    return FileResponse(MODELS, headers={"Content-Security-Policy": policy})


@app.get("/static/{name}")
def static(name: str) -> FileResponse:
    """Return a script, the style sheet or an icon."""
    if name not in FILES:
        raise HTTPException(404, f"The page has no file {name}.")
    return FileResponse(STATIC / name, media_type=FILES[name], headers={"Cache-Control": "no-cache"})


@app.get("/api/about")
def about() -> dict[str, Any]:
    """Return Tallymark's version, links to its documentation, and where it expects input."""
    links = dict(project_urls())
    if MODELS.is_file():
        links["dbt documentation"] = "models"
    bucket = f"s3://{settings().bucket}"
    return {
        "version": __version__,
        "documentation": [{"name": name, "address": address} for name, address in links.items()],
        "transactions": f"{bucket}/{settings().transactions_prefix}",
        "customers": f"{bucket}/{settings().customers_prefix}",
    }


@app.get("/api/keeping-up")
def keeping_up(snapshot: Snapshot, chunks: Annotated[Backlog, Depends(backlog)]) -> dict[str, Any]:
    """Return counts of landed, loaded and waiting chunks, landing-to-file times, and the state of the latest runs."""
    return {
        **_about(snapshot),
        **chunks.look(),
        **_first(snapshot.query("from progress")),
        "runs": runs.last_runs(),
        "latency": snapshot.query("from latency"),
        "has_models": MODELS.is_file(),
        "limits": {
            "lag_seconds": settings().lag_limit_seconds,
            "stalled_seconds": settings().stalled_seconds,
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
    """Return detections, newest first, with their evidence in words, and counts by pattern and over time."""
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
    """Return all detections that match the filters, newest first, as CSV."""
    rows = snapshot.query(DETECTIONS, pattern=pattern, merchant=merchant, customer=customer, **_slice())
    return _csv("detections", DETECTION_COLUMNS, (list(_shown(row).values()) for row in rows))


@app.get("/api/merchants")
def merchants(snapshot: Snapshot, merchant: Text = "", page: Page = 1, limit: Limit = 10) -> dict[str, Any]:
    """Return merchants, those with the most transactions first.

    If ``merchant`` equals a merchant's name, ``nearest`` lists who is closest to a detection there.
    """
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
    """Return the ledger, newest first, with open issues, conflicts, rejected rows and importance versions."""
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
    """Return all chunks that match the filters, newest first, as CSV."""
    return _csv("chunks", *snapshot.table(CHUNKS, state=state, chunk=chunk, **_slice()))


@app.get("/api/{listed}.csv")
def list_csv(listed: Literal["open_issues", "conflicts", "rejected_rows"], snapshot: Snapshot) -> StreamingResponse:
    """Return the open issues, conflicts or rejected rows that the snapshot holds, newest first, as CSV."""
    return _csv(listed, *snapshot.table(LISTS[listed], limit=None))


@app.get("/api/backtests")
def list_backtests(shared: Annotated[Backtests, Depends(backtests)], limit: Limit = 10) -> dict[str, Any]:
    """Return the latest backtests with their thresholds and the changes in total and by pattern."""
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
    """Return one backtest, one row per detection; with ``other``, only the detections in which the two differ."""
    with _bucket_errors():
        summaries = [shared.summary(wanted) for wanted in (backtest, other) if wanted]
        if None in summaries:
            raise HTTPException(404, "The bucket has no such backtest.")
        rows = shared.compared(backtest, other) if other else shared.detections(backtest)
    wanted = {"change": change, "pattern_id": pattern, "merchant": merchant}
    chosen = [row for row in rows if all(row[column] == value for column, value in wanted.items() if value)]
    begin = (page - 1) * limit
    return {"backtests": summaries, "found": len(chosen), "rows": chosen[begin : begin + limit]}


@app.get("/files/{key:path}")
def file(key: str, snapshot: Snapshot) -> Response:
    """Return a detection file, a rejection file or a backtest file from the bucket, unchanged."""
    prefix = settings().output_prefix
    if not key.startswith((f"{prefix}detections/", f"{prefix}rejected/", f"{prefix}backtests/")):
        raise HTTPException(404, "Only detection files, rejection files and backtest files can be downloaded here.")
    with _bucket_errors():
        stored = snapshot.find(key)
        if stored is None:
            raise HTTPException(404, f"The bucket has no object {key}.")
        content = snapshot.store.get(stored)
    return _download(iter([content]), key.rpartition("/")[2])


@contextmanager
def _bucket_errors() -> Iterator[None]:
    try:
        yield
    except BucketError as error:
        raise HTTPException(503, str(error)) from error


def _slice(page: int = 1, limit: int | None = None) -> dict[str, int | None]:
    """Return the parameters for one page of a query; without a limit, for all rows."""
    return {"limit": limit, "offset": (page - 1) * (limit or 0)}


def _first(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return rows[0] if rows else {}


def _about(snapshot: Reader) -> dict[str, Any]:
    facts = _first(snapshot.query("from snapshot_facts")) or {"published_at": None, "time_zone": None}
    return {"snapshot": {**facts, "problem": snapshot.problem}}


def _detection_file(number: int | None) -> str | None:
    return detection_key(settings().output_prefix, number) if number else None


def _shown(detection: dict[str, Any]) -> dict[str, Any]:
    """Return a detection with the columns of the API and the CSV file."""
    row = detection | {"evidence": explain_evidence(detection)}
    return {name: row[name] for name in DETECTION_COLUMNS}


def _patterns(snapshot: Reader) -> list[dict[str, Any]]:
    """Return all patterns with their rules under the current thresholds.

    Patterns that are no longer in the project but have detections are included, without a rule.
    """
    counts = {row["pattern_id"]: row for row in snapshot.query("from detections_by_pattern")}
    thresholds = _first(snapshot.query("from thresholds"))
    known = {
        pattern.id: {
            "pattern_id": pattern.id,
            "action_type": pattern.action,
            "rule": pattern.explain_rule(thresholds) if thresholds else None,
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
