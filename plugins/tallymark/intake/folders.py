"""Folders of part files, as Spark, Databricks and Hadoop write them: when they are complete, and which files count.

Three commit protocols are supported. docs/what-counts-as-input.md describes them for producers.

- ``_committed_<id>`` (Databricks DBIO), one per directory and transaction: JSON with the files it added and removed.
- ``_SUCCESS`` with JSON (S3A and manifest committers): lists the files of the job.
- ``_SUCCESS`` that is empty or not JSON: the job is done, and every file counts.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tallymark.intake.errors import RejectedError
from tallymark.store import Get, StoredObject

SUCCESS = "_SUCCESS"
COMMITTED = "_committed_"
# Files that Spark, Databricks and Hadoop write for themselves. Anything else that is not input is reported as ignored.
COMPANION = re.compile(r"_SUCCESS|_(started|committed)_[^/]*|_(common_)?metadata|.*\.crc|.*_\$folder\$|", re.IGNORECASE)
# The name of a Databricks part contains the id of its transaction.
TRANSACTION = re.compile(r"-tid-([0-9]+)-")
MAX_MARKER_BYTES = 16 * 2**20
# Hadoop lists at most this many files in a _SUCCESS marker (SUCCESS_MARKER_FILE_LIMIT).
MAX_LISTED_FILES = 100
# Limits how long a folder that keeps changing can delay later chunks.
MAX_HOLD_SECONDS = 300


def natural_order(key: str) -> tuple[list[str | int], str]:
    """Return a sort key that compares runs of digits as numbers, so that chunk_2 comes before chunk_10."""
    parts = re.split("([0-9]+)", key)
    parts[1::2] = map(int, parts[1::2])
    return parts, key


def is_input(name: str) -> bool:
    """Return whether an object may contain rows, by its key below the prefix. Applies to all input.

    It may not if a segment of the path begins with ``_`` or ``.``, or ends in ``_$folder$``, ``.tmp`` or ``.crc``, or
    if the last segment is empty.
    """
    segments = name.lower().split("/")
    return bool(segments[-1]) and not any(
        segment.startswith(("_", ".")) or segment.endswith(("_$folder$", ".tmp", ".crc")) for segment in segments
    )


def is_companion(name: str) -> bool:
    """Return whether an object that is not input accompanies input: a marker, a checksum or a folder object."""
    return COMPANION.fullmatch(name.rpartition("/")[2]) is not None


def settled_before(settle_seconds: float) -> datetime:
    """Return the time ``settle_seconds`` ago, UTC. Objects put before it are settled."""
    return datetime.now(UTC) - timedelta(seconds=settle_seconds)


def parts_of(folder: str, members: Iterable[StoredObject]) -> list[StoredObject]:
    """Return the objects of a folder that may contain rows, in natural order of their keys."""
    found = [member for member in members if is_input(member.key.removeprefix(folder))]
    return sorted(found, key=lambda member: natural_order(member.key))


def markers_of(folder: str, members: Iterable[StoredObject]) -> list[StoredObject]:
    """Return the markers that declare a folder, or one of its directories, committed."""
    return [
        member
        for member in members
        if member.key == folder + SUCCESS or member.key.rpartition("/")[2].startswith(COMMITTED)
    ]


def is_committed(folder: str, members: Sequence[StoredObject]) -> bool:
    """Return whether markers declare a folder, or each of its directories with parts, committed."""
    markers = markers_of(folder, members)
    if any(marker.key == folder + SUCCESS for marker in markers):
        return True
    committed = {_directory(marker.key) for marker in markers}
    return bool(markers) and all(_directory(part.key) in committed for part in parts_of(folder, members))


def is_settled(folder: str, members: Sequence[StoredObject], settled: datetime) -> bool:
    """Return whether a listing shows that a committed folder has all its parts.

    A marker that is newer than every part proves it. But tools that copy folders may put markers first, and S3 stores
    times in whole seconds. Without such a marker, no object in the folder may be newer than ``settled``.
    """
    newest_part = max((part.last_modified for part in parts_of(folder, members)), default=None)
    if newest_part is not None and newest_part < max(marker.last_modified for marker in markers_of(folder, members)):
        return True
    return max(member.last_modified for member in members) <= settled


def is_complete(folder: str, members: Sequence[StoredObject], settled: datetime) -> bool:
    """Return whether a folder is committed and settled."""
    return is_committed(folder, members) and is_settled(folder, members, settled)


def holds_up(folder: str, members: Sequence[StoredObject], settled: datetime) -> bool:
    """Return whether later chunks must wait, because this folder was committed recently and is not settled."""
    if not is_committed(folder, members) or is_settled(folder, members, settled):
        return False
    oldest_marker = min(marker.last_modified for marker in markers_of(folder, members))
    return oldest_marker > settled - timedelta(seconds=MAX_HOLD_SECONDS)


def version_of(folder: str, members: Sequence[StoredObject]) -> str:
    """Return the SHA-256 of the keys and ETags of the parts and of the markers that say which parts count."""
    markers = sorted((marker for marker in markers_of(folder, members) if marker.size), key=lambda marker: marker.key)
    return digest_of([*parts_of(folder, members), *markers])


def digest_of(objects: Iterable[StoredObject]) -> str:
    """Return the SHA-256 of the keys and ETags of objects, in the given order."""
    return hashlib.sha256("".join(f"{stored.key}\0{stored.etag}\n" for stored in objects).encode()).hexdigest()


def committed_parts(get: Get, folder: str, members: Sequence[StoredObject]) -> list[StoredObject]:
    """Return the parts of a complete folder that count, in natural order of their keys.

    Raises:
        RejectedError: when the folder contradicts its own commit protocol.
    """
    parts, markers = parts_of(folder, members), markers_of(folder, members)
    by_directory = defaultdict(list)
    for part in parts:
        by_directory[_directory(part.key)].append(part)
    transactions = defaultdict(list)
    for marker in markers:
        if marker.key != folder + SUCCESS:
            transactions[_directory(marker.key)].append(marker)
    started = {member.key for member in members if "/_started_" in member.key}
    counting: list[StoredObject] = []
    for directory in sorted(by_directory.keys() | transactions.keys()):
        found, committed = by_directory.get(directory, []), transactions.get(directory)
        if committed:
            counting += _of_transactions(get, folder, found, committed, {member.key for member in members})
        else:
            counting += [part for part in found if f"{directory}_started_{_transaction(part.key)}" not in started]
    if not transactions:
        success = next(marker for marker in markers if marker.key == folder + SUCCESS)
        counting = list(_of_success(get, folder, counting, success))
    if parts and not counting:
        raise RejectedError("contains no committed parts")
    return sorted(counting, key=lambda part: natural_order(part.key))


def _of_transactions(
    get: Get, folder: str, parts: Sequence[StoredObject], committed: Sequence[StoredObject], present: set[str]
) -> Iterator[StoredObject]:
    """Yield the parts of one directory that Databricks transactions added and did not remove."""
    added: dict[str, str] = {}
    removed: set[str] = set()
    for marker in committed:
        content = _json(get, folder, marker)
        try:
            added |= dict.fromkeys(map(str, content["added"]), marker.key.removeprefix(folder))
            removed |= set(map(str, content["removed"]))
        except (KeyError, TypeError) as error:
            name = marker.key.removeprefix(folder)
            raise RejectedError(f"{name} does not list added and removed files") from error
    directory = _directory(committed[0].key)
    for name, marker_name in added.items():
        if name not in removed and directory + name not in present:
            raise RejectedError(f"{marker_name} lists {name}, which is missing. Put the missing part")
    done = {marker.key.rpartition(COMMITTED)[2] for marker in committed}
    for part in parts:
        name = part.key.removeprefix(directory)
        transaction = _transaction(name)
        if name in added and name not in removed:
            yield part
        elif name not in removed and (transaction is None or transaction in done):
            raise RejectedError(
                f"{part.key.removeprefix(folder)} is not listed in any {COMMITTED}<id>. Remove it or commit it"
            )


def _of_success(get: Get, folder: str, parts: Sequence[StoredObject], success: StoredObject) -> Sequence[StoredObject]:
    """Return the parts that a _SUCCESS marker lists, or all parts if it has no list."""
    content = _json(get, folder, success, must_be=False)
    listed = content.get("filenames") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        return parts
    if content.get("success") is False:
        raise RejectedError(f"{SUCCESS} reports that the job failed. Write the folder again")
    names = {part.key.removeprefix(folder): part for part in parts}
    found = []
    for path in map(str, listed):
        # The list has full paths of the job's output location. The folder may have been copied from there.
        name = max((name for name in names if f"/{path}".endswith(f"/{name}")), key=len, default=None)
        if name:
            found.append(names[name])
        elif is_input(path.rpartition("/")[2]):
            raise RejectedError(f"{SUCCESS} lists {path}, which is missing. Put the missing part")
    return parts if len(listed) >= MAX_LISTED_FILES else found


def _json(get: Get, folder: str, marker: StoredObject, must_be: bool = True) -> Any:
    """Parse the content of a marker. Returns None if it is not JSON and need not be."""
    name = marker.key.removeprefix(folder)
    if marker.size > MAX_MARKER_BYTES:
        raise RejectedError(f"{name} is too large for a commit marker ({marker.size} bytes)")
    try:
        return json.loads(get(marker)) if marker.size else json.loads("")
    except ValueError as error:
        if must_be:
            raise RejectedError(f"{name} is not JSON") from error
        return None


def _directory(key: str) -> str:
    return key[: key.rindex("/") + 1] if "/" in key else ""


def _transaction(name: str) -> str | None:
    found = TRANSACTION.search(name)
    return found[1] if found else None
