"""CSV that does no harm in a spreadsheet: docs/decisions/formulas-in-files.md."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # noqa: RUF001


def as_csv(rows: Iterable[Sequence]) -> bytes:
    """Lines of a CSV file, its header among them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([defused(value) if isinstance(value, str) else value for value in row] for row in rows)
    return text.getvalue().encode()


def defused(text: str) -> str:
    """A value as files show it: one quote (') is put before a formula, and before quotes that precede one."""
    return f"'{text}" if _FORMULA.match(text) else text


def restored(text: str) -> str:
    """The value that ``defused`` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
