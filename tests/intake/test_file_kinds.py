"""Files that are not comma-separated UTF-8 CSV are rejected as a whole, with the file type in the reason."""

import bz2
import gzip
import io
import lzma
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import duckdb
import pytest
from support.loading import GOOD, put, query
from tallymark.intake.csv_lines import read_layout
from tallymark.intake.errors import RejectedError
from tallymark.intake.importance import IMPORTANCE
from tallymark.intake.rows import TRANSACTIONS
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore

CSV = "step,customer,age,gender,merchant,amount\n0,'C1','2','F','M1',4.55\n"
ROW = CSV.partition("\n")[2]
EXPECTED = "Tallymark reads comma-separated UTF-8 CSV, plain or gzipped"
# First bytes of file types that no library here can write.
BEGINNINGS = {
    "zstd": b"\x28\xb5\x2f\xfd\x04\x00",
    "old Excel": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00",
    "7z": b"7z\xbc\xaf\x27\x1c\x00\x04",
    "RAR": b"Rar!\x1a\x07\x01\x00",
    "lz4": b"\x04\x22\x4d\x18\x64\x40",
    "Snappy": b"\xff\x06\x00\x00sNaPpY\x00",
    "compress (.Z)": b"\x1f\x9d\x90\x73",
    "ORC": b"ORC\x08\x01\x10\x00",
    "Avro": b"Obj\x01\x04\x16avro.schema",
    "Arrow": b"ARROW1\x00\x00\xff\xff\xff\xff",
    "Hadoop sequence file": b"SEQ\x06\x19org.apache.hadoop.io.Text",
    "PGP": b"\x85\x01\x0c\x03\x9a\x1b\x2c",
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
}
TEXTS = {
    "PGP": f"-----BEGIN PGP MESSAGE-----\n\n{CSV}",
    "JSON": '\n {"customer": "C1", "merchant": "M1", "gender": "F", "amount": 1}\n',
    "XML or HTML": '<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>',
    "separated by semicolons": CSV.replace(",", ";"),
    "separated by tabs": CSV.replace(",", "\t"),
    "separated by vertical bars": CSV.replace(",", "|"),
    "separated by Ctrl-A": CSV.replace(",", "\x01"),
    'begins with "sep=,"': f"sep=,\n{CSV}",
    'begins with "sep=;"': f"\ufeffsep=;\r\n{CSV}",
    "has quotes around each line": "".join(f'"{line}"\n' for line in CSV.splitlines()),
}
MORE_TEXTS = {
    "JSON": '[{"customer": "C1"}]',
    "XML or HTML": "\ufeff<!DOCTYPE html>\n<html></html>",
    "separated by semicolons": '"step";"customer";"age";"gender";"merchant";"amount"\n0;C1;2;F;M1;4,55\n',
}


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb", folder_settle_seconds=0)


@pytest.fixture
def bucket(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


def zipped(compression: int, name: str = "chunk_1.csv") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, CSV)
    return file.getvalue()


