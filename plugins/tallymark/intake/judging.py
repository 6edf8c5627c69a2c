"""Which rows of CSV files are accepted, and why the others are not: decided by SQL, for many files at once."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Literal

import duckdb

from tallymark.intake.csv_lines import CsvObject
from tallymark.warehouse.connection import run_sql

# No control character and no blank either; both sizes keep a row far below what DuckDB takes for a line, 2 MB.
CLEAN_VALUE = r"""(?:'[^'",\0- ]{0,1000}+'|[^'",\0- ]{0,1000}+)"""
MAX_CLEAN_COLUMNS = 100


def is_clean(file: CsvObject) -> bool:
    """Whether the CSV reader of DuckDB reads the rows of a file as split_rows.sql does, several times quicker.

    Each row then has all columns; its values are in single quotes or bare, without quotes, commas, blanks and control
    characters inside, and a row is much shorter than what DuckDB takes for a line.
    """
    row = ",".join([CLEAN_VALUE] * file.width)
    return (
        file.header_line == 1
        and not file.undecodable
        and file.width <= MAX_CLEAN_COLUMNS
        and re.fullmatch(rf"[^\n]*+(?:\n{row})*+\n?", file.text) is not None
    )


@contextmanager
def judged(
    warehouse: duckdb.DuckDBPyConnection, files: Sequence[CsvObject], kind: Literal["transactions", "importance"]
) -> Iterator[None]:
    """Within it, the temporary view ``judged_rows`` has the rows of files and what is wrong with each.

    The view has a file's place here as ``file``, from 1. Quickest when entered outside of a transaction: DuckDB uses
    one core for what the same transaction wrote.
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
        for script in ("named_rows", "number_macros", f"judge_{kind}"):
            run_sql(warehouse, f"intake/{script}")
        yield


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
        run_sql(warehouse, "intake/csv_macros")
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
