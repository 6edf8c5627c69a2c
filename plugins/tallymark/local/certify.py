"""Determinism check: replay the same chunks in several ways and compare one digest of the results.

The digest covers the ledger, raw rows, rejected rows, state, detections with their evidence, the rows of the detection
files in order, the files of rejected rows, and the content of the manifests. It excludes times and file boundaries: the
remainder is exported in the same run, so the boundaries depend on the batches (docs/decisions/certify.md).
"""

import csv
import gzip
import hashlib
import io
import logging
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb

from tallymark.errors import UserError
from tallymark.lake import open_lake
from tallymark.local.feed import feed_transactions, find_source, open_source
from tallymark.local.generate import generate
from tallymark.local.replay import replay
from tallymark.outbox import manifest
from tallymark.progress import Show, ignore
from tallymark.recovery.verify import verify
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

TABLES = (
    *("raw.chunks", "raw.conflicts", "raw.importance_versions", "raw.transactions", "raw.rejected_rows"),
    *("merchants", "merchant_customers", "customer_weights", "chunk_thresholds", "detections"),
)
WAYS = 5
KILLED = "random batches, killed"
LARGEST_BATCH = 12
SECONDS_TO_START = 1
DIFFERENCES_SHOWN = 5


class CertifyError(UserError, RuntimeError):
    """The data cannot be replayed as requested, or a replay failed."""


@dataclass(frozen=True)
class Way:
    """A replay of all chunks in one way.

    Attributes:
        out: folder of its warehouse and output.
        seconds: its duration.
        kills: how often its process was killed.
    """

    name: str
    out: Path
    seconds: float
    kills: int = 0


def lay_out(source: Path, data: Path, shuffle: int | None = None) -> None:
    """Cut ``transactions.csv(.gz)`` into chunks, as the feed does. The folder ``data`` is laid out like the bucket.

    Args:
        source: folder with the transactions and, optionally, ``customer_importance.csv(.gz)``.
        shuffle: seed for shuffling the rows first.

    Raises:
        SourceError: when the transactions are missing or cannot be cut into chunks.
    """
    transactions = find_source(source)
    if shuffle is not None:
        shutil.copytree(source, data / "shuffled", ignore=lambda _, names: {n for n in names if "transactions" in n})
        with open_source(transactions) as file:
            header, *rows = file.read().splitlines()
        random.Random(shuffle).shuffle(rows)
        transactions = data / "shuffled" / "transactions.csv.gz"
        with gzip.open(transactions, "wb", compresslevel=1) as file:
            file.write(b"\n".join([header, *rows, b""]))
    feed_transactions(transactions, Settings(feed_interval_seconds=0), FolderStore(data))


def replay_in_every_way(data: Path, out: Path, vars: dict, kills: int, seed: int, show: Show = ignore) -> Iterator[Way]:
    """Replay the chunks in ``data`` one by one, seven at a time, all at once, in random batches, and with kills.

    Raises:
        CertifyError: when a replay fails.
    """
    batches = {"one by one": 1, "seven at a time": 7, "all at once": None, "random batches": random_batches(seed)}
    for number, (name, batch) in enumerate(batches.items()):
        way = out / name.replace(" ", "-")
        started_at = time.monotonic()
        replay(data, way, batch, vars, partial(_show_way, show, number, name))
        yield Way(name, way, seconds := time.monotonic() - started_at)
    show(len(batches), WAYS, KILLED)
    started_at = time.monotonic()
    killed = _replay_with_kills(
        data, out / "killed", vars, kills, seed, 2 * (SECONDS_TO_START + seconds / (kills or 1))
    )
    yield Way(KILLED, out / "killed", time.monotonic() - started_at, killed)


def _show_way(show: Show, way: int, name: str, done: int, total: int, _: str) -> None:
    """Show the progress of one way as a share of all ways."""
    show(way * total + done, WAYS * total, name)


def random_batches(seed: int) -> Iterator[int]:
    """Return an endless iterator of random micro-batch sizes."""
    return iter(partial(random.Random(seed).randint, 1, LARGEST_BATCH), 0)


def _replay_at_random(data: Path, out: Path, vars: dict, seed: int, environment: dict[str, str]) -> None:
    # The fork server has the environment of its start.
    os.environ.clear()
    os.environ.update(environment)
    logging.basicConfig(level=logging.CRITICAL)
    replay(data, out, random_batches(seed), vars)


def _replay_with_kills(data: Path, out: Path, vars: dict, kills: int, seed: int, latest: float) -> int:
    """Replay in a process that is killed at random moments.

    Args:
        latest: maximum time between a start and a kill, in seconds.

    Returns:
        The number of kills.
    """
    chance = random.Random(seed)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["dbt.cli.main", "dbt.adapters.duckdb.connections", "tallymark.local.replay"])
    for killed in range(kills + 1):
        process = processes.Process(target=_replay_at_random, args=(data, out, vars, seed + killed, dict(os.environ)))
        process.start()
        process.join(chance.uniform(0, latest) if killed < kills else None)
        process.kill()
        process.join()
        if process.exitcode == 0:
            return killed
        if process.exitcode != -signal.SIGKILL:
            break
    kills_so_far = "1 kill" if killed == 1 else f"{killed} kills"
    raise CertifyError(
        f"The replay failed with exit code {process.exitcode} after {kills_so_far}. Its error is printed above."
    )


