"""File type detection for objects that are not comma-separated UTF-8 CSV.

It runs only if the header is not usable, so no signature ever rejects a readable file.
"""

import re
from collections.abc import Callable, Sequence

from tallymark.intake.characters import TRIMMED, visible

EXPECTED = "Tallymark reads comma-separated UTF-8 CSV, plain or gzipped"

# Patterns of the first bytes. Order matters only where one pattern is a prefix of another.
SIGNATURES = {
    rb"PAR[1E]": "Parquet",
    rb"ORC(?=.{0,200}[^\t\n\r -~])": "ORC",
    rb"Obj\x01": "Avro",
    rb"ARROW1|FEA1|\xff\xff\xff\xff..\0\0": "Arrow (Feather)",
    rb"SEQ[\x04-\x06]": "a Hadoop sequence file",
    rb"SQLite format 3": "an SQLite database",
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": "zstd",
    rb"PK(\x03\x04|\x05\x06|\x07\x08)": "a ZIP archive (perhaps an Excel workbook)",
    rb"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls) or another old Office document",
    rb"BZh[1-9]": "bzip2",
    rb"\xfd7zXZ": "xz",
    rb"7z\xbc\xaf": "7z",
    rb"Rar!": "RAR",
    rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18": "lz4",
    rb"\xff\x06\0\0sNaPpY": "Snappy",
    rb"\x1f\x8b": "gzip inside gzip",
    rb"\x1f[\x9d\xa0]": "compress (.Z)",
    rb".{257}ustar": "a tar archive",
    rb"-----BEGIN PGP |\x84.\x03|\x85..\x03|\xc1.{1,2}\x03|[\x8c\xc3].\x04": "PGP (encrypted or signed)",
    rb"%PDF-": "PDF",
    rb"(\xef\xbb\xbf)?\s*(\{\s*[\"}]|\[\s*[\[{\"\]])": "JSON",
    rb"(?i)(\xef\xbb\xbf)?\s*<([!?]|[a-z]+[\s>])": "XML or HTML",
}
BYTE_ORDER_MARKS = {rb"\xff\xfe\0\0|\0\0\xfe\xff": "UTF-32", rb"\xff\xfe|\xfe\xff": "UTF-16"}
ENCODINGS = {
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "cp037": "EBCDIC",
}
SAMPLE_BYTES = 200
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars (pipes)", "\x01": "Ctrl-A (the default of Hive)"}
NUMBER = r"[+-]?[0-9]+([.,][0-9]+)?"
CONTROL = r"[\0-\x08\x0e-\x1f]"
ENDS = f"[{TRIMMED}'\"]"
ONE_VALUE = re.compile(r"\s*(?:'[^']*'|\"[^\"]*\")\s*")
# Only this much of the first line is examined.
HEADER_CHARACTERS = 100_000


def describe(content: bytes, header: str, is_utf8: bool, lacking: Callable[[Sequence[str]], list[str]]) -> str | None:
    """Return a rejection reason with the type that a file seems to have, or None if it seems to be CSV.

    Args:
        content: the decompressed content of the file.
        header: the first line that is not empty.
        is_utf8: whether that line is UTF-8.
        lacking: returns the required columns that are not among the given lower-case names.
    """
    header = header[:HEADER_CHARACTERS]
    if kind := signature(content):
        return f"is {kind}, not CSV. {EXPECTED}"
    if encoding := _encoding(content):
        return f"is {encoding}, not UTF-8. {EXPECTED}"
    if re.fullmatch(r"(?i)sep=.", _trimmed(header)):
        return f'begins with "{visible(header)}", a line for Excel. Remove that line. {EXPECTED}'
    for separator, name in SEPARATORS.items():
        if not lacking(_names(header, separator)):
            return f"is separated by {name}, not commas. {EXPECTED}"
    names = _names(header, ",")
    if ONE_VALUE.fullmatch(header) and not lacking(names):
        return f"has quotes around each line, which makes the line a single value. {EXPECTED}"
    has_no_name = lacking(names) == lacking(())
    if has_no_name and re.search(CONTROL, header):
        return f"is a binary file of unknown type, not CSV. {EXPECTED}"
    if not is_utf8 and lacking(names):
        return f"is not UTF-8, perhaps Latin-1 or Windows-1252. {EXPECTED}"
    if has_no_name and len(names) >= len(lacking(())) and any(re.fullmatch(NUMBER, name) for name in names):
        return f"has no header: the first line looks like data. It must name the columns {', '.join(lacking(()))}"
    return None


def signature(content: bytes) -> str | None:
    """Return the file type that the first bytes indicate, if any."""
    return next((kind for pattern, kind in SIGNATURES.items() if re.match(pattern, content, re.DOTALL)), None)


def _encoding(content: bytes) -> str | None:
    """Return the encoding of a text that is not UTF-8, if a byte order mark or Latin letters at its start show it."""
    sample = content[:SAMPLE_BYTES]
    for mark, name in BYTE_ORDER_MARKS.items():
        if re.match(mark, sample):
            return f"{name} text"
    for encoding, name in ENCODINGS.items():
        text = sample.decode(encoding, errors="replace")
        if not re.search(CONTROL, text) and len(re.findall("[0-9A-Za-z]", text)) > len(text) / 3:
            return f"{name} text"
    return None


def _names(header: str, separator: str) -> list[str]:
    return [_trimmed(name).lower() for name in header.split(separator)]


def _trimmed(text: str) -> str:
    return re.sub(f"^{ENDS}+|{ENDS}+$", "", text)