def archived(format: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        member = tarfile.TarInfo("chunk_1.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV.encode()))
    return file.getvalue()


def other_files(folder: Path) -> dict[str, bytes]:
    """Files of other types, written by libraries."""
    with duckdb.connect() as writer:
        writer.execute("copy (select 'C1' as customer, 1 as amount) to ? (format parquet)", [str(folder / "x.parquet")])
    with sqlite3.connect(folder / "x.sqlite") as database:
        database.execute("create table customers (customer)")
    return {
        "Parquet": (folder / "x.parquet").read_bytes(),
        "SQLite": (folder / "x.sqlite").read_bytes(),
        "bzip2": bz2.compress(CSV.encode()),
        "xz": lzma.compress(CSV.encode()),
        "ZIP": zipped(zipfile.ZIP_DEFLATED),
        "Excel workbook": zipped(zipfile.ZIP_STORED, "[Content_Types].xml"),
        "gzip inside gzip": gzip.compress(gzip.compress(CSV.encode())),
        "tar archive": archived(tarfile.USTAR_FORMAT),
    }


def test_other_file_types_are_rejected(settings, bucket, tmp_path, caplog):
    """Reasons are short and printable ASCII, and the next chunk is loaded."""
    kinds = {**other_files(tmp_path), **BEGINNINGS, **{kind: text.encode() for kind, text in TEXTS.items()}}
    kinds = list(kinds.items()) + [(kind, text.encode()) for kind, text in MORE_TEXTS.items()]
    kinds += [("ZIP", zipped(zipfile.ZIP_STORED)), ("tar archive", archived(tarfile.GNU_FORMAT))]
    kinds += [(kind, gzip.compress(content)) for kind, content in kinds[:4]]
    for number, (_, content) in enumerate(kinds):
        put(bucket, f"chunk_{number}", content)
    put(bucket, f"chunk_{len(kinds)}", GOOD)
    assert load_chunks(settings, bucket)["chunks_accepted"] == 1
    reasons = query(settings, "select reason from raw.chunks where reason is not null order by chunk_seq")
    for (kind, _), (reason,) in zip(kinds, reasons, strict=True):
        assert kind in reason and reason.endswith(EXPECTED) and reason.count(".") <= 2, (kind, reason)
        assert reason.isascii() and reason.isprintable() and "\\" not in reason, (kind, reason)
    errors = [text for text in caplog.messages if text.startswith("REJECTED")]
    assert errors[0] == (
        f"REJECTED: input/transactions/chunk_0 is Parquet, not CSV. {EXPECTED}. "
        "Put a corrected object under the same key."
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "cp037"])
@pytest.mark.parametrize(
    "text", [CSV, ROW * 3, f"\ufeff{CSV}", CSV.replace(",", "\t"), CSV + "0,'ग्राहक','2','F','M1',1\n" * 99]
)
def test_text_in_another_encoding(encoding, text):
    name = "EBCDIC" if encoding == "cp037" else encoding[:6].upper()
    content = text.encode(encoding, errors="ignore")
    assert reason_of(content) == f"is {name} text, not UTF-8. {EXPECTED}"
    assert reason_of(content[:-1]).startswith(f"is {name}")


def test_header_that_is_not_utf_8():
    assert reason_of("größe,kunde\n1,2\n".encode("latin-1")) == (
        f"is not UTF-8, perhaps Latin-1 or Windows-1252. {EXPECTED}"
    )
    read_layout("customer,merchant,gender,amount,größe\n".encode("latin-1"), TRANSACTIONS)


def test_no_header():
    assert reason_of(ROW.encode()) == (
        "has no header: the first line looks like data. It must name the columns customer, merchant, gender, amount"
    )
    assert reason_of(b"C1,M1,F,Rs 5\n") == (
        "header lacks customer, merchant, gender, amount; the first line is: 'C1,M1,F,Rs 5'"
    )
    assert reason_of(b"customer,merchant,2,3\n") == (
        "header lacks gender, amount; the first line is: 'customer,merchant,2,3'"
    )


def test_unknown_binary_file():
    reason = f"is a binary file of unknown type, not CSV. {EXPECTED}"
    assert reason_of(bytes(range(256)) * 10) == reason
    assert reason_of(b"\0" * 1000) == reason


def test_reason_escapes_invisible_characters():
    assert reason_of("customer,\u200bmerchant\u00a0\t,mer\x1bchant,gender\n".encode()) == (
        "header lacks amount; the first line is: 'customer,<U+200B>merchant<U+00A0><U+0009>,mer<U+001B>chant,gender'"
    )


@pytest.mark.parametrize("header", ["PAR1", "ORCID", "BZh9", "%PDF-", '{"x"', "<a >", '["b"'])
def test_usable_header_overrides_signature(header):
    _, _, _, width, _ = read_layout(f"{header},customer,merchant,gender,amount\n".encode(), TRANSACTIONS)
    assert width == 5


@pytest.mark.parametrize("header", ["ORCID,client,shop,amount", "[client],[shop]", "PK,client", "Objects,x"])
def test_text_that_begins_like_a_signature(header):
    assert reason_of(f"{header}\n".encode()) == (
        f"header lacks {', '.join(TRANSACTIONS.lacking(header.split(',')))}; the first line is: '{header}'"
    )


def test_importance_of_another_type(settings, bucket, tmp_path):
    put(bucket, "all.csv", other_files(tmp_path)["Parquet"], "input/customers")
    load_chunks(settings, bucket)
    reason = f"all.csv: is Parquet, not CSV. {EXPECTED}"
    assert query(settings, "select reason from raw.importance_versions") == [(reason,)]
    with pytest.raises(RejectedError, match="separated by semicolons"):
        read_layout(b"Source;Target;Weight\n", IMPORTANCE)


def test_gz_extension_requires_gzip_content(settings, bucket):
    for number, content in enumerate((BEGINNINGS["zstd"], CSV)):
        put(bucket, f"chunk_{number}.csv.gz", content)
    load_chunks(settings, bucket)
    reasons = query(settings, "select reason from raw.chunks order by chunk_seq")
    assert [reason for (reason,) in reasons] == [
        f"broken gzip: the name ends in .gz, but the content is zstd. {EXPECTED}",
        f"broken gzip: the name ends in .gz, but the content is not gzip. {EXPECTED}",
    ]


def reason_of(content: bytes) -> str:
    with pytest.raises(RejectedError) as error:
        read_layout(content, TRANSACTIONS)
    return str(error.value)
