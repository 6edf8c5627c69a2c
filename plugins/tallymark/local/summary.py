"""Progress of a stack, checks of its output, and a summary for users."""

import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import duckdb

from tallymark.intake.chunks import find_chunks
from tallymark.intake.listing import unknown_chunks
from tallymark.outbox.detections import COLUMNS, ROWS_PER_FILE, detection_key
from tallymark.patterns import patterns
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.warehouse.connection import fetch_row, run_sql
from tallymark.warehouse.ledger_index import LedgerIndex


@dataclass(frozen=True)
class Progress:
    """Counts of chunks, detections and files. ``finished`` means that no loaded chunk waits for its export."""

    landed: int
    loaded: int
    detections: int
    files: int
    finished: bool


def progress(settings: Settings, store: Store) -> Progress:
    """Return the progress according to the bucket and the ledger index."""
    chunks = find_chunks(store.list(settings.transactions_prefix), settings.transactions_prefix)
    index = LedgerIndex(settings.warehouse, settings.limits)
    waiting = unknown_chunks(index, chunks)
    files = list(store.list(f"{settings.output_prefix}detections/"))
    return Progress(
        landed=len(chunks),
        loaded=len(chunks) - len(waiting),
        detections=sum(store.get(file).count(b"\n") - 1 for file in files),
        files=len(files),
        finished=not index.is_open(),
    )


def problems(settings: Settings, bucket: Path, expected_chunks: int) -> list[str]:
    """Check the ledger and the detection files, and describe every problem."""
    found = []
    with duckdb.connect(str(settings.warehouse), read_only=True) as warehouse:
        (accepted,) = fetch_row(warehouse, "select count(*) from raw.chunks where state = 'accepted'")
        rejected = warehouse.execute(
            "select chunk_key, reason from raw.chunks where state = 'rejected' order by chunk_seq"
        ).fetchall()
        detections = warehouse.execute(
            "select pattern_id, action_type, customer, merchant from detections order by detection_id"
        ).fetchall()
    if accepted != expected_chunks:
        found.append(f"Accepted chunks: {accepted} of {expected_chunks}")
    found += [f"Chunk {key} was rejected: {reason}" for key, reason in rejected]
    rows = []
    files = sorted((bucket / settings.output_prefix / "detections").glob("*"))
    for number, file in enumerate(files, start=1):
        with file.open(newline="") as opened:
            header, *lines = csv.reader(opened)
        if file.relative_to(bucket).as_posix() != detection_key(settings.output_prefix, number):
            found.append(f"{file.name} is out of sequence: it should be file number {number}")
        if tuple(header) != COLUMNS or not 0 < len(lines) <= ROWS_PER_FILE:
            found.append(f"{file.name} is not a valid detection file: {len(lines)} rows, header {header}")
        rows += [tuple(line[2:]) for line in lines]
    if rows != detections:
        found.append(f"Detection files and warehouse differ: {len(rows)} rows in files, {len(detections)} detections")
    return found


def report(settings: Settings, bucket: Path, durations: dict[str, list[float]]) -> str:
    """Return the summary: detections by pattern, rejected rows, landing-to-file times, times by step, and paths.

    Args:
        durations: durations, in seconds, of tasks in runs with work, by task in DAG order.
    """
    with duckdb.connect(str(settings.warehouse), read_only=True) as warehouse:
        counts = dict(warehouse.execute("select pattern_id, count(*) from detections group by pattern_id").fetchall())
        (rejected,) = fetch_row(warehouse, "select coalesce(sum(rows_rejected), 0)::bigint from raw.chunks")
        run_sql(warehouse, "publish/landing_to_file")
        chunks, p50, p95, slowest = fetch_row(
            warehouse,
            """
            select count(*), quantile_cont(seconds, 0.5), quantile_cont(seconds, 0.95), max(seconds)
            from landing_to_file
            where state = 'accepted'
            """,
        )
    lines = ["", "Detections:"]
    lines += [f"  {pattern.id} {pattern.action:<11} {counts.get(pattern.id, 0):5d}" for pattern in patterns()]
    if rejected:
        lines.append(f"Rejected rows: {rejected}, listed in {bucket / settings.output_prefix / 'rejected'}")
    lines.append(
        f"Landing-to-file time ({'1 chunk' if chunks == 1 else f'{chunks} chunks'}): "
        f"median {p50:.1f} s, p95 {p95:.1f} s, maximum {slowest:.1f} s"
    )
    times = ", ".join(f"{task} {fmean(seconds):.1f} s" for task, seconds in durations.items())
    lines.append(f"Micro-batches: {max(map(len, durations.values()), default=0)}; average time: {times}")
    lines.append(f"Detection files: {bucket / settings.output_prefix / 'detections'}")
    lines.append(f"Warehouse: {settings.warehouse}")
    return "\n".join(lines)
