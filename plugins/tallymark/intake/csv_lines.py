"""Decoding of objects into lines of text, and parsing of their headers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import duckdb

from tallymark.intake import file_kinds
from tallymark.intake.characters import define_csv_macros, visible
from tallymark.intake.errors import RejectedError
from tallymark.intake.gzipped import decompress
from tallymark.warehouse.connection import fetch_row

BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class CsvObject:
    r"""The text of an object, and the columns that its header names.

    Attributes:
        key: the object's key.
        text: lines separated by ``\n``, whatever separated them in the object; without byte order marks.
        undecodable: numbers (from 1) of lines that are not UTF-8. Their invalid bytes are ``\xNN`` in ``text``.
        header_line: number (from 1) of the first line that is not empty.
        width: number of columns.
        positions: column name -> position (from 1), or None if the header does not name the column.
        rows: number of lines below the header that are not empty.
    """

    key: str
    text: str
    undecodable: list[int]
    header_line: int
    width: int
    positions: dict[str, int | None]
    rows: int


@dataclass(frozen=True)
class Columns:
    """The columns of transactions or of the customer importance, in lower case.

    Attributes:
        required: columns that every header must name.
        optional: columns that are null if the header does not name them.
        aliases: accepted name -> name in ``required`` or ``optional``.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)

    def known(self, names: Iterable[str]) -> list[str]:
        """Replace aliases in the lower-case names of a header."""
        return [self.aliases.get(name, name) for name in names]

    def lacking(self, names: Iterable[str]) -> list[str]:
        """Return the required columns that are missing from the lower-case names of a header."""
        known = self.known(names)
        return [name for name in self.required if name not in known]


def read_csv_objects(
    key: str, objects: Iterable[tuple[str, bytes]], columns: Columns, max_decompressed_bytes: int
) -> list[CsvObject]:
    """Decode the objects of a chunk or of the customer importance; empty objects are skipped.

    Args:
        key: their common prefix, or the whole key of a single object. Reasons name an object by the rest of its key.
        objects: their keys and bytes.
        max_decompressed_bytes: the setting; limits the total of all objects.

    Raises:
        RejectedError: when all objects are empty, they exceed the limit, or one of them cannot be decompressed or has
            no usable header. The reason names that object.
    """
    files, decompressed = [], 0
    for object_key, body in objects:
        try:
            content = decompress(object_key, body, max_decompressed_bytes, decompressed)
            if not content:
                continue
            decompressed += len(content)
            text, undecodable, header_line, width, positions = read_layout(content, columns)
        except RejectedError as error:
            name = object_key.removeprefix(key)
            raise RejectedError(f"{name}: {error}" if name else str(error), error.limit) from error
        rows = len(list(filter(None, text.split("\n")))) - 1
        files.append(CsvObject(object_key, text, undecodable, header_line, width, positions, rows))
    if not files:
        raise RejectedError("contains no lines")
    return files


def split_lines(content: bytes) -> tuple[str, list[int]]:
    """Return the text and the undecodable lines of a file, as in CsvObject; lines may end in LF, CRLF or CR.

    Byte order marks are removed from the start of every line, because concatenated files have them in the middle.
    """
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    undecodable = []
    try:
        text = content.decode()
    except UnicodeDecodeError:
        lines = []
        for number, line in enumerate(content.split(b"\n"), start=1):
            try:
                lines.append(line.decode())
            except UnicodeDecodeError:
                lines.append(line.decode(errors="backslashreplace"))
                undecodable.append(number)
        text = "\n".join(lines)
    return re.sub(f"(?m)^{BYTE_ORDER_MARK}+", "", text) if BYTE_ORDER_MARK in text else text, undecodable


def read_layout(content: bytes, columns: Columns) -> tuple[str, list[int], int, int, dict[str, int | None]]:
    """Return text, undecodable lines, header line, width and positions of a file, as in CsvObject.

    Raises:
        RejectedError: when the header is not usable. The reason names the file type if it is recognized.
    """
    text, undecodable = split_lines(content)
    try:
        return text, undecodable, *read_header(text, columns)
    except RejectedError as error:
        number, line = _first_line(text)
        kind = file_kinds.describe(content, line, number not in undecodable, columns.lacking)
        raise RejectedError(kind or str(error)) from error


def read_header(text: str, columns: Columns) -> tuple[int, int, dict[str, int | None]]:
    """Return header line, width and positions, as in CsvObject. Columns may come in any order and case.

    Raises:
        RejectedError: when there is no line, or the header has unbalanced quotes, contains a NUL character, lacks a
            required column or repeats a known one.
    """
    header_line, line = _first_line(text)
    if not line:
        raise RejectedError("contains no lines")
    if "\0" in line:
        raise RejectedError("header contains a NUL character")
    names = columns.known(_header_names(line))
    if missing := columns.lacking(names):
        raise RejectedError(f"header lacks {', '.join(missing)}; the first line is: '{visible(line[:200])}'")
    known = columns.required + columns.optional
    if repeated := [name for name in known if names.count(name) > 1]:
        raise RejectedError(f"header repeats {', '.join(repeated)}")
    return header_line, len(names), {name: names.index(name) + 1 if name in names else None for name in known}


def _first_line(text: str) -> tuple[int, str]:
    """Return number (from 1) and text of the first line that is not empty."""
    content = text.lstrip("\n")
    return 1 + len(text) - len(content), content.partition("\n")[0]


@lru_cache(maxsize=8)
def _header_names(line: str) -> list[str]:
    """Parse the column names of a header, in lower case, with the macros that parse rows.

    Cached, because nearly all objects have the same header.
    """
    with duckdb.connect() as reader:
        define_csv_macros(reader, line.isascii())
        is_unbalanced, names = fetch_row(
            reader,
            """
            select
                has_unbalanced_quote(line) as is_unbalanced,
                list_transform(csv_fields(line), lambda field: coalesce(bare(field), '')) as names
            from (select $line as line)
            """,
            {"line": line},
        )
    if is_unbalanced:
        raise RejectedError(f"header has unbalanced quotes; the first line is: '{visible(line[:200])}'")
    return [name.lower() for name in names]
