"""A replay that kills its own process with SIGKILL at a named point, as the power would."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dbt.cli.main
from tallymark import ledger, output, replay, work
from tallymark.store import FolderStore

# Point -> the function around which it lies, and whether the process dies before or after it.
POINTS: dict[str, tuple[object, str, str]] = {
    "object fetched": (FolderStore, "get", "after"),
    "rows written, ledger not": (ledger, "record", "before"),
    "ledger written, not committed": (ledger, "record", "after"),
    "chunk committed, copy of the ledger not": (ledger, "publish", "before"),
    "loaded, not built": (replay, "build", "before"),
    "built, no files planned": (replay, "export_detections", "before"),
    "files planned, none put": (output, "put_planned", "before"),
    "file put, not noted": (FolderStore, "put_new", "after"),
    "some files noted, not others": (FolderStore, "put_new", "before"),
    "all files noted": (work, "finish", "before"),
}
BETWEEN_NODES = "between two dbt nodes"


def killed_at(hit: int, function: Callable, when: str) -> Callable:
    """The function, which dies before or after its ``hit``-th call."""
    calls = 0

    def dying(*arguments, **named):
        nonlocal calls
        calls += 1
        if when == "before" and calls == hit:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if when == "after" and calls == hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return dying


def run(data: Path, out: Path, vars: dict, point: str | None = None, hit: int = 1) -> None:
    """Replay what is left, two chunks at a time, and die at the ``hit``-th time that a point is reached."""
    if point == BETWEEN_NODES:
        die = killed_at(hit, lambda: None, "before")
        dbt.cli.main.dbtRunner = partial(
            dbt.cli.main.dbtRunner, callbacks=[lambda event: event.info.name == "NodeFinished" and die()]
        )
    elif point:
        place, name, when = POINTS[point]
        setattr(place, name, killed_at(hit, getattr(place, name), when))
    replay.replay(data, out, batch=2, vars=vars)
