"""What the commands share: an error that its user can fix is a sentence, not a traceback."""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import NoReturn

from tallymark import machine
from tallymark.errors import UserError

INTERRUPTED = 130


def command(main: Callable[[list[str]], int | None]) -> Callable[[list[str]], int]:
    """Let a main function print a UserError, and a fault of the machine, as ``ERROR: <sentence>`` on stderr.

    The function returns the exit code. Any other error keeps its traceback.
    """

    @wraps(main)
    def exit_code(arguments: list[str]) -> int:
        try:
            return int(main(arguments) or 0)
        except KeyboardInterrupt:
            return INTERRUPTED
        except UserError as error:
            said = str(error)
        except (OSError, MemoryError) as error:
            if not (said := machine.explain(error)):
                raise
        print(f"ERROR: {said}", file=sys.stderr)
        return 1

    return exit_code


class ArgumentParser(argparse.ArgumentParser):
    """Arguments that cannot be used are a UserError, which names them as make does: BATCH, not --batch."""

    def error(self, message: str) -> NoReturn:
        raise UserError(re.sub(r"^argument --([a-z]+)", lambda found: found[1].upper(), message))


def whole_number(at_least: int, of: str) -> Callable[[str], int]:
    """A type for an argument: a whole number that is not smaller than ``at_least``.

    Args:
        of: what is counted, in the plural.
    """

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < at_least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {of}: {at_least} or more")
        return int(text)

    return parse


def must_be_a_folder(path: Path, name: str, holds: str) -> None:
    """Raise a UserError when there is no such folder.

    Args:
        name: how the command calls it.
        holds: what belongs into it.
    """
    if not path.is_dir():
        wrong = f"{path.absolute()} is a file" if path.exists() else f"There is no folder {path.absolute()}"
        raise UserError(f"{wrong}; {name} must be a folder with {holds}")


def must_be_writable(path: Path, name: str) -> None:
    """Create a folder unless it is there; raise a UserError when that fails, or when nothing can be written into it.

    Args:
        name: how the command calls it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        if error.errno in machine.OF_SPACE:
            raise UserError(machine.explain(error, path.absolute())) from error
        why = "it is a file" if path.is_file() else error.strerror
        raise UserError(
            f"{name} is not writable: {path.absolute()} ({why}). Choose a folder you can write to."
        ) from error
