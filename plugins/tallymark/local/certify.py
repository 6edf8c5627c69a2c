"""A certificate that batching does not show: the same chunks taken in several ways, and one digest of what came out.

The digest covers the ledger, raw rows, rejected rows, state, detections with their evidence, the rows of the detection
files in their order, the files of rejected rows, and what the manifests say; everything but times. Which detection is
in which file is left out: a remainder goes out in the same run, so that depends on how chunks were taken together.
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
from collections.abc import Iterable, Iterator
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
    """What is to be replayed is not there, or a replay failed."""


@dataclass(frozen=True)
class Way:
    """One way in which all chunks were taken.

    Attributes:
        out: its warehouse and output.
        seconds: how long it took.
        kills: how often its process was killed.
    """

    name: str
    out: Path
    seconds: float
    kills: int = 0


def lay_out(source: Path, data: Path, shuffle: int | None = None) -> None:
    """Cut ``transactions.csv(.gz)`` into chunks, as the feed does, in a folder that is laid out like the bucket.

    Args:
        source: holds the transactions, and ``customer_importance.csv(.gz)`` if there is any.
        shuffle: seed with which the rows are put in another order first.

    Raises:
        SourceError: when the transactions are missing, or cannot be cut into chunks.
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
        CertifyError: when a replay failed.
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
    """Show the chunks of one way as its share of all ways."""
    show(way * total + done, WAYS * total, name)


def random_batches(seed: int) -> Iterator[int]:
    """Sizes of micro-batches, without end."""
    return iter(partial(random.Random(seed).randint, 1, LARGEST_BATCH), 0)


def _replay_at_random(data: Path, out: Path, vars: dict, seed: int) -> None:
    logging.basicConfig(level=logging.CRITICAL)
    replay(data, out, random_batches(seed), vars)


def _replay_with_kills(data: Path, out: Path, vars: dict, kills: int, seed: int, latest: float) -> int:
    """Replay in a process that is killed at random moments, ``latest`` seconds after its start; returns how often."""
    chance = random.Random(seed)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["dbt.cli.main", "dbt.adapters.duckdb.connections", "tallymark.local.replay"])
    for killed in range(kills + 1):
        process = processes.Process(target=_replay_at_random, args=(data, out, vars, seed + killed))
        process.start()
        process.join(chance.uniform(0, latest) if killed < kills else None)
        process.kill()
        process.join()
        if process.exitcode == 0:
            return killed
        if process.exitcode != -signal.SIGKILL:
            break
    raise CertifyError(f"A replay that was to go on after {killed} kills ended with exit code {process.exitcode}")


def contents(data: Path, way: Way) -> dict[str, list[str]]:
    """What came out, as lines of text without times, part by part.

    Raises:
        ManifestError: when a detection file is missing or not the one that was announced.
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
        place
        for place, (name, kind, *_) in enumerate(found.description)
        if str(kind) != "TIMESTAMP" and name != "file_number"
    ]
    return sorted(str(tuple(row[place] for place in kept)) for row in found.fetchall())


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
    """SHA-256 of what ``contents`` gives."""
    total = hashlib.sha256()
    for name, lines in parts.items():
        total.update(f"{name}: {len(lines)}\n".encode())
        for line in lines:
            total.update(f"{line}\n".encode())
    return total.hexdigest()


def differences(expected: dict[str, list[str]], found: dict[str, list[str]]) -> list[str]:
    """Which parts differ, with some of the lines."""
    said = []
    for part in (part for part in expected if expected[part] != found[part]):
        missing, added = set(expected[part]) - set(found[part]), set(found[part]) - set(expected[part])
        said.append(f"{part}: {len(missing)} lines are missing, {len(added)} are new")
        said += [f"  missing: {line}" for line in sorted(missing)[:DIFFERENCES_SHOWN]]
        said += [f"  new: {line}" for line in sorted(added)[:DIFFERENCES_SHOWN]]
    return said


def certify(
    data: Path | None, out: Path, shuffle: int | None, vars: dict, kills: int, seed: int, show: Show = ignore
) -> bool:
    """Replay the same chunks in every way and print what comes out; returns whether it is equal.

    Args:
        data: laid out like the bucket, or with ``transactions.csv(.gz)``; None: generated data.
        out: is emptied first.
        shuffle: seed with which rows are put in another order before they are cut into chunks.
        vars: dbt vars, such as other thresholds.
        kills: how often the last replay is killed at most.
        seed: of the random batches and kills.

    Raises:
        UserError: when the data or a threshold cannot be used, or a replay failed.
    """
    Settings(vars=vars)
    # A process of Python's, which the first replay starts, would warn about semaphores of processes that were killed.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    if shuffle is not None and data and _is_cut(data):
        raise CertifyError("Only a whole file can be shuffled; these are chunks already")
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
    """Print the digest of each way, and what differs from the first one; returns whether nothing does."""
    expected, is_equal = None, True
    print(f"{'way':24} {'detections':>10} {'kills':>5} {'seconds':>8}  digest", flush=True)
    for way in ways:
        try:
            parts = contents(data, way)
        except manifest.ManifestError as error:
            print(f"WRONG: {way.name}: {error}")
            is_equal = False
            continue
        shown = f"{way.name:24} {len(parts['detections']):10,} {way.kills:5} {way.seconds:8.1f}  {digest(parts)}"
        print(shown, flush=True)
        expected = expected or parts
        for line in differences(expected, parts):
            print(f"WRONG: {way.name}: {line}")
            is_equal = False
    return is_equal
