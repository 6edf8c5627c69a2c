"""Building blocks of the subcommands: the group, options that make can set, and parameter types."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tallymark import __version__
from tallymark.errors import UserError

EXIT_CODES = "Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted."
SECTIONS = {
    "Try it on this machine": ("demo", "up", "down", "replay", "certify"),
    "With a bucket": ("doctor", "set-up", "verify", "rebuild", "migrate-engine"),
    "With a warehouse": ("backtest", "build", "dbt"),
    "Called by make, docker-compose.yaml and developers": ("feed", "generate", "health", "secrets", "settings"),
}


class Sections(click.Group):
    """A group whose help lists its subcommands by section."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])


@click.group(cls=Sections, context_settings={"max_content_width": 120}, epilog=EXIT_CODES)
@click.version_option(__version__)
def tallymark() -> None:
    """Watch customer transactions landing in S3 and tell merchants, exactly once, whom to act on."""


def command(example: str, **given: Any) -> Callable:
    """Define a subcommand with the name of its function. Its help ends with an example."""
    return tallymark.command(epilog=f"\b\nExample:\n  {example}", **given)


def option(name: str, **given: Any) -> Callable:
    """Define an option. ``make`` can set it with the environment variable ``MAKE_<NAME>``."""
    return click.option(f"--{name}", envvar=_variable(name), **given)


def argument(name: str, **given: Any) -> Callable:
    """Define an argument. ``make`` can set it in the same way as an option."""
    return click.argument(name, envvar=_variable(name), **given)


def _variable(name: str) -> str:
    return f"MAKE_{name.upper().replace('-', '_')}"


class Folder(click.ParamType):
    """A folder that exists.

    Args:
        content: what the folder must contain, for the error.
    """

    name = "folder"

    def __init__(self, content: str):
        self.content = content

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path, name = Path(value), param.name.upper() if param and param.name else "The folder"
        if not path.is_dir():
            problem = "is a file" if path.exists() else "does not exist"
            raise UserError(f"{name} {problem}: {path.absolute()}. Choose a folder with {self.content}.")
        return path


class Count(click.IntRange):
    """An integer with a minimum."""

    name = "integer"


class Vars(click.ParamType):
    """A YAML mapping of dbt vars."""

    name = "yaml"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict:
        import yaml

        from tallymark.settings import VARS_EXAMPLE

        try:
            vars, reason = value if isinstance(value, dict) else yaml.safe_load(value), ""
        except yaml.YAMLError as error:
            vars, reason = None, f" ({getattr(error, 'problem', error)})"
        if not isinstance(vars, dict):
            raise UserError(f"VARS is {value!r}: it must be a YAML mapping, such as {VARS_EXAMPLE}{reason}.")
        return vars
