"""Rebuild the warehouse from the chunks and manifests in the bucket.

Chunks listed in the manifests are loaded under their old ``chunk_seq``. Detections are copied from the manifests, not
computed again. Detection files are listed there too, so none is written twice. A chunk that no manifest lists was never
exported; the next run takes it. The new warehouse is built in a separate file, and moved into place at the end.

If a chunk or a version of the customer importance is lost for good, the audit accepts all detections up to that point:
it recomputes only chunks that have a row in ``chunk_thresholds``.
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

# Chunks that were accepted before are loaded again, whatever the limits are now.
UNLIMITED = 2**62

MISSING = "was missing or changed when the warehouse was rebuilt"


class RebuildError(UserError, RuntimeError):
    """The bucket does not hold the data that the manifests list. Nothing was changed."""


def rebuild(settings: Settings, store: Store, without_missing: bool = False, show: Show = ignore) -> dict[str, int]:
    """Rebuild the warehouse; an existing one is kept next to it as ``<name>.before_rebuild``.

    Args:
        without_missing: continue without chunks that are missing or were changed since they were taken. Their rows no
            longer count, and the ledger records that. Detections based on them stay.

    Returns:
        The number of ``chunks``, ``detections`` and ``files`` in the new warehouse.

    Raises:
        ManifestError: if manifests are missing or were changed.
        RebuildError: naming the chunks that are missing or were changed, or a chunk whose validation gives another
            number of accepted rows than before.
        WarehouseError: if another process has the warehouse open, or the machine failed, as with a full disk.
    """
    manifests = list(manifest.read_all(store, settings.output_prefix))
    if not manifests:
        raise RebuildError(
            "The bucket holds no manifests, so nothing was ever exported and there is nothing to rebuild. Start the "
            "pipeline without a warehouse file."
        )
    in_bucket = find_chunks(store.list(settings.transactions_prefix), settings.transactions_prefix)
    by_key = {chunk.key: chunk for chunk in in_bucket}
    rows = [row for content in manifests for row in content["chunks"]]
    chunks = {row["chunk_seq"]: _same(row, by_key.get(row["chunk_key"]), store) for row in rows}
    missing = [row for row in rows if row["state"] == "accepted" and chunks[row["chunk_seq"]] is None]
    if missing and not without_missing:
        keys = "\n".join(row["chunk_key"] for row in missing)
        subject = "1 chunk is" if len(missing) == 1 else f"{len(missing)} chunks are"
        raise RebuildError(
            f"{subject} missing from the bucket, or changed after loading:\n{keys}\n"
            "Put the original chunks back, or rebuild without these chunks: make rebuild WITHOUT_MISSING=1"
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
    """Fill a new warehouse from manifests, and from chunks by ``chunk_seq``."""
    settings = settings.model_copy(update={"max_object_bytes": UNLIMITED, "max_decompressed_bytes": UNLIMITED})
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
    """The chunk if it is the one in the ledger row, by ETag or else by content; None if it is missing or changed."""
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
    """Load a chunk under its old ``chunk_seq``, and write its old ledger row with its current ETag."""
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
            # The chunk was rejected as a whole, then replaced. Its rejected rows are only in their file in the bucket.
            row |= {"rows_in_file": None, "rows_rejected": 0}
    with validated(warehouse, files, "transactions", settings.missing_values), transaction(warehouse):
        _insert(warehouse, INSERT_CHUNKS, [row])
        if files:
            accepted = insert_transactions(warehouse, {row["chunk_seq"]: files})
            if accepted != row["rows_accepted"]:
                raise RebuildError(
                    f"Accepted rows of {key}: {row['rows_accepted']} before, {accepted} now. Set "
                    "TALLYMARK_MISSING_WORDS to its value when the chunk was taken, and run the rebuild again."
                )
            log.info("%s: rows accepted: %d; rows rejected: %d", key, row["rows_accepted"], row["rows_rejected"])
        if not is_lost:
            RejectedFiles(settings, warehouse).plan_chunks(since=row["chunk_seq"])


def _keep_rejected_files(settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection) -> None:
    """Plan the existing files of rejected rows as they are. Each chunk is then matched to its file by content.

    The remaining files stay, and their names are not used again. They belong to missing chunks, to versions of the
    customer importance that no chunk used, and to chunks that the next run takes again.
    """
    with transaction(warehouse):
        for stored in store.list(f"{settings.output_prefix}rejected/"):
            plan(warehouse, stored.key, store.get(stored), put_at=as_utc(stored.last_modified))


def _restore_files(
    settings: Settings, store: Store, warehouse: duckdb.DuckDBPyConnection, manifests: list[dict[str, Any]]
) -> None:
    """Plan the manifests and the files listed in them with their original content; existing files are not changed."""
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
    """Set the times when files were put, from their modification times in the bucket."""
    for stored in store.list(settings.output_prefix):
        warehouse.execute(
            "update output.files set put_at = ?, body = null where file_key = ?",
            [as_utc(stored.last_modified), stored.key],
        )


def _insert(warehouse: duckdb.DuckDBPyConnection, statement: str, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows without nulls, as manifests hold them; the statement inserts ``$rows`` by name."""
    alike = defaultdict(list)
    for row in rows:
        alike[tuple(row)].append(row)
    for group in alike.values():
        warehouse.execute(statement, {"rows": group})
