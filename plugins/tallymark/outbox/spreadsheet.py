"""Text that a spreadsheet would take for a formula; see docs/decisions/formulas-in-files.md."""

import re

_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # noqa: RUF001


def defused(text: str) -> str:
    """A value as files show it: one quote (') is put before a formula, and before quotes that precede one."""
    return f"'{text}" if _FORMULA.match(text) else text


def restored(text: str) -> str:
    """The value that ``defused`` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
