"""Characters that are trimmed from both ends of values, for Python and for SQL (csv.sql)."""

import re

import duckdb

from tallymark.warehouse.connection import run_sql

# White space, default-ignorable and control characters of Unicode, quotation marks other than ' and ", and the blank
# Braille pattern. NUL is not among them because it makes a row invalid, nor are variation selectors, which belong to
# emoji. Each constant is the content of a character class for Python's re and DuckDB's RE2.
HIDDEN_ASCII = "\x01-\x1f\x7f"
HIDDEN = (
    f"{HIDDEN_ASCII}\x80-\xa0\xab\xad\xbb\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180e\u2000-\u200f\u2018-\u201f"
    "\u2028-\u202f\u2039\u203a\u205f-\u206f\u2800\u3000\u3164\ufeff\uffa0\ufff9-\ufffb"
)
TRIMMED_ASCII, TRIMMED = f" {HIDDEN_ASCII}", f" {HIDDEN}"


def define_csv_macros(connection: duckdb.DuckDBPyConnection, is_ascii: bool) -> None:
    """Define the macros of csv.sql, and the variables ``hidden`` and ``trimmed`` that they use, on a connection.

    Args:
        is_ascii: whether the macros will read only ASCII; the patterns are shorter then.
    """
    hidden, trimmed = (HIDDEN_ASCII, TRIMMED_ASCII) if is_ascii else (HIDDEN, TRIMMED)
    connection.execute("set variable hidden = $characters", {"characters": hidden})
    connection.execute("set variable trimmed = $characters", {"characters": trimmed})
    run_sql(connection, "intake/csv")


def visible(text: str) -> str:
    """Replace invisible characters, typographic quotes and NUL with their code points: ``C<U+200B>1``."""
    return re.sub(f"[\0{HIDDEN}]", lambda found: f"<U+{ord(found[0]):04X}>", text)
