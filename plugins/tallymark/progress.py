"""Progress of long commands: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

# Called with how much is done, how much there is, and what to show beside it.
Show = Callable[[int, int, str], None]


def ignore(done: int, total: int, text: str) -> None:
    """Show nothing."""


def logged(done: int, total: int, text: str) -> None:
    """Show progress in the log, as a task of Airflow does."""
    log.info("%s", text)


@contextmanager
def progress() -> Iterator[Show]:
    """Show progress on stderr: a bar if it is a terminal, otherwise a line with the time whenever the text changes.

    What is printed meanwhile appears above the bar. The bar is removed at the end.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = (TimeElapsedColumn(), BarColumn(20), text)
    # What goes to a file must not be drawn into the terminal.
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
