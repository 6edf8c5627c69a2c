"""Manifests: a record in the bucket of all chunks taken and all files exported, enough to rebuild the warehouse.

Each export that releases chunks or plans files writes ``output/manifests/manifest-<8-digit number>.json``, *before* the
files that it lists. A manifest never changes. It holds

- ``chunks``: the ledger rows of the chunks that became final, including rejected chunks;
- ``thresholds``: the thresholds used for each accepted chunk;
- ``importance_versions``: number, digest and SHA-256 of the customer importance used for these chunks;
- ``detections``: the detections of these chunks with their evidence, as in the warehouse; times are in UTC;
- ``files``: number, row count, first and last ``detection_id`` and SHA-256 of each detection file that follows;
- ``time_zone`` of the times in these files;
- ``total_files`` and ``total_rows`` so far, and ``previous_sha256``, the SHA-256 of the previous manifest.

``output/manifests/latest.json`` names the last manifest. It shows if the end of the chain is missing.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from tallymark.errors import UserError
from tallymark.store import Store
from tallymark.warehouse.connection import fetch_row
from tallymark.warehouse.errors import WarehouseError

LATEST = "manifests/latest.json"
FILE_COLUMNS = "file_key, file_number, row_count, first_detection_id, last_detection_id, sha256"


class ManifestError(UserError, RuntimeError):
    """Manifests, or files listed in them, are missing or were changed. The message names them."""


def folder(output_prefix: str) -> str:
    """Key prefix of the manifests."""
    return f"{output_prefix}manifests/"


def manifest_key(output_prefix: str, number: int) -> str:
    """Key of a manifest. Numbers start at 1 and have no gaps."""
    return f"{folder(output_prefix)}manifest-{number:08d}.json"


def latest_key(output_prefix: str) -> str:
    """Key of the object that names the last manifest."""
    return f"{output_prefix}{LATEST}"


def must_be_none(store: Store, output_prefix: str, warehouse: Path) -> None:
    """Check that the bucket holds no manifests; for a warehouse that has exported nothing.

    Raises:
        WarehouseError: if the bucket holds manifests, so another warehouse has exported to it.
    """
    if next(iter(store.list(folder(output_prefix))), None):
        raise WarehouseError(
            f"The warehouse {warehouse} has exported nothing, but the bucket holds manifests of earlier exports. The "
            "warehouse file was lost or moved, or it is on another machine (docs/many-machines.md). Put the file back, "
            "or rebuild it from the bucket with: make rebuild"
        )


def compose(
    warehouse: duckdb.DuckDBPyConnection, time_zone: str, after_chunk: int, after_file: int
) -> tuple[int, bytes, bytes]:
    """Compose the next manifest; call it in the transaction that releases its chunks and plans its files.

    Args:
        time_zone: time zone of the times in detection files.
        after_chunk: the last ``chunk_seq`` released before; 0 if there is none.
        after_file: number of the last file planned before; 0 if there is none.

    Returns:
        The number of the manifest, its content, and the content of ``latest.json``.
    """
    last_number, previous = fetch_row(
        warehouse, "select coalesce(max(manifest_number), 0), max_by(sha256, manifest_number) from output.files"
    )
    released = "where chunk_seq > ? and chunk_seq <= (select max(chunk_seq) from output.releases)"
    chunks = _rows(warehouse, f"from raw.chunks {released} order by chunk_seq", [after_chunk])
    versions = sorted({chunk["importance_version"] for chunk in chunks if "importance_version" in chunk})
    files = _rows(
        warehouse,
        f"select {FILE_COLUMNS} from output.files where file_number > ? order by file_number",
        [after_file],
    )
    total_files, total_rows = fetch_row(
        warehouse, "select count(file_number), coalesce(max(last_detection_id), 0) from output.files"
    )
    manifest = {
        "manifest_number": last_number + 1,
        "previous_sha256": previous,
        "chunks": chunks,
        "importance_versions": _rows(
            warehouse,
            "select importance_version, digest, content_sha256 from raw.importance_versions "
            "where list_contains(?::bigint[], importance_version) order by importance_version",
            [versions],
        ),
        "thresholds": _rows(warehouse, f"from chunk_thresholds {released} order by chunk_seq", [after_chunk]),
        "detections": _rows(
            warehouse,
            f"select * exclude (file_number) from detections {released} order by detection_id",
            [after_chunk],
        ),
        "files": files,
        "time_zone": time_zone,
        "total_files": total_files,
        "total_rows": total_rows,
    }
    body = _as_json(manifest)
    return last_number + 1, body, latest(manifest, body)


def latest(manifest: dict[str, Any], body: bytes) -> bytes:
    """Content of ``latest.json`` that names this manifest as the last one."""
    named = {name: manifest[name] for name in ("manifest_number", "total_files", "total_rows")}
    return _as_json(named | {"sha256": hashlib.sha256(body).hexdigest()})


def _rows(warehouse: duckdb.DuckDBPyConnection, query: str, parameters: list) -> list[dict[str, Any]]:
    """Rows of a query as dictionaries without nulls."""
    found = warehouse.execute(query, parameters)
    names = [column[0] for column in found.description]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None} for row in found.fetchall()
    ]


def _as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def read_all(store: Store, output_prefix: str) -> Iterator[dict[str, Any]]:
    """Read all manifests in order, and check that they form an unbroken chain.

    Raises:
        ManifestError: if one is missing, was changed, or does not follow the previous one.
    """
    listed = {stored.key: stored for stored in store.list(folder(output_prefix))}
    named = listed.pop(latest_key(output_prefix), None)
    number, digest, expected = 0, None, {}
    if named:
        expected = json.loads(store.get(named))
    elif len(listed) > 1:
        raise ManifestError(
            f"{latest_key(output_prefix)} is missing, so it is unknown whether later manifests are missing too"
        )
    while listed or number < expected.get("manifest_number", 0):
        number += 1
        stored = listed.pop(manifest_key(output_prefix, number), None)
        if stored is None:
            raise ManifestError(
                f"{manifest_key(output_prefix, number)} is missing: later manifests or {LATEST} refer to it"
            )
        body = store.get(stored)
        try:
            manifest = json.loads(body)
        except ValueError as error:
            raise ManifestError(f"{stored.key} was changed: it is not valid JSON ({error})") from error
        if (manifest.get("manifest_number"), manifest.get("previous_sha256")) != (number, digest):
            raise ManifestError(
                f"{manifest_key(output_prefix, number - 1)} or {stored.key} was changed after it was exported"
            )
        digest = hashlib.sha256(body).hexdigest()
        if number == expected.get("manifest_number") and digest != expected["sha256"]:
            raise ManifestError(f"{stored.key} was changed after it was exported")
        yield manifest
