"""A replay that kills its own process with SIGKILL at a named point, as the power would."""

import itertools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import duckdb
from dbt.task import runnable
from tallymark.intake import ledger
from tallymark.lake import on_spark
from tallymark.lake.on_spark import OnSpark
from tallymark.lake.staging import Staging
from tallymark.local import replay
from tallymark.pipeline import export
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse import connection as warehouse
from tallymark.warehouse import schema
from tallymark.warehouse.ledger_index import LedgerIndex

BETWEEN_NODES = "between two dbt nodes"
# Point -> the function around which it lies, and whether the process dies before or after it.
POINTS: dict[str, tuple[object, str, str]] = {
    "object fetched": (FolderStore, "get", "after"),
    "rows written, ledger not": (ledger, "record", "before"),
    "ledger written, not committed": (ledger, "record", "after"),
    "chunk committed, ledger index not": (ledger, "update_index", "before"),
    "loaded, not built": (replay, "build_models", "before"),
    "built, no files planned": (replay, "export_detections", "before"),
    "files planned, none put": (export, "put_planned", "before"),
    "file put, not noted": (FolderStore, "put_new", "after"),
    "some files noted, not others": (FolderStore, "put_new", "before"),
    "all files noted": (LedgerIndex, "finish", "before"),
    BETWEEN_NODES: (runnable, "NodeFinished", "before"),
}
# With rows and state on Spark. The second call of run_sql is that of the rows that are handed back.
ON_SPARK: dict[str, tuple[object, str, str]] = {
    "rows staged, not on Spark": (Staging, "put", "after"),
    "rows on Spark, not in the ledger": (OnSpark, "_operate", "after"),
    "handed over, not built": (OnSpark, "_hand_over", "after"),
    "built, not handed back": (OnSpark, "_hand_back", "before"),
    "handed back, not committed": (on_spark, "run_sql", "after"),
    "handed back, no detections made": (OnSpark, "_hand_back", "after"),
}
# Calls while a warehouse is made: where the function is, its name, and which call of it.
MAKING = [
    (duckdb, "connect", 1),
    (duckdb, "connect", 2),
    (schema, "update_schema", 1),
    (Path, "replace", 1),
    (shutil, "rmtree", 1),
    (shutil, "rmtree", 2),
]


def killed_at(hit: int, function: Callable, when: str) -> Callable:
    """The function, which dies before or after its ``hit``-th call."""
    calls = itertools.count(1)

    def dying(*arguments, **named):
        # Several threads call at once; each has a number of its own.
        call = next(calls)
        if when == "before" and call == hit:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if when == "after" and call == hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return dying


def run(data: Path, out: Path, vars: dict, point: str | None, hit: int, environment: dict[str, str]) -> None:
    """Replay what is left, two chunks at a time, and die at the ``hit``-th time that a point is reached."""
    os.environ.update(environment)
    if point:
        place, name, when = (POINTS | ON_SPARK)[point]
        setattr(place, name, killed_at(hit, getattr(place, name), when))
    replay.replay(data, out, batch=2, vars=vars)


def make_warehouse(path: Path, number: int, when: str) -> None:
    """Open a warehouse that is not there, and die before or after the call with this number in ``MAKING``."""
    place, name, hit = MAKING[number]
    setattr(place, name, killed_at(hit, getattr(place, name), when))
    with warehouse.connect(Settings(warehouse=path)):
        pass
