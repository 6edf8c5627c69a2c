"""The ``tallymark`` command. A subcommand imports what it needs when it runs, so that all others stay quick."""

import sys

import click

from tallymark import machine
from tallymark.cli.commands import tallymark
from tallymark.errors import UserError

ERROR = 1
USAGE = 2
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; returns the exit code.

    A UserError, wrong usage and a fault of the machine are printed as ``ERROR: <what to do>`` on stderr. Any other
    error keeps its traceback.

    Args:
        arguments: those of the command line unless given.
    """
    try:
        return int(tallymark.main(arguments, "tallymark", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "tallymark"
        return _failed(f"{error.format_message()} See: {command} --help", USAGE)
    except click.Abort:
        return INTERRUPTED
    except UserError as error:
        return _failed(str(error), ERROR)
    except (OSError, MemoryError) as error:
        if not (said := machine.explain(error)):
            raise
        return _failed(said, ERROR)


def _failed(said: str, code: int) -> int:
    print(f"ERROR: {said}", file=sys.stderr)
    return code
