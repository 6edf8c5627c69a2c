"""The ``tallymark`` command. Each subcommand imports its own modules when it runs, so the others start quickly."""

import sys

import click

from tallymark import machine
from tallymark.cli.commands import tallymark
from tallymark.errors import UserError

ERROR = 1
USAGE = 2
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand and return the exit code.

    User errors, wrong usage and machine faults are printed on stderr as ``ERROR: <message>``. Other errors are bugs and
    keep their traceback.

    Args:
        arguments: default to the arguments of the process.
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
        if not (explanation := machine.explain(error)):
            raise
        return _failed(explanation, ERROR)


def _failed(message: str, code: int) -> int:
    print(f"ERROR: {message}", file=sys.stderr)
    return code
