"""What the commands share: each tells a plain mistake in a sentence, not by a traceback."""

import argparse
import errno
import re
import sys
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import NoReturn

from tallymark.errors import UserError

# What is wrong with a folder or a disk, and not with the code.
OF_THE_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
INTERRUPTED = 130


def command(main: Callable[[list[str]], int | None]) -> Callable[[list[str]], int]:
    """Let a main function tell errors that are for people as ``ERROR: <sentence>`` on stderr; it returns the exit code.

    Any other error keeps its traceback.
    """

    @wraps(main)
    def exit_code(arguments: list[str]) -> int:
        try:
            return int(main(arguments) or 0)
        except KeyboardInterrupt:
            return INTERRUPTED
        except UserError as error:
            said = str(error)
        except OSError as error:
            if error.errno not in OF_THE_DISK:
                raise
            said = f"{error.filename or 'The disk'}: {error.strerror}"
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
    """Make a folder, unless it is there; raise a UserError when it cannot be made or written into."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        why = "it is a file" if path.is_file() else error.strerror
        raise UserError(
            f"Nothing can be written into {path.absolute()} ({why}); {name} must be a folder that you may write into"
        ) from error
