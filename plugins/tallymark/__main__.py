"""The command line: ``python -m tallymark <command> ...``. People call it through make; see ``make help``."""

import sys
from importlib import import_module

from tallymark.cli.command_line import command
from tallymark.errors import UserError

# The module whose main function is called, and what it is given before the arguments.
COMMANDS = {
    "demo": ("local.stack", "demo"),
    "up": ("local.stack", "up"),
    "down": ("local.stack", "down"),
    "replay": ("local.replay",),
    "certify": ("local.certify",),
    "doctor": ("doctor.command",),
    "verify": ("recovery.command", "verify"),
    "rebuild": ("recovery.command", "rebuild"),
    "generate": ("local.generate",),
    "feed": ("local.feed",),
    "secrets": ("cli.env_file",),
    "settings": ("settings",),
    "set-up": ("on_airflow.set_up",),
    "health": ("on_airflow.health",),
}


@command
def main(arguments: list[str]) -> int | None:
    """Run the command that is named first, with the arguments behind it; nothing is imported for another one."""
    name, *arguments = arguments or [""]
    if name not in COMMANDS:
        raise UserError(f"{name!r} is no command; there are: {', '.join(COMMANDS)}")
    module, *given = COMMANDS[name]
    return import_module(f"tallymark.{module}").main([*given, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