def contents(data: Path, way: Way) -> dict[str, list[str]]:
    """Return the results of a replay without times: for each part, its lines as text.

    Raises:
        ManifestError: when a detection file is missing or differs from its manifest.
    """
    settings = Settings(warehouse=way.out / "warehouse.duckdb")
    store = FolderStore(data, target=way.out, written=settings.output_prefix)
    verify(store, settings.output_prefix)
    lake = open_lake(settings)
    with connect(settings, read_only=True) as warehouse:
        parts = {table: _rows(lake.fetch(warehouse, table)) for table in TABLES}
    parts["rows of the detection files"] = list(_rows_in_files(settings, store))
    parts["files of rejected rows"] = [
        f"{stored.key} {line}"
        for stored in store.list(f"{settings.output_prefix}rejected/")
        for line in store.get(stored).decode().splitlines()
    ]
    parts["manifests"] = sorted(set(_announced(settings, store)))
    return parts


def _rows(found: duckdb.DuckDBPyRelation) -> list[str]:
    kept = [
        column
        for column, (name, kind, *_) in enumerate(found.description)
        if str(kind) != "TIMESTAMP" and name != "file_number"
    ]
    return sorted(str(tuple(row[column] for column in kept)) for row in found.fetchall())


def _rows_in_files(settings: Settings, store: FolderStore) -> Iterator[str]:
    for stored in store.list(f"{settings.output_prefix}detections/"):
        _, *rows = csv.reader(io.StringIO(store.get(stored).decode(), newline=""))
        yield from (str(row[2:]) for row in rows)


def _announced(settings: Settings, store: FolderStore) -> Iterator[str]:
    for content in manifest.read_all(store, settings.output_prefix):
        for part in ("chunks", "importance_versions", "thresholds", "detections"):
            for row in content[part]:
                yield f"{part} { ({name: value for name, value in row.items() if not name.endswith('_at')}) }"


def digest(parts: dict[str, list[str]]) -> str:
    """Return the SHA-256 of the result of ``contents``."""
    total = hashlib.sha256()
    for name, lines in parts.items():
        total.update(f"{name}: {len(lines)}\n".encode())
        for line in lines:
            total.update(f"{line}\n".encode())
    return total.hexdigest()


def differences(expected: dict[str, list[str]], found: dict[str, list[str]]) -> list[str]:
    """Describe the parts that differ, with some of their lines."""
    described = []
    for part in (part for part in expected if expected[part] != found[part]):
        missing, added = set(expected[part]) - set(found[part]), set(found[part]) - set(expected[part])
        described.append(f"{part}: {_lines(missing)} missing, {_lines(added)} added")
        described += [f"  missing: {line}" for line in sorted(missing)[:DIFFERENCES_SHOWN]]
        described += [f"  added: {line}" for line in sorted(added)[:DIFFERENCES_SHOWN]]
    return described


def _lines(lines: Collection[str]) -> str:
    return "1 line" if len(lines) == 1 else f"{len(lines)} lines"


def certify(
    data: Path | None, out: Path, shuffle: int | None, vars: dict, kills: int, seed: int, show: Show = ignore
) -> bool:
    """Replay the same chunks in every way and print a digest of each result. Return whether all digests are equal.

    Args:
        data: folder laid out like the bucket, or with ``transactions.csv(.gz)``. None: generated data.
        out: folder for the replays. It is emptied first.
        shuffle: seed for shuffling the rows before they are cut into chunks.
        vars: dbt vars (thresholds).
        kills: maximum number of kills in the last replay.
        seed: for the random batches and kills.

    Raises:
        UserError: when the data or a threshold is invalid, or a replay fails.
    """
    Settings(vars=vars)
    # Python's resource tracker, which the first replay starts, would warn about semaphores of killed processes.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    if shuffle is not None and data and _is_cut(data):
        raise CertifyError(
            f"SHUFFLE needs a transactions.csv(.gz), but {data} is already cut into chunks. "
            "Omit SHUFFLE, or choose another DATA folder."
        )
    if data and not _is_cut(data):
        find_source(data)
    shutil.rmtree(out, ignore_errors=True)
    if not data:
        data = out / "generated"
        generate(data)
    if not _is_cut(data):
        lay_out(data, out / "data", shuffle)
        data = out / "data"
    return compare(data, replay_in_every_way(data, out, vars, kills, seed, show))


def _is_cut(data: Path) -> bool:
    return (data / "input/transactions").is_dir()


def compare(data: Path, ways: Iterable[Way]) -> bool:
    """Print the digest of each way and its differences from the first. Return whether there are none."""
    expected, is_equal = None, True
    print(f"{'way':24} {'detections':>10} {'kills':>5} {'seconds':>8}  digest", flush=True)
    for way in ways:
        try:
            parts = contents(data, way)
        except manifest.ManifestError as error:
            print(f"PROBLEM: {way.name}: {error}")
            is_equal = False
            continue
        shown = f"{way.name:24} {len(parts['detections']):10,} {way.kills:5} {way.seconds:8.1f}  {digest(parts)}"
        print(shown, flush=True)
        expected = expected or parts
        for line in differences(expected, parts):
            print(f"PROBLEM: {way.name}: {line}")
            is_equal = False
    return is_equal
