"""docs/command-line.md agrees with the commands."""

import re

from tallymark.cli import ERROR, INTERRUPTED, USAGE
from tallymark.cli.options import SECTIONS, tallymark
from tallymark.settings import PROJECT_ROOT

PAGE = (PROJECT_ROOT / "docs" / "command-line.md").read_text()


def test_page_lists_every_command():
    rows = re.findall(r"^\| `tallymark ([a-z-]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    shown = [name for names in SECTIONS.values() for name in names]
    assert rows == [(name, tallymark.commands[name].get_short_help_str(90)) for name in shown]


def test_page_lists_the_exit_codes():
    codes = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [int(code) for code, _ in codes] == [0, ERROR, USAGE, INTERRUPTED]
