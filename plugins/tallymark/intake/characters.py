"""Characters that are trimmed from the ends of values. Python and SQL (csv.sql) both take them from here."""

import re

import duckdb

from tallymark.warehouse.connection import run_sql

# What Unicode calls white space, default-ignorable or a control character, quotation marks other than ' and ", and the
# blank Braille pattern. Not NUL, which rejects a row, nor variation selectors, which are part of an emoji.
# Each is the inside of a character class for Python's re and for DuckDB's RE2.
HIDDEN_ASCII = "\x01-\x1f\x7f"
HIDDEN = (
    f"{HIDDEN_ASCII}\x80-\xa0\xab\xad\xbb\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180e\u2000-\u200f\u2018-\u201f"
    "\u2028-\u202f\u2039\u203a\u205f-\u206f\u2800\u3000\u3164\ufeff\uffa0\ufff9-\ufffb"
)
TRIMMED_ASCII, TRIMMED = f" {HIDDEN_ASCII}", f" {HIDDEN}"


def define_csv_macros(connection: duckdb.DuckDBPyConnection, is_ascii: bool) -> None:
    """Give a connection the macros of csv.sql, and the variables ``hidden`` and ``trimmed`` that they use.

    Args:
        is_ascii: whether all that they will read is ASCII, which takes short patterns.
    """
    hidden, trimmed = (HIDDEN_ASCII, TRIMMED_ASCII) if is_ascii else (HIDDEN, TRIMMED)
    connection.execute("set variable hidden = $characters", {"characters": hidden})
    connection.execute("set variable trimmed = $characters", {"characters": trimmed})
    run_sql(connection, "intake/csv")


def visible(text: str) -> str:
    """Text in which each character that is trimmed from the ends of values, and NUL, is named: ``C<U+200B>1``."""
    return re.sub(f"[\0{HIDDEN}]", lambda found: f"<U+{ord(found[0]):04X}>", text)
