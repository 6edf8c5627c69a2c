"""Progress of long commands: a bar on a terminal, plain lines otherwise."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

# Called with the amount done, the total, and a text.
Show = Callable[[int, int, str], None]


def ignore(done: int, total: int, text: str) -> None:
    """Show nothing."""


def logged(done: int, total: int, text: str) -> None:
    """Show progress in the log. For Airflow tasks."""
    log.info("%s", text)


@contextmanager
def progress() -> Iterator[Show]:
    """Show progress on stderr: a bar on a terminal, otherwise a line with the elapsed time when the text changes.

    Other output appears above the bar. The bar is removed at the end.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = (TimeElapsedColumn(), BarColumn(20), text)
    # Output that goes to a file must not appear on the terminal.
    to_terminal = sys.stdout.isatty()
    console = Console(stderr=True, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=to_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


def _lines() -> Show:
    began_at, shown = time.monotonic(), [""]

    def show(done: int, total: int, text: str) -> None:
        if text != shown[-1]:
            print(f"{time.monotonic() - began_at:5.0f} s   {text}", file=sys.stderr, flush=True)
        shown[:] = [text]

    return show
