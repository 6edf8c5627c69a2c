"""Run the production models over the history with other thresholds, in a separate warehouse.

The backtest only reads the live warehouse, one portion of rows at a time, so the stream waits only briefly. It always
runs on DuckDB, because both engines give the same detections.
"""

import logging
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from tallymark import machine
from tallymark.backtest.plan import BacktestError, Plan, Portion, amount, duration
from tallymark.backtest.report import save
from tallymark.lake import Lake, open_lake
from tallymark.patterns import patterns, shown, thresholds
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import release
from tallymark.progress import Show, ignore
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.warehouse.connection import connect, fetch_row, run_sql, transaction

log = logging.getLogger(__name__)

LOCK = "lock"
IMPORTANCE = ("raw.importance_versions", "raw.customer_importance")
ROWS = ("raw.chunks", "raw.transactions", "raw.rejected_rows")
RESULTS = ("detections", "chunk_thresholds")


def backtest(
    settings: Settings, store: Store, plan: Plan, show: Show = ignore, reader: Executor | None = None
) -> dict[str, Any]:
    """Run the models over the history, compare the detections, and save the result in the bucket.

    Args:
        settings: those of the live warehouse, which is only read.
        store: receives the folder ``<output prefix>backtests/<name>/``.
        show: called with the progress before each portion.
        reader: reads the live warehouse instead of the calling thread, if given.

    Returns:
        The summary: see ``tallymark.backtest.report``.

    Raises:
        BacktestError: when it exceeds a limit in the settings.
        BuildError, LakeError, WarehouseError: as in every build.
    """
    began_at = time.monotonic()
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    log.info("Backtest %s: %s", name, plan)
    with _own_folder(settings, name) as folder:
        history = _History(settings, open_lake(settings, store), folder, reader)
        history.copy_importance()
        done = found = 0
        for portion in plan.portions:
            seconds = time.monotonic() - began_at
            left = seconds / done * (plan.rows - done) if done else plan.seconds
            counts = f"{done:,} of {amount(plan.rows, 'row')}, {amount(found, 'detection')} so far"
            show(done, plan.rows, f"{counts}, about {duration(left)} left")
            found = history.decide(portion, dict(plan.vars))
            done += portion.rows
            _check_limits(settings, time.monotonic() - began_at, folder)
        with history.compared(plan) as warehouse:
            facts = {
                "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "vars": dict(plan.vars),
                "chunks": plan.chunks,
                "rows": plan.rows,
                "seconds": round(time.monotonic() - began_at, 1),
            }
            return save(store, settings.output_prefix, name, warehouse, facts)


def _check_limits(settings: Settings, seconds: float, folder: Path) -> None:
    if seconds > settings.backtest_seconds:
        raise BacktestError(
            f"The backtest was stopped: it took more than {duration(settings.backtest_seconds)}, the limit set by "
            "TALLYMARK_BACKTEST_SECONDS. Choose an earlier last chunk, or raise this setting."
        )
    used = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    if used > settings.backtest_bytes:
        raise BacktestError(
            f"The backtest was stopped: it used {machine.human_size(used)} of disk space, and "
            f"TALLYMARK_BACKTEST_BYTES allows {machine.human_size(settings.backtest_bytes)}. Choose an earlier last "
            "chunk, or raise this setting."
        )


@dataclass(frozen=True)
class _History:
    """The live warehouse, from which rows are copied, and the folder with the backtest's own warehouse."""

    live: Settings
    lake: Lake
    folder: Path
    reader: Executor | None

    @property
    def own(self) -> Settings:
        update = {"warehouse": self.folder / "warehouse.duckdb", "engine": "duckdb"}
        return self.live.model_copy(update=update)

    def copy_importance(self) -> None:
        """Copy all versions of customer importance."""
        with self._copied(IMPORTANCE) as files, connect(self.own) as warehouse:
            for table in IMPORTANCE:
                warehouse.read_parquet(files[table]).insert_into(table)

    def decide(self, portion: Portion, vars: dict[str, Any]) -> int:
        """Copy the rows of a portion, build them, and release the detections.

        Returns:
            The number of detections so far.
        """
        known = {name: value for name, value in (portion.thresholds or {}).items() if name in thresholds()}
        decided_with = {name: shown(value) for name, value in known.items() if value is not None}
        own = self.own.model_copy(update={"vars": self.live.vars | decided_with | vars})
        with self._copied([*ROWS, "detections"], (portion.first, portion.last)) as files:
            with connect(own) as warehouse, transaction(warehouse):
                for table in ROWS:
                    warehouse.read_parquet(files[table]).insert_into(table)
            build_models(own)
            with connect(own) as warehouse, transaction(warehouse):
                if portion.is_given:
                    run_sql(warehouse, "backtest/take_as_given", path=files["detections"])
                # The stream detected nothing here with patterns that were added later.
                unknown = {name for name, value in known.items() if value is None} - set(vars)
                later = [pattern.id for pattern in patterns() if unknown & set(pattern.thresholds)]
                warehouse.execute("delete from batch_detections where list_contains(?, pattern_id)", [later])
                release(warehouse, portion.first - 1)
                # Later portions need only the state, not these rows.
                warehouse.execute("delete from raw.transactions; delete from raw.rejected_rows")
                return fetch_row(warehouse, "select count(*) from detections")[0]

    @contextmanager
    def compared(self, plan: Plan) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the backtest's warehouse, with the table ``changes`` of ``sql/changes.sql`` and its inputs."""
        with self._copied(RESULTS, (plan.first, plan.last)) as files, connect(self.own) as warehouse:
            for table in RESULTS:
                warehouse.read_parquet(files[table]).create(f"live_{table}")
            warehouse.execute(
                "create temp table compared_chunk_thresholds as from chunk_thresholds where chunk_seq >= ?",
                [plan.first],
            )
            run_sql(warehouse, "backtest/changes", first=plan.first)
            yield warehouse

    @contextmanager
    def _copied(self, tables: Iterable[str], chunks: tuple[int, int] | None = None) -> Iterator[dict[str, str]]:
        """Copy tables of the live warehouse to Parquet files, and delete the files at the end.

        Yields:
            The files' paths by table.
        """
        with TemporaryDirectory(dir=self.folder) as folder:
            files = {table: str(Path(folder) / f"{table}.parquet") for table in tables}
            if self.reader:
                self.reader.submit(self._copy, files, chunks).result()
            else:
                self._copy(files, chunks)
            yield files

    def _copy(self, files: dict[str, str], chunks: tuple[int, int] | None) -> None:
        with connect(self.live, read_only=True) as warehouse:
            for table, path in files.items():
                self.lake.fetch(warehouse, table, chunks).write_parquet(path, compression="snappy")


@contextmanager
def _own_folder(settings: Settings, name: str) -> Iterator[Path]:
    """Create a folder next to the warehouse, and delete it at the end.

    Also delete the folders of killed backtests.
    """
    folders = settings.warehouse.absolute().parent / "backtests"
    folders.mkdir(exist_ok=True)
    folder = folders / name
    with (folders / LOCK).open("w") as all_locked:
        # Otherwise, another backtest could delete this folder before it is locked.
        flock(all_locked, LOCK_EX)
        for other in folders.iterdir():
            if other.is_dir() and not _is_in_use(other):
                shutil.rmtree(other, ignore_errors=True)
        folder.mkdir()
        locked = (folder / LOCK).open("w")
        flock(locked, LOCK_EX)
    with locked:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_in_use(folder: Path) -> bool:
    try:
        with (folder / LOCK).open("w") as locked:
            flock(locked, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    return False
