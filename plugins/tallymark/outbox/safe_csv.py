"""CSV files that are safe to open in a spreadsheet: docs/decisions/formulas-in-files.md."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # noqa: RUF001


def as_csv(rows: Iterable[Sequence]) -> bytes:
    """Content of a CSV file with these rows, the header first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([defused(value) if isinstance(value, str) else value for value in row] for row in rows)
    return text.getvalue().encode()


def defused(text: str) -> str:
    """Escape a formula with a quote ('); a formula that already has quotes before it gets one more."""
    return f"'{text}" if _FORMULA.match(text) else text


def restored(text: str) -> str:
    """The original of a value that ``defused`` escaped."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
