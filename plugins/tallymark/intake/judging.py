"""Which rows of CSV files are accepted, and why the others are not: decided by SQL, for many files at once."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any, Literal

import duckdb

from tallymark.intake.characters import TRIMMED, TRIMMED_ASCII, define_csv_macros, visible
from tallymark.intake.csv_lines import CsvObject
from tallymark.warehouse.connection import run_sql

# Nothing that is trimmed and no NUL either; both sizes keep a row far below what DuckDB takes for a line, 2 MB.
CLEAN_VALUE = rf"""(?:'[^'",\0{TRIMMED}]{{0,1000}}+'|[^'",\0{TRIMMED}]{{0,1000}}+)"""
CLEAN_ASCII_VALUE = CLEAN_VALUE.replace(TRIMMED, TRIMMED_ASCII)
MAX_CLEAN_COLUMNS = 100


def is_clean(file: CsvObject) -> bool:
    """Whether the CSV reader of DuckDB reads the rows of a file as split_rows.sql does, several times quicker.

    Each row then has all columns; its values are in single quotes or bare, without quotes, commas and characters that
    are trimmed inside, and a row is much shorter than what DuckDB takes for a line.
    """
    row = ",".join([CLEAN_ASCII_VALUE if file.text.isascii() else CLEAN_VALUE] * file.width)
    return (
        file.header_line == 1
        and not file.undecodable
        and file.width <= MAX_CLEAN_COLUMNS
        and re.fullmatch(rf"[^\n]*+(?:\n{row})*+\n?", file.text) is not None
    )


@contextmanager
def judged(
    warehouse: duckdb.DuckDBPyConnection,
    files: Sequence[CsvObject],
    kind: Literal["transactions", "importance"],
    missing_words: Sequence[str],
) -> Iterator[bool]:
    """Within it, the temporary view ``judged_rows`` has the rows of files and what is wrong with each.

    The view has a file's place here as ``file``, from 1. Quickest when entered outside of a transaction: DuckDB uses
    one core for what the same transaction wrote.

    Gives whether a file is read line by line.

    Args:
        missing_words: that mean a missing value in a required column, in upper or lower case.
    """
    run_sql(warehouse, "intake/csv_tables")
    clean = {place: _columns(file) for place, file in enumerate(files, start=1) if is_clean(file)}
    # One reader reads one set of columns; what has others goes line by line.
    [(columns, _)] = Counter(clean.values()).most_common(1) or [((), 0)]
    with TemporaryFile("w", encoding="utf-8", newline="\n") as clean_rows:
        for place, file in enumerate(files, start=1):
            if clean.get(place) == columns:
                lines = file.text.removesuffix("\n").split("\n")[1:]
                clean_rows.writelines(f"{place},{number},{line}\n" for number, line in enumerate(lines, start=2))
        clean_rows.flush()
        _split(warehouse, {place: file for place, file in enumerate(files, start=1) if clean.get(place) != columns})
        types = {"file": "integer", "line_number": "bigint", **dict.fromkeys(columns, "varchar")}
        warehouse.execute("set variable clean_columns = $types", {"types": types})
        warehouse.execute("set variable clean_rows = $path", {"path": f"/dev/fd/{clean_rows.fileno()}"})
        run_sql(warehouse, "intake/missing_words", missing=json.dumps(_missing(missing_words)))
        for script in ("named_rows", "number_macros", f"judge_{kind}"):
            run_sql(warehouse, f"intake/{script}")
        yield any(clean.get(place) != columns for place in range(1, len(files) + 1))


def _missing(words: Sequence[str]) -> dict[str, Any]:
    """The variable ``missing`` of named_rows.sql: the words, and what tells most values from them without a look-up."""
    sizes = [len(form.encode()) for word in words for form in (word.lower(), word.upper())]
    return {
        "words": ["", *map(str.lower, words)],
        "shortest": min(sizes, default=0),
        "longest": max(sizes, default=0),
        "begin_with_digit": any(word[:1].isdigit() for word in words),
    }


def _columns(file: CsvObject) -> tuple[str, ...]:
    """Names of all columns of a file in their order; one that means nothing is called by its place."""
    names = {position: name for name, position in file.positions.items()}
    return tuple(names.get(position, f"column_{position}") for position in range(1, file.width + 1))


def _split(warehouse: duckdb.DuckDBPyConnection, files: Mapping[int, CsvObject]) -> None:
    """Put what the lines of files, by their places, say into the temporary table ``split_rows``."""
    for place, file in files.items():
        layout = {"file": place, "width": file.width, **file.positions}
        warehouse.execute("insert into files by name select unnest($layout)", {"layout": layout})
        _add_lines(warehouse, place, file)
    if files:
        define_csv_macros(warehouse, all(file.text.isascii() for file in files.values()))
        run_sql(warehouse, "intake/split_rows")


def _add_lines(warehouse: duckdb.DuckDBPyConnection, place: int, file: CsvObject) -> None:
    """Put the lines of a file into the temporary table ``file_rows``, one file at a time.

    In a list of texts, DuckDB 1.5 takes time in the square of the number of quotes.
    """
    lines = {"text": file.text, "undecodable": json.dumps(file.undecodable), "header_line": file.header_line}
    run_sql(warehouse, "intake/split_lines", file=place, **lines)


def insert_rejected_rows(
    warehouse: duckdb.DuckDBPyConnection,
    files: Sequence[CsvObject],
    chunk_seqs: Sequence[int | None],
    version: int | None,
) -> None:
    """Write what is rejected of the files that are judged, each for its chunk or for a version of the importance."""
    run_sql(warehouse, "intake/find_rejected_rows")
    without_lines = warehouse.execute("select distinct file from found_rejected anti join file_rows using (file)")
    for (place,) in without_lines.fetchall():
        _add_lines(warehouse, place, files[place - 1])
    keys = [file.key for file in files]
    run_sql(warehouse, "intake/insert_rejected_rows", chunk_seqs=chunk_seqs, version=version, object_keys=keys)


def remarks_on_ids(warehouse: duckdb.DuckDBPyConnection, names: Sequence[str]) -> list[str]:
    """Warnings about accepted rows with invisible characters inside an id, which are kept; ask after rows were written.

    Args:
        names: what each of the files that were judged last is part of, in their order.
    """
    return [
        f"INVISIBLE CHARACTERS: {name} has {rows} {'row' if rows == 1 else 'rows'} with invisible characters or "
        f"typographic quotes inside a customer or merchant, for example {visible(example)}. They are part of the id. "
        "If that is a mistake, ask the producer to remove them."
        for name, rows, example in run_sql(warehouse, "intake/hidden_in_ids", names=names).fetchall()
    ]
