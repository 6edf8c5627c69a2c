"""A replay in a process that can no longer write after a named point, as on a full disk."""

import io
import os
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from tallymark.cli import main
from tallymark.intake import ledger
from tallymark.local import replay
from tallymark.outbox.planned_files import replan
from tallymark.pipeline import build, export
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse import connection as warehouse
from tallymark.warehouse import schema
from tallymark.warehouse.errors import WarehouseError
from tallymark.warehouse.ledger_index import LedgerIndex

# Name of the point: the function, as object and attribute, whether before or after its call, and which call.
POINTS: dict[str, tuple[object, str, str, int]] = {
    "no warehouse yet": (warehouse, "create_unless_begun", "before", 1),
    "tables created": (schema, "update_schema", "after", 1),
    "rows written, not committed": (ledger, "record", "after", 1),
    "chunk committed": (ledger, "update_index", "before", 1),
    "loaded, not built": (replay, "build_models", "before", 1),
    "built, not recorded": (build, "not_passed", "after", 1),
    "built, not exported": (replay, "export_detections", "before", 1),
    "second export, not committed": (export, "_plan_manifest", "after", 2),
    "file not put": (FolderStore, "put_new", "before", 2),
    "file put, not recorded": (FolderStore, "put_new", "after", 2),
    "all files recorded": (LedgerIndex, "finish", "before", 1),
}


def _limited_at(hit: int, function: Callable, when: str) -> Callable:
    """Wrap a function so that all writes to files fail, starting before or after its ``hit``-th call."""
    calls = 0

    def limiting(*arguments, **named):
        nonlocal calls
        calls += 1
        if (when, calls) == ("before", hit):
            _limit()
        result = function(*arguments, **named)
        if (when, calls) == ("after", hit):
            _limit()
        return result

    return limiting


def _limit() -> None:
    # Not 0: dbt needs semaphores, which are files of 32 bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))


def run(data: Path, out: Path, vars: str, point: str, told: Connection) -> None:
    """Replay two chunks at a time; send the exit code and the error on stderr through the connection."""
    place, name, when, hit = POINTS[point]
    setattr(place, name, _limited_at(hit, getattr(place, name), when))
    # Otherwise the output would go to a file of the test, which cannot be written either.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    sys.stderr = io.StringIO()
    code = main(["replay", str(data), str(out), "--batch=2", f"--vars={vars}"])
    # Skip the progress lines before the error.
    told.send((code, sys.stderr.getvalue()[sys.stderr.getvalue().find("ERROR: ") :]))


def plan_again(path: Path, told: Connection) -> None:
    """Plan a file again in a transaction whose commit fails; send the error through the connection."""
    settings = Settings(warehouse=path)
    with warehouse.connect(settings) as connection, warehouse.transaction(connection):
        replan(connection, "key", b"first")
    try:
        with warehouse.connect(settings) as connection, warehouse.transaction(connection):
            replan(connection, "key", b"second")
            _limit()
    except WarehouseError as error:
        told.send(str(error))
