"""A record in the bucket of all that was taken and all that went out, from which the warehouse can be made again.

``output/manifests/manifest-<8-digit number>.json`` is written by each export that releases chunks or decides on files,
*before* the files that it announces. It never changes. It holds

- ``chunks``: the ledger rows of the chunks that became final, rejected ones included;
- ``thresholds``: what was in force for each accepted one of them;
- ``importance_versions``: number, digest and SHA-256 of the customer importance in force for these chunks;
- ``detections``: those of these chunks, with their evidence, as the warehouse keeps them; times are UTC;
- ``files``: number, rows, first and last ``detection_id`` and SHA-256 of each detection file that follows;
- ``total_files`` and ``total_rows`` so far, and ``previous_sha256``, the SHA-256 of the manifest before it.

``output/manifests/latest.json`` names the last one, so that a chain that lost its end shows too.
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
    """Manifests, or the files that they announce, are missing or were changed; the message says which."""


def folder(output_prefix: str) -> str:
    """Prefix of the manifests."""
    return f"{output_prefix}manifests/"


def manifest_key(output_prefix: str, number: int) -> str:
    """Key of a manifest; numbers begin at 1 and have no gaps."""
    return f"{folder(output_prefix)}manifest-{number:08d}.json"


def latest_key(output_prefix: str) -> str:
    """Key of the object that names the last manifest."""
    return f"{output_prefix}{LATEST}"


def must_be_none(store: Store, output_prefix: str, warehouse: Path) -> None:
    """For a warehouse that has exported nothing: the bucket holds no manifest.

    Raises:
        WarehouseError: when it does, so that another warehouse exported before.
    """
    if next(iter(store.list(folder(output_prefix))), None):
        raise WarehouseError(
            f"The warehouse {warehouse} has exported nothing, but the bucket holds manifests of earlier exports. Its "
            "file was lost or moved, or this is another machine than the one that has it (docs/many-machines.md). Put "
            "the file back, or rebuild it from the bucket with: make rebuild"
        )


def compose(
    warehouse: duckdb.DuckDBPyConnection, time_zone: str, after_chunk: int, after_file: int
) -> tuple[int, bytes, bytes]:
    """The next manifest; belongs into the transaction that releases its chunks and plans its files.

    Args:
        time_zone: of the times in detection files.
        after_chunk: the last ``chunk_seq`` that was released before; 0: none.
        after_file: the last file that was planned before; 0: none.

    Returns:
        Its number, its bytes, and those of ``latest.json``.
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
    """The object that names a manifest as the last one."""
    named = {name: manifest[name] for name in ("manifest_number", "total_files", "total_rows")}
    return _as_json(named | {"sha256": hashlib.sha256(body).hexdigest()})


def _rows(warehouse: duckdb.DuckDBPyConnection, query: str, parameters: list) -> list[dict[str, Any]]:
    """Rows without their nulls."""
    found = warehouse.execute(query, parameters)
    names = [column[0] for column in found.description]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None} for row in found.fetchall()
    ]


def _as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def read_all(store: Store, output_prefix: str) -> Iterator[dict[str, Any]]:
    """All manifests in their order, checked to be one unbroken chain.

    Raises:
        ManifestError: when one is missing, was changed, or is not what comes next.
    """
    listed = {stored.key: stored for stored in store.list(folder(output_prefix))}
    named = listed.pop(latest_key(output_prefix), None)
    number, digest, expected = 0, None, {}
    if named:
        expected = json.loads(store.get(named))
    elif len(listed) > 1:
        raise ManifestError(
            f"{latest_key(output_prefix)} is missing, so nobody can tell whether the last manifest is there"
        )
    while listed or number < expected.get("manifest_number", 0):
        number += 1
        stored = listed.pop(manifest_key(output_prefix, number), None)
        if stored is None:
            raise ManifestError(f"{manifest_key(output_prefix, number)} is missing, and there are later ones")
        body = store.get(stored)
        try:
            manifest = json.loads(body)
        except ValueError as error:
            raise ManifestError(f"{stored.key} was changed: it is not JSON any more ({error})") from error
        if (manifest.get("manifest_number"), manifest.get("previous_sha256")) != (number, digest):
            raise ManifestError(
                f"{manifest_key(output_prefix, number - 1)} or {stored.key} was changed after it was put"
            )
        digest = hashlib.sha256(body).hexdigest()
        if number == expected.get("manifest_number") and digest != expected["sha256"]:
            raise ManifestError(f"{stored.key} was changed after it was put")
        yield manifest
