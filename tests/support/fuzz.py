"""Damaged chunks, and a validator in plain Python that says what the load should do with them.

The validator shares no code with the load: it reads lines character by character, and numbers with ``decimal``. It has
its own lists of trimmed characters and of words for missing values.
"""

import gzip
import random
import re
import zlib
from decimal import Decimal
from typing import NamedTuple

HEADER = "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud"
REQUIRED = ("customer", "merchant", "gender", "amount")
KNOWN = (*REQUIRED, "step", "age", "zipcodeori", "zipmerchant", "category", "fraud")
TOKENS = [
    *("'", '"', "''", '""', ",", ",,", "\n", "\r\n", "\r", "\n\n", " ", "\t", "\\", ";", "|", "\0", "\v", "\f"),
    *(
        "=1+1",
        "-",
        "+",
        "@",
        "e5",
        "E-4",
        "1e400",
        "1755874028830433e-3",
        "0.123456789012345e15",
        "NaN",
        "inf",
        "-0",
        ".",
        "1.00000",
        "99999999999999.9999",
        "1_0",
    ),
    *("\ufeff", "\u00a0", "\u2028", "\x85", "é", "٣", "😀", "\u202e", "%41", "../", "$text", "?", "--", "x" * 5000),
    *("F", "m", "'customer'", "amount", HEADER, "9999", "null", "'NULL'", " None ", "\\N", "n/a\u00a0", "\u200b#N/A"),
    *("\ufeff\ufeff'C1'", "\u201cC1\u201d", "C\u200b1", "\u00a0", "\ufeff", "'\u200b'", "\n\ufeff", "\ufeff\n"),
]
QUOTES = ("'", '"')
TRIMMED_CODES = (
    "0001-0020 007F-00A0 00AB 00AD 00BB 034F 061C 115F-1160 1680 17B4-17B5 180E 2000-200F 2018-201F 2028-202F "
    "2039-203A 205F-206F 2800 3000 3164 FEFF FFA0 FFF9-FFFB"
)
TRIMMED = "".join(
    chr(code) for codes in TRIMMED_CODES.split() for code in range(int(codes[:4], 16), int(codes[-4:], 16) + 1)
)
TRIMMED_SET = set(TRIMMED)
MISSING = (
    *("null", "\\n", "(null)", "[null]", "<null>", "nan", "-nan", "nat", "none", "na", "n/a", "<na>", "#n/a", "#na"),
    *("#null!", "#ref!", "#value!", "nil", "<nil>", "undefined"),
)
RAW_BYTES = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xfe\xff", b"\xff\xfe", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x1f\x8b"]


class Mutant(NamedTuple):
    """A chunk: the ending of its key, and its bytes."""

    ending: str
    body: bytes


def good_chunk(chance: random.Random) -> str:
    """Return a few rows as a feed could have written them."""
    quote = chance.choice(("'", '"', ""))
    lines = [HEADER]
    for _ in range(chance.randrange(1, 6)):
        amount = chance.choice(("4.55", "0", "23", "1E1", "12.3400", "7.0001"))
        values = ["0", f"C{chance.randrange(99)}", "2", chance.choice("FMEU"), "28007", f"M{chance.randrange(9)}"]
        values += ["28007", "es_food", amount, "0"]
        lines.append(
            ",".join(value if number in (0, 8, 9) else f"{quote}{value}{quote}" for number, value in enumerate(values))
        )
    return "\n".join(lines) + "\n"


def mutant(chance: random.Random) -> Mutant:
    """Return a good chunk with one to four kinds of damage, perhaps compressed with gzip."""
    body = good_chunk(chance).encode()
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        body = _accident(chance, body)
    match chance.randrange(12):
        case 0:
            return Mutant(".csv.gz", gzip.compress(body, mtime=0))
        case 1:
            packed = bytearray(gzip.compress(body, mtime=0))
            packed[chance.randrange(len(packed))] ^= 1 << chance.randrange(8)
            return Mutant(".csv.gz", bytes(packed))
        case 2:
            packed = gzip.compress(body, mtime=0)
            return Mutant(chance.choice(("", ".csv.gz")), packed[: chance.randrange(len(packed))])
        case 3:
            return Mutant(
                ".csv.gz",
                gzip.compress(body, mtime=0) + chance.choice((b"", b"\0\0", b"x", gzip.compress(b"1", mtime=0))),
            )
    return Mutant(chance.choice(("", ".csv")), body)


def _accident(chance: random.Random, body: bytes) -> bytes:
    at, until = sorted((chance.randrange(len(body) + 1), chance.randrange(len(body) + 1)))
    lines = body.split(b"\n")
    match chance.randrange(15):
        case 0 | 1 | 2 | 3:
            return body[:at] + chance.choice(TOKENS).encode() + body[at:]
        case 4:
            return body[:at] + chance.choice(RAW_BYTES) + body[at:]
        case 5:
            return body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :]
        case 6:
            return body[:at] + body[min(until, at + 20) :]
        case 7:
            return body[:at]
        case 8:
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
        case 9:
            chance.shuffle(lines)
        case 10:
            number = chance.randrange(len(lines))
            fields = lines[number].split(b",")
            chance.shuffle(fields)
            lines[number] = b",".join(fields)
        case 11:
            number = chance.randrange(len(lines))
            fields = lines[number].split(b",")
            fields[chance.randrange(len(fields))] = chance.choice(TOKENS).encode()
            lines[number] = b",".join(fields)
        case 12:
            encoding = chance.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "utf-8-sig"))
            return body.decode(errors="replace").encode(encoding, errors="replace")
        case 13 | 14:
            number = chance.randrange(len(lines))
            fields = lines[number].split(b",")
            place = chance.randrange(len(fields))
            fields[place] = _disguised(chance, fields[place])
            lines[number] = b",".join(fields)
    return b"\n".join(lines)


