"""What subcommands are made of: the group, options that make can set, and types of values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tallymark.errors import UserError

EXIT_CODES = "Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted."
SECTIONS = {
    "Try it on this machine": ("demo", "up", "down", "replay", "certify"),
    "With a bucket": ("doctor", "set-up", "verify", "rebuild", "migrate-engine"),
    "With a warehouse": ("backtest", "build", "dbt"),
    "Called by make, docker-compose.yaml and developers": ("feed", "generate", "health", "secrets", "settings"),
}


class Sections(click.Group):
    """A group whose help lists its subcommands by SECTIONS."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])


@click.group(cls=Sections, context_settings={"max_content_width": 120}, epilog=EXIT_CODES)
def tallymark() -> None:
    """Watch customer transactions landing in S3 and tell merchants, exactly once, whom to act on."""


def command(example: str, **given: Any) -> Callable:
    """A subcommand, named as its function; its help ends with an example."""
    return tallymark.command(epilog=f"\b\nExample:\n  {example}", **given)


def option(name: str, **given: Any) -> Callable:
    """An option. ``make`` sets it by a variable, which arrives as ``MAKE_<NAME>``."""
    return click.option(f"--{name}", envvar=_variable(name), **given)


def argument(name: str, **given: Any) -> Callable:
    """An argument, which make sets as it does an option."""
    return click.argument(name, envvar=_variable(name), **given)


def _variable(name: str) -> str:
    return f"MAKE_{name.upper().replace('-', '_')}"


class Folder(click.ParamType):
    """A folder that exists.

    Args:
        holds: what belongs into it, for the error.
    """

    name = "folder"

    def __init__(self, holds: str):
        self.holds = holds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path, name = Path(value), param.name.upper() if param and param.name else "It"
        if not path.is_dir():
            wrong = f"{path.absolute()} is a file" if path.exists() else f"There is no folder {path.absolute()}"
            raise UserError(f"{wrong}; {name} must be a folder with {self.holds}")
        return path


class Count(click.IntRange):
    """A whole number that is not too small."""

    name = "integer"


class Vars(click.ParamType):
    """dbt vars, as YAML."""

    name = "yaml"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict:
        import yaml

        from tallymark.settings import VARS_EXAMPLE

        try:
            found = value if isinstance(value, dict) else yaml.safe_load(value)
            why = "there are no names with values in it"
        except yaml.YAMLError as error:
            found, why = None, getattr(error, "problem", str(error))
        if not isinstance(found, dict):
            raise UserError(f"VARS is {value!r}: it must be YAML like {VARS_EXAMPLE} ({why})")
        return found
