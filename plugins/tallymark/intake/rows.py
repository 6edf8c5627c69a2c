"""Validation of the rows of CSV files, in SQL, for many files at once."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Literal

import duckdb

from tallymark.intake.characters import TRIMMED, TRIMMED_ASCII, define_csv_macros, visible
from tallymark.intake.csv_lines import Columns, CsvObject
from tallymark.warehouse.connection import fetch_row, run_sql

TRANSACTIONS = Columns(
    required=("customer", "merchant", "gender", "amount"),
    optional=("step", "age", "zipcodeori", "zipmerchant", "category", "fraud"),
)
IMPORTANCE = Columns(required=("customer", "merchant", "weight"), aliases={"source": "customer", "target": "merchant"})

# Excludes all trimmed characters, which include line ends, and NUL. The limits on value length and column count keep a
# row far below DuckDB's maximum line length, 2 MB.
CLEAN_VALUE = rf"""(?:'[^'",\0{TRIMMED}]{{0,1000}}+'|[^'",\0{TRIMMED}]{{0,1000}}+)"""
CLEAN_ASCII_VALUE = CLEAN_VALUE.replace(TRIMMED, TRIMMED_ASCII)
MAX_CLEAN_COLUMNS = 100


def is_clean(file: CsvObject) -> bool:
    """Return whether DuckDB's CSV reader, which is several times faster, reads a file exactly as split_rows.sql does.

    Such a file is UTF-8 and begins with its header. Every row has all columns. Values are bare or in single quotes,
    without quotes, commas or trimmed characters inside.
    """
    row = ",".join([CLEAN_ASCII_VALUE if file.text.isascii() else CLEAN_VALUE] * file.width)
    return (
        file.header_line == 1
        and not file.undecodable
        and file.width <= MAX_CLEAN_COLUMNS
        and re.fullmatch(rf"[^\n]*+(?:\n{row})*+\n?", file.text) is not None
    )


@contextmanager
def validated(
    warehouse: duckdb.DuckDBPyConnection,
    files: Sequence[CsvObject],
    kind: Literal["transactions", "importance"],
    missing_words: Sequence[str],
) -> Iterator[bool]:
    """Provide the temporary view ``validated_rows``: one row per row of the files, with the reason if it is rejected.

    Its column ``file`` is the position of the file in ``files``, from 1. Enter this outside a transaction, because
    DuckDB uses a single core for data that the same transaction wrote.

    Args:
        missing_words: words that mean a missing value in a required column, in upper or lower case.

    Yields:
        Whether any file is read line by line.
    """
    clean = {place: _columns(file) for place, file in enumerate(files, start=1) if is_clean(file)}
    # A CSV reader has one list of columns. Files with other columns are read line by line.
    [(columns, _)] = Counter(clean.values()).most_common(1) or [((), 0)]
    with TemporaryFile("w", encoding="utf-8", newline="\n") as clean_rows:
        for place, file in enumerate(files, start=1):
            if clean.get(place) == columns:
                lines = file.text.removesuffix("\n").split("\n")[1:]
                clean_rows.writelines(f"{place},{number},{line}\n" for number, line in enumerate(lines, start=2))
        clean_rows.flush()
        types = {"file": "integer", "line_number": "bigint", **dict.fromkeys(columns, "varchar")}
        warehouse.execute("set variable clean_columns = $types", {"types": types})
        warehouse.execute("set variable clean_rows = $path", {"path": f"/dev/fd/{clean_rows.fileno()}"})
        _set_missing_words(warehouse, missing_words)
        run_sql(warehouse, "intake/rows")
        by_lines = {place: file for place, file in enumerate(files, start=1) if clean.get(place) != columns}
        _split(warehouse, by_lines)
        run_sql(warehouse, f"intake/validate_{kind}")
        yield bool(by_lines)


def _set_missing_words(warehouse: duckdb.DuckDBPyConnection, words: Sequence[str]) -> None:
    """Set the variable ``missing`` of rows.sql: the words, and properties to rule out most values without a lookup."""
    sizes = [len(form.encode()) for word in words for form in (word.lower(), word.upper())]
    missing = {
        "words": ["", *map(str.lower, words)],
        "shortest": min(sizes, default=0),
        "longest": max(sizes, default=0),
        "begin_with_digit": any(word[:1].isdigit() for word in words),
    }
    # Passed as JSON, because a struct parameter takes 2 ms.
    warehouse.execute(
        """
        set variable missing = from_json(
            $missing,
            '{"words": ["varchar"], "shortest": "bigint", "longest": "bigint", "begin_with_digit": "boolean"}'
        )
        """,
        {"missing": json.dumps(missing)},
    )


def _columns(file: CsvObject) -> tuple[str, ...]:
    """Return the column names of a file in order; unknown columns are named by position."""
    names = {position: name for name, position in file.positions.items()}
    return tuple(names.get(position, f"column_{position}") for position in range(1, file.width + 1))


def _split(warehouse: duckdb.DuckDBPyConnection, files: Mapping[int, CsvObject]) -> None:
    """Split the lines of files, by position, into the temporary table ``split_rows``."""
    for place, file in files.items():
        layout = {"file": place, "width": file.width, **file.positions}
        warehouse.execute("insert into files by name select unnest($layout)", {"layout": layout})
        _add_lines(warehouse, place, file)
    if files:
        define_csv_macros(warehouse, all(file.text.isascii() for file in files.values()))
        run_sql(warehouse, "intake/split_rows")


def _add_lines(warehouse: duckdb.DuckDBPyConnection, place: int, file: CsvObject) -> None:
    """Add the rows of a file, as text, to the temporary table ``file_rows``.

    Files are added one at a time, because DuckDB 1.5 takes quadratic time in the number of quotes for a list of texts.
    Line numbers are passed as JSON, because DuckDB 1.5 takes 0.1 ms per element of a list.
    """
    warehouse.execute(
        """
        insert into file_rows
        select
            $file as file,
            line_number,
            line,
            undecodable.line_number is not null as is_undecodable
        from unnest(string_split($text, chr(10))) with ordinality as lines (line, line_number)
        left join (
            select unnest(from_json($undecodable, '["bigint"]')) as line_number
        ) as undecodable using (line_number)
        where line_number > $header_line and line <> ''
        """,
        {
            "file": place,
            "text": file.text,
            "undecodable": json.dumps(file.undecodable),
            "header_line": file.header_line,
        },
    )


def insert_transactions(warehouse: duckdb.DuckDBPyConnection, chunks: Mapping[int, Sequence[CsvObject]]) -> int:
    """Write the validated rows of chunks, accepted and rejected; returns the number of accepted rows.

    Call it in the transaction that writes the chunks' ledger rows.

    Args:
        chunks: ``chunk_seq`` -> files, in the order in which they were passed to ``validated``.
    """
    files = [file for of_chunk in chunks.values() for file in of_chunk]
    chunk_seqs = [chunk_seq for chunk_seq, of_chunk in chunks.items() for _ in of_chunk]
    (accepted,) = fetch_row(
        warehouse,
        """
        insert into raw.transactions by name
        select
            cast($chunk_seqs as bigint[])[file] as chunk_seq,
            * exclude (file, reason)
        from validated_rows
        where reason is null
        """,
        {"chunk_seqs": chunk_seqs},
    )
    if accepted < sum(file.rows for file in files):
        _insert_rejected(warehouse, files, chunk_seqs, None)
    return accepted


def insert_importance(warehouse: duckdb.DuckDBPyConnection, file: CsvObject, version: int) -> None:
    """Write the validated rows of a file, accepted and rejected, as part of a version of the customer importance."""
    (accepted,) = fetch_row(
        warehouse,
        """
        insert into raw.customer_importance by name
        select $version as importance_version, customer, merchant, weight
        from validated_rows
        where reason is null
        """,
        {"version": version},
    )
    if accepted < file.rows:
        _insert_rejected(warehouse, [file], [None], version)


def _insert_rejected(
    warehouse: duckdb.DuckDBPyConnection,
    files: Sequence[CsvObject],
    chunk_seqs: Sequence[int | None],
    version: int | None,
) -> None:
    warehouse.execute(
        "insert into found_rejected by name select file, line_number, reason from validated_rows where reason not null"
    )
    without_lines = warehouse.execute("select distinct file from found_rejected anti join file_rows using (file)")
    for (place,) in without_lines.fetchall():
        _add_lines(warehouse, place, files[place - 1])
    warehouse.execute(
        """
        insert into raw.rejected_rows by name
        select
            cast($chunk_seqs as bigint[])[file] as chunk_seq,
            $version as importance_version,
            $object_keys[file] as object_key,
            line_number,
            line,
            reason
        from found_rejected
        inner join file_rows using (file, line_number)
        """,
        {"chunk_seqs": chunk_seqs, "version": version, "object_keys": [file.key for file in files]},
    )


def warnings_on_ids(warehouse: duckdb.DuckDBPyConnection, names: Sequence[str]) -> list[str]:
    """Return warnings about accepted rows with invisible characters inside an id. Call it after writing the rows.

    Args:
        names: for each file that was validated last, the name of the chunk or version it belongs to, in order.
    """
    # Only files that are read line by line can have such ids.
    found = warehouse.execute(
        """
        with ids as (
            select file, line_number, unnest([customer, merchant]) as id
            from split_rows
            anti join found_rejected using (file, line_number)
        )

        select
            $names[file] as name,
            count(distinct (file, line_number)) as row_count,
            min_by(id, (file, line_number)) as example
        from ids
        where regexp_matches(id, '[' || getvariable('hidden') || ']')
        group by name
        order by min(file)
        """,
        {"names": names},
    )
    return [
        f"INVISIBLE CHARACTERS: {name} has {rows} {'row' if rows == 1 else 'rows'} with invisible characters or "
        f"typographic quotes inside a customer or merchant, for example {visible(example)}. They count as part of the "
        "id. If this was a mistake, ask the producer to remove them."
        for name, rows, example in found.fetchall()
    ]