def _disguised(chance: random.Random, field: bytes) -> bytes:
    """Return a field with an invisible character at its start, at its end or inside, or a word for a missing value."""
    if chance.random() < 0.3:
        word = chance.choice(MISSING)
        quoted = chance.choice(("{}", "'{}'", '"{} "', "\u00a0{}\u201d")).format(chance.choice((word, word.upper())))
        return quoted.encode()
    at = chance.choice((0, 1, len(field) // 2, len(field)))
    return field[:at] + chance.choice(TRIMMED).encode() + field[at:]


class Verdict(NamedTuple):
    """The expected result of loading a chunk.

    Attributes:
        accepted: customer, merchant, gender (None: empty) and amount by line number; None: the chunk is rejected as a
            whole, even if only because all of its rows are rejected.
        rejected: line numbers of rejected rows.
    """

    accepted: dict[int, tuple[str, str, str | None, Decimal]] | None
    rejected: list[int]


REJECTED_WHOLE = Verdict(None, [])


def expected_verdict(chunk: Mutant) -> Verdict:
    """Validate a chunk by the rules of docs/what-counts-as-input.md."""
    body = chunk.body
    if chunk.ending.endswith(".gz") or body.startswith(b"\x1f\x8b"):
        body = _decompressed(body)
        if body is None:
            return REJECTED_WHOLE
    lines = [_without_marks(line) for line in re.split(b"\r\n|\r|\n", body)]
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line]
    if not numbered:
        return REJECTED_WHOLE
    header = numbered[0][1].decode(errors="backslashreplace")
    fields = _fields(header)
    if fields is None or "\0" in header:
        return REJECTED_WHOLE
    names = [name.lower() for name in fields]
    if any(name not in names for name in REQUIRED) or any(names.count(name) > 1 for name in KNOWN):
        return REJECTED_WHOLE
    verdict = Verdict({}, [])
    for number, line in numbered[1:]:
        values = _values(line, names)
        if values is None:
            verdict.rejected.append(number)
        else:
            verdict.accepted[number] = values
    return Verdict(None, verdict.rejected) if verdict.rejected and not verdict.accepted else verdict


def _without_marks(line: bytes) -> bytes:
    """Return a line without byte order marks at its start."""
    while line.startswith(b"\xef\xbb\xbf"):
        line = line[3:]
    return line


def _decompressed(body: bytes) -> bytes | None:
    """Return the content of all members of a gzip file, or None if it is broken; zeros may follow a member."""
    content = b""
    while body:
        body = body[:3] + bytes([body[3] & 0b11111]) + body[4:] if len(body) > 3 else body  # reserved flags are ignored
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            content += member.decompress(body)
        except zlib.error:
            return None
        if not member.eof:
            return None
        body = member.unused_data.lstrip(b"\0")
    return content


def _values(line: bytes, names: list[str]) -> tuple[str, str, str | None, Decimal] | None:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    fields = _fields(text)
    if "\0" in text or fields is None or len(fields) != len(names):
        return None
    values = (fields[names.index(name)] for name in REQUIRED)
    customer, merchant, gender, amount = ("" if value.lower() in MISSING else value for value in values)
    if (
        not customer
        or not merchant
        or not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", amount)
    ):
        return None
    number = Decimal(amount)
    if number < 0 or (number != 0 and (number >= 10**14 or number % Decimal("0.0001") != 0)):
        return None
    return customer, merchant, gender or None, number


def _fields(text: str) -> list[str] | None:
    """Return the values of a line without their quotes, or None if a quote is not closed.

    A quoted value may contain commas, and doubled quotes that stand for one. If no matching quote is followed by a
    comma or the end of the line, the value ends at the next comma, and quotes inside it are literal: ``'O'Brien'``.
    """
    fields, at = [], 0
    while at <= len(text):
        start = at
        while text[start : start + 1] in TRIMMED_SET:
            start += 1
        quote = text[start : start + 1]
        comma = _end_of_quoted(text, start, quote) if quote in QUOTES else None
        if comma is None:
            comma = text.find(",", at) if "," in text[at:] else len(text)
        value = text[at:comma].strip(TRIMMED)
        if value[:1] in QUOTES:
            if len(value) < 2 or value[-1] != value[0]:
                return None
            value = value[1:-1].replace(value[0] * 2, value[0])
        fields.append(value.strip(TRIMMED))
        at = comma + 1
    return fields


def _end_of_quoted(text: str, start: int, quote: str) -> int | None:
    """Return the position of the comma or line end after the closing quote, or None if something else follows it."""
    at = start + 1
    while at < len(text):
        if text[at : at + 2] == quote * 2:
            at += 2
        elif text[at] == quote:
            at += 1
            while text[at : at + 1] in TRIMMED_SET:
                at += 1
            return at if text[at : at + 1] in ("", ",") else None
        else:
            at += 1
    return None
