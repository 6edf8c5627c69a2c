"""A replay that kills its own process with SIGKILL at a named point, like a power failure."""

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
# Name of the point: the function, as object and attribute, and whether the process dies before or after its call.
POINTS: dict[str, tuple[object, str, str]] = {
    "object fetched": (FolderStore, "get", "after"),
    "rows written, ledger row not": (ledger, "record", "before"),
    "ledger row written, not committed": (ledger, "record", "after"),
    "chunk committed, ledger index not updated": (ledger, "update_index", "before"),
    "loaded, not built": (replay, "build_models", "before"),
    "built, no files planned": (replay, "export_detections", "before"),
    "files planned, none put": (export, "put_planned", "before"),
    "file put, not recorded": (FolderStore, "put_new", "after"),
    "some files recorded, not others": (FolderStore, "put_new", "before"),
    "all files recorded": (LedgerIndex, "finish", "before"),
    BETWEEN_NODES: (runnable, "NodeFinished", "before"),
}
# Additional points with rows and state on Spark. The second call of run_sql is the one that takes the results back.
ON_SPARK: dict[str, tuple[object, str, str]] = {
    "rows staged, not on Spark": (Staging, "put", "after"),
    "rows on Spark, not in the ledger": (OnSpark, "_operate", "after"),
    "prepared, not built": (OnSpark, "_prepare", "after"),
    "built, not collected": (OnSpark, "_collect_build", "before"),
    "collected, not committed": (on_spark, "run_sql", "after"),
    "collected, no detections yet": (OnSpark, "_collect_build", "after"),
}
# Calls while a warehouse is created: the function, as object and attribute, and which call of it.
MAKING = [
    (duckdb, "connect", 1),
    (duckdb, "connect", 2),
    (schema, "update_schema", 1),
    (Path, "replace", 1),
    (shutil, "rmtree", 1),
    (shutil, "rmtree", 2),
]


def killed_at(hit: int, function: Callable, when: str) -> Callable:
    """Wrap a function so that the process dies before or after its ``hit``-th call."""
    calls = itertools.count(1)

    def dying(*arguments, **named):
        # Several threads may call at the same time, so each call takes its own number.
        call = next(calls)
        if when == "before" and call == hit:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if when == "after" and call == hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return dying


def run(data: Path, out: Path, vars: dict, point: str | None, hit: int, environment: dict[str, str]) -> None:
    """Replay the remaining chunks, two at a time, and die when a point is reached for the ``hit``-th time."""
    os.environ.update(environment)
    if point:
        place, name, when = (POINTS | ON_SPARK)[point]
        setattr(place, name, killed_at(hit, getattr(place, name), when))
    replay.replay(data, out, batch=2, vars=vars)


def make_warehouse(path: Path, number: int, when: str) -> None:
    """Create a warehouse by opening it, and die before or after the call with this index in ``MAKING``."""
    place, name, hit = MAKING[number]
    setattr(place, name, killed_at(hit, getattr(place, name), when))
    with warehouse.connect(Settings(warehouse=path)):
        pass
