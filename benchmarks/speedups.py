"""Measures how much time each speedup saves.

The same chunks go one by one into two warehouses, with the speedup turned off for one of them. CPU time is measured,
because it depends less on other load than elapsed time.

``PYTHONPATH=plugins:. .venv/bin/python -m benchmarks.speedups [NAME ...]`` prints the figures for the README of the
speedups.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from statistics import median
from unittest.mock import patch

from tallymark.patterns import DBT_PROJECT
from tallymark.speedups import dbt as speedups
from tallymark.warehouse import invoke_dbt

from benchmarks.common import BENCH, find_data, fresh, lay_out, micro_batch, warm_up

CHUNKS = 34
# The first chunks are not counted: the project is parsed, and the first detections are made.
UNCOUNTED = 4


def main(names: list[str]) -> None:
    data = find_data(None)
    warm_up(data)
    for name in names or WITHOUT:
        roots = {True: fresh("speedups-on"), False: fresh("speedups-off")}
        chunks = {is_on: lay_out(root, data)[:CHUNKS] for is_on, root in roots.items()}
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for number in range(CHUNKS):
            for is_on in sorted((True, False), reverse=number % 2 == 0):
                start = time.process_time()
                with nullcontext() if is_on else WITHOUT[name]():
                    micro_batch(roots[is_on], [chunks[is_on][number]])
                seconds[is_on].append(time.process_time() - start)
        on, off = (seconds[is_on][UNCOUNTED:] for is_on in (True, False))
        saved = median(without - within for within, without in zip(on, off, strict=True))
        print(f"{name}: {saved:+.3f} s, {saved / median(on):+.1%} of {median(on):.3f} s", flush=True)


def _dbt(name: str) -> Callable[[], AbstractContextManager]:
    return lambda: patch.object(speedups, name, nullcontext)


def _parsing() -> AbstractContextManager:
    return patch.object(speedups, "make_reusable", lambda *_, **__: False)


_parsed: dict = {}


@contextmanager
def _materializations() -> Iterator[None]:
    project = BENCH / "project"
    if not _parsed:
        shutil.rmtree(project, ignore_errors=True)
        shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("speedups", "target", "logs"))
    with patch.object(invoke_dbt, "DBT_PROJECT", project), patch.object(invoke_dbt, "_parsed", _parsed):
        yield


@contextmanager
def _all() -> Iterator[None]:
    with ExitStack() as stack:
        for name in ("only_warnings", "inject_once", "no_plugins", "materializations", "parsing"):
            stack.enter_context(WITHOUT[name]())
        yield


WITHOUT = {
    "nothing": nullcontext,
    "only_warnings": _dbt("only_warnings"),
    "inject_once": _dbt("inject_once"),
    "no_plugins": _dbt("no_plugins"),
    "materializations": _materializations,
    "parsing": _parsing,
    "all of them": _all,
}

if __name__ == "__main__":
    main(sys.argv[1:])
