"""From the bytes of an object to its text, and what its header says of the columns."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import duckdb

from tallymark.intake import file_kinds
from tallymark.intake.characters import define_csv_macros, visible
from tallymark.intake.errors import RejectedError
from tallymark.intake.gzipped import unpack
from tallymark.warehouse.connection import fetch_row

BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class CsvObject:
    r"""The text of an object and what its header says.

    Attributes:
        key: of the object.
        text: lines separated by ``\n``, whatever separated them before; no byte order mark.
        undecodable: numbers (from 1) of the lines that are not UTF-8; their bad bytes are
            written as ``\xNN`` in ``text``.
        header_line: number (from 1) of the first line that is not empty.
        width: number of columns.
        positions: column name -> position from 1, or None if the header does not name it.
        rows: lines below the header that are not empty.
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
    """The columns of a kind of file, in lower case.

    Attributes:
        required: a header without one of them is no header.
        optional: null when the header lacks them.
        aliases: another name -> the name above.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)

    def known(self, names: Iterable[str]) -> list[str]:
        """Names of a header in lower case, without aliases."""
        return [self.aliases.get(name, name) for name in names]

    def lacking(self, names: Iterable[str]) -> list[str]:
        """The required columns that names in lower case lack."""
        known = self.known(names)
        return [name for name in self.required if name not in known]


def read_csv_objects(
    key: str, objects: Iterable[tuple[str, bytes]], columns: Columns, max_unpacked_bytes: int
) -> list[CsvObject]:
    """Find lines and columns of objects that belong together; empty objects are left out.

    Args:
        key: of all of them together; the rest of an object's key names it in reasons.
        objects: their keys and bytes.
        max_unpacked_bytes: the setting, for all of them together.

    Raises:
        RejectedError: when together they hold nothing or unpack to too much, or when one, which the reason names,
            cannot be unpacked or has no usable header.
    """
    files, unpacked = [], 0
    for object_key, body in objects:
        try:
            content = unpack(object_key, body, max_unpacked_bytes, unpacked)
            if not content:
                continue
            unpacked += len(content)
            text, undecodable, header_line, width, positions = read_layout(content, columns)
        except RejectedError as error:
            name = object_key.removeprefix(key)
            raise RejectedError(f"{name}: {error}" if name else str(error), error.limit) from error
        rows = len(list(filter(None, text.split("\n")))) - 1
        files.append(CsvObject(object_key, text, undecodable, header_line, width, positions, rows))
    if not files:
        raise RejectedError("holds no line")
    return files


def split_lines(content: bytes) -> tuple[str, list[int]]:
    """Text and undecodable lines of a file, as in CsvObject; lines may end in LF, CRLF or CR.

    Byte order marks at the start of lines are left out: files that were put together have them in the middle.
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
    """Text, undecodable lines, header line, width and positions of a file, as in CsvObject.

    Raises:
        RejectedError: when its header cannot be used; the message says what else than CSV the file seems to be.
    """
    text, undecodable = split_lines(content)
    try:
        return text, undecodable, *read_header(text, columns)
    except RejectedError as error:
        number, line = _first_line(text)
        kind = file_kinds.describe(content, line, number not in undecodable, columns.lacking)
        raise RejectedError(kind or str(error)) from error


def read_header(text: str, columns: Columns) -> tuple[int, int, dict[str, int | None]]:
    """Header line, width and positions as in CsvObject: names in any order and case, split as rows are.

    Raises:
        RejectedError: when there is no line, its quotes do not match, it contains a NUL character, a required column
            is missing, or a known one is repeated.
    """
    header_line, line = _first_line(text)
    if not line:
        raise RejectedError("holds no line")
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
    """Number (from 1) and text of the first line that is not empty."""
    content = text.lstrip("\n")
    return 1 + len(text) - len(content), content.partition("\n")[0]


@lru_cache(maxsize=8)
def _header_names(line: str) -> list[str]:
    """Names in lower case, as the macros read them that read rows; the same header comes with nearly every object."""
    with duckdb.connect() as reader:
        define_csv_macros(reader, line.isascii())
        is_broken, names = fetch_row(
            reader,
            """
            select
                has_unbalanced_quote(line) as is_broken,
                list_transform(csv_fields(line), lambda field: coalesce(bare(field), '')) as names
            from (select $line as line)
            """,
            {"line": line},
        )
    if is_broken:
        raise RejectedError(f"quotes of the header do not match; the first line is: '{visible(line[:200])}'")
    return [name.lower() for name in names]
