"""The warehouse made again from the bucket: from the chunks, and from the manifests of what went out.

What the manifests say was taken gets the numbers that it had; what they say was detected is written down, not
detected again; detection files are announced by them, so none is written twice. A chunk that no manifest names was
never exported; the next run takes it. Everything is made in a file aside, and moved into place at the end.

Where rows are lost for good, a chunk or a version of the customer importance, the audit takes what was detected up to
there as given: it recomputes only chunks that have a row in ``chunk_thresholds``.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from tallymark.errors import UserError
from tallymark.intake.chunks import Chunk, find_chunks
from tallymark.intake.csv_lines import CsvObject
from tallymark.intake.errors import RejectedError
from tallymark.intake.importance import ImportanceLoader
from tallymark.intake.ledger import create_ledger_views
from tallymark.intake.reading import fetch_chunk
from tallymark.intake.rejected import RejectedFiles
from tallymark.intake.rows import TRANSACTIONS, insert_transactions, validated
from tallymark.outbox import manifest
from tallymark.outbox.detections import detections_csv, read_detections
from tallymark.outbox.planned_files import plan, put_planned
from tallymark.pipeline.build import build_models
from tallymark.progress import Show, ignore
from tallymark.recovery.replacement import replacement
from tallymark.settings import Settings
from tallymark.store import Get, ObjectChangedError, Store, UnreadableError
from tallymark.store.ahead import fetched_ahead
from tallymark.warehouse.connection import as_utc, connect, fetch_row, transaction, utc_now

log = logging.getLogger(__name__)

INSERT_CHUNKS = "insert into raw.chunks by name select unnest($rows, recursive := true)"
INSERT_THRESHOLDS = "insert into chunk_thresholds by name select unnest($rows, recursive := true)"
INSERT_DETECTIONS = "insert into detections by name select unnest($rows, recursive := true)"

# What was taken once is taken again, whatever the limits are now.
UNLIMITED = 2**62

MISSING = "was missing or changed when the warehouse was made again"


class RebuildError(UserError, RuntimeError):
    """The bucket does not hold what the manifests name; nothing was changed."""


def rebuild(settings: Settings, store: Store, without_missing: bool = False, show: Show = ignore) -> dict[str, int]:
    """Make the warehouse again; one that is there is kept beside it as ``<name>.before_rebuild``.

    Args:
        without_missing: go on without chunks that are missing or were changed since they were taken. Their rows no
            longer count, which the ledger says; detections that they led to stay.

    Returns:
        How many ``chunks``, ``detections`` and ``files`` it holds.

    Raises:
        ManifestError: when manifests are missing or were changed.
        RebuildError: naming the chunks that are missing or were changed, or one whose rows are accepted differently.
        WarehouseError: when another process has the warehouse open, or the machine failed, as with a full disk.
    """
    manifests = list(manifest.read_all(store, settings.output_prefix))
    if not manifests:
        raise RebuildError("The bucket holds no manifest, so nothing was ever exported: start with no warehouse at all")
    in_bucket = find_chunks(store.list(settings.transactions_prefix), settings.transactions_prefix)
    by_key = {chunk.key: chunk for chunk in in_bucket}
    rows = [row for content in manifests for row in content["chunks"]]
    chunks = {row["chunk_seq"]: _same(row, by_key.get(row["chunk_key"]), store) for row in rows}
    missing = [row for row in rows if row["state"] == "accepted" and chunks[row["chunk_seq"]] is None]
    if missing and not without_missing:
        keys = "\n".join(row["chunk_key"] for row in missing)
        raise RebuildError(
            f"{len(missing)} chunks are missing in the bucket, or were changed since they were taken:\n{keys}\n"
            "Put them back, or count without them: make rebuild WITHOUT_MISSING=1"
        )
    with replacement(settings, "rebuild") as (new, _):
        return _restore(new, store, manifests, chunks, show)


def _restore(
    settings: Settings,
    store: Store,
    manifests: list[dict[str, Any]],
    chunks: dict[int, Chunk | None],
    show: Show,
) -> dict[str, int]:
    """Make a new warehouse from manifests and chunks, which are known by their chunk_seq."""
    settings = settings.model_copy(update={"max_object_bytes": UNLIMITED, "max_unpacked_bytes": UNLIMITED})
    rows = [row for content in manifests for row in content["chunks"]]
    with connect(settings) as warehouse:
        _keep_rejected_files(settings, store, warehouse)
        wanted = [chunk for row in rows if _has_rows(row) and (chunk := chunks[row["chunk_seq"]])]
        with fetched_ahead(store.get, [stored for chunk in wanted for stored in chunk.readable]) as get:
            for done, row in enumerate(rows):
                show(done, len(rows), "Restoring chunks")
                _restore_chunk(settings, get, warehouse, row, chunks[row["chunk_seq"]])
        versions = [row for content in manifests for row in content["importance_versions"]]
        create_ledger_views(warehouse, settings.limits)
        ImportanceLoader(settings, warehouse).restore(store, {row["importance_version"]: row for row in versions})
        warehouse.execute("insert into output.releases select max(chunk_seq), ? from raw.chunks", [utc_now()])
    show(len(rows), len(rows), "Building state and detections")
    build_models(settings, store=store)
    with connect(settings) as warehouse:
        with transaction(warehouse):
            _insert(warehouse, INSERT_THRESHOLDS, [row for content in manifests for row in content["thresholds"]])
            warehouse.execute(
                """
                delete from chunk_thresholds
                where chunk_seq <= (
                    select max(chunk_seq)
                    from raw.chunks left join raw.importance_versions as versions using (importance_version)
                    where versions.state = 'lost' or chunks.reason = ?
                )
                """,
                [MISSING],
            )
            _insert(warehouse, INSERT_DETECTIONS, [row for content in manifests for row in content["detections"]])
            _restore_files(settings, store, warehouse, manifests)
        put_planned(store, warehouse)
        _restore_times(settings, store, warehouse)
        counts = fetch_row(
            warehouse,
            """
            select
                (select count(*) from raw.chunks),
                (select count(*) from detections),
                (select count(file_number) from output.files)
            """,
        )
    return dict(zip(("chunks", "detections", "files"), counts, strict=True))


def _has_rows(row: dict[str, Any]) -> bool:
    return row["rows_accepted"] + row["rows_rejected"] > 0


def _same(row: dict[str, Any], chunk: Chunk | None, store: Store) -> Chunk | None:
    """The chunk in the bucket that a ledger row is about, by its ETag or else by its content; None: it is not there."""
    if chunk is None or chunk.etag == row["etag"]:
        return chunk
    if "content_sha256" not in row or chunk.size not in (None, row["content_bytes"]):
        return None
    try:
        content = fetch_chunk(store.get, chunk, UNLIMITED)
    except (RejectedError, UnreadableError, ObjectChangedError):
        return None
    return chunk if content.sha256 == row["content_sha256"] else None


def _restore_chunk(
    settings: Settings, get: Get, warehouse: duckdb.DuckDBPyConnection, row: dict[str, Any], chunk: Chunk | None
) -> None:
    """Load a chunk under its number, and write its ledger row as it was, with the ETag that it has now."""
    files: list[CsvObject] = []
    key, is_lost = row["chunk_key"], _has_rows(row) and chunk is None
    if chunk:
        row |= {"etag": chunk.etag}
    if _has_rows(row):
        if chunk:
            files = fetch_chunk(get, chunk, UNLIMITED).as_csv(TRANSACTIONS, UNLIMITED)
        elif row["state"] == "accepted":
            row |= {"state": "rejected", "reason": MISSING, "rows_accepted": 0, "rows_rejected": 0}
        else:
            # It was rejected whole and has been replaced since: what is left of its rows is their file in the bucket.
            row |= {"rows_in_file": None, "rows_rejected": 0}
    with validated(warehouse, files, "transactions", settings.missing_values), transaction(warehouse):
        _insert(warehouse, INSERT_CHUNKS, [row])
        if files:
            accepted = insert_transactions(warehouse, {row["chunk_seq"]: files})
            if accepted != row["rows_accepted"]:
                raise RebuildError(
                    f"{key} had {row['rows_accepted']} accepted rows and has {accepted} now. Set "
                    "TALLYMARK_MISSING_WORDS to what it was when the chunk was taken, and rebuild again"
                )
            log.info("%s: %d rows accepted, %d rejected", key, row["rows_accepted"], row["rows_rejected"])
        if not is_lost:
            RejectedFiles(settings, warehouse).plan_chunks(since=row["chunk_seq"])


def _keep_rejected_files(settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection) -> None:
    """Plan the files of what was rejected as they are; a chunk whose file is one of them finds it by its bytes.

    The others stay, and their names are not given again: files of chunks that are missing, of versions of the customer
    importance that no chunk was looked at with, and of chunks that are still to be taken again.
    """
    with transaction(warehouse):
        for stored in store.list(f"{settings.output_prefix}rejected/"):
            plan(warehouse, stored.key, store.get(stored), put_at=as_utc(stored.last_modified))


def _restore_files(
    settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection, manifests: list[dict[str, Any]]
) -> None:
    """Plan everything that was announced with the bytes that it had; what is in the bucket stays as it is."""
    in_bucket = {stored.key: stored for stored in store.list(manifest.folder(settings.output_prefix))}
    for number, content in enumerate(manifests, start=1):
        key = manifest.manifest_key(settings.output_prefix, number)
        body = store.get(in_bucket[key])
        plan(warehouse, key, body, manifest_number=number)
        for file in content["files"]:
            rows = read_detections(warehouse, file["first_detection_id"], file["last_detection_id"])
            plan(warehouse, body=detections_csv(rows, ZoneInfo(content["time_zone"])), **file)
    plan(warehouse, manifest.latest_key(settings.output_prefix), manifest.latest(content, body))
    warehouse.execute(
        """
        update detections set file_number = files.file_number
        from output.files as files
        where detections.detection_id between files.first_detection_id and files.last_detection_id
        """
    )


def _restore_times(settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection) -> None:
    """When files were put, as far as the bucket tells."""
    for stored in store.list(settings.output_prefix):
        warehouse.execute(
            "update output.files set put_at = ?, body = null where file_key = ?",
            [as_utc(stored.last_modified), stored.key],
        )


def _insert(warehouse: duckdb.DuckDBPyConnection, statement: str, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows that lack their nulls; the statement inserts those of ``$rows`` by name."""
    alike = defaultdict(list)
    for row in rows:
        alike[tuple(row)].append(row)
    for group in alike.values():
        warehouse.execute(statement, {"rows": group})
