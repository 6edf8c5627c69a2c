"""Which objects of the bucket count, and how their rows are read."""

import gzip
import random
from decimal import Context, Decimal

import duckdb
import pytest
from support.loading import GOOD, put
from support.oracle import Row
from support.streams import write_chunk, write_importance
from tallymark.audit import audit
from tallymark.intake import csv_lines, rows
from tallymark.intake.chunks import find_chunks
from tallymark.intake.listing import waiting_chunks
from tallymark.intake.rows import IMPORTANCE, TRANSACTIONS
from tallymark.local.replay import replay
from tallymark.pipeline import load
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb", folder_settle_seconds=0)


@pytest.fixture
def bucket(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


def test_changed_limit_retries_rejected_chunks(settings, bucket):
    """A chunk that was rejected for another reason stays rejected until it is replaced."""
    small = settings.model_copy(update={"max_object_bytes": 100})
    put(bucket, "chunk_1", "no header\n")
    put(bucket, "chunk_2", GOOD)
    for content, changed, accepted, rejected, conflicts in (
        (None, small, 0, 2, 0),
        (None, small, 0, 0, 0),
        (None, settings, 1, 0, 0),
        (GOOD, settings, 1, 0, 0),
        ("no header\n", settings, 0, 0, 1),
        (None, small, 0, 0, 0),
    ):
        if content:
            put(bucket, "chunk_1", content)
        loaded = load.load_chunks(changed, bucket)
        found = (loaded["chunks_accepted"], loaded["chunks_rejected"], loaded["chunks_in_conflict"])
        assert found == (accepted, rejected, conflicts)
        assert waiting_chunks(changed, bucket.list("input/")) == []


@pytest.mark.parametrize(
    "name",
    [
        *("chunk_1.csv.tmp", "chunk_1.tmp", "chunk_1.csv.crc", "chunk_1_$folder$", "chunk_1.parquet", "chunk_1.csv~"),
        *("chunk_1.csv._COPYING_", "chunk_", "chunk_.csv", "chunk_.csv.gz", "_chunk_1", ".chunk_1.csv"),
        *("chunk_1.csv.tmp/part-0", "chunk_1.parquet/part-0", "chunk_1_$folder$/part-0", "chunk_/part-0"),
    ],
)
def test_names_that_are_not_chunks(settings, bucket, name):
    put(bucket, name, GOOD)
    if "/" in name:
        put(bucket, name.replace("part-0", "_SUCCESS"), "")
    assert find_chunks(bucket.list("input/transactions/"), "input/transactions/") == []


@pytest.mark.parametrize(
    "name", ["chunk_1.CSV", "chunk_2.Csv.Gz", "chunk_3.gz", "chunk_4.5", "chunk_5 tmp", "chunk_6_"]
)
def test_names_that_are_chunks(bucket, name):
    put(bucket, name, GOOD)
    put(bucket, f"{name}x/part-0", GOOD)
    put(bucket, f"{name}x/_SUCCESS", "")
    names = {chunk.key for chunk in find_chunks(bucket.list("input/transactions/"), "input/transactions/")}
    assert f"input/transactions/{name}" in names


def test_wrong_extensions_are_logged(settings, bucket, caplog):
    """Names of unfinished files are not logged."""
    for name in (
        "chunk_1.parquet",
        "chunk_2.csv.tmp",
        "chunk_3_$folder$",
        "chunk_4.csv",
        "chunk_5.txt/part-0",
        "x.txt",
    ):
        put(bucket, name, GOOD)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1
    [warning] = [text for text in caplog.messages if text.startswith("IGNORED")]
    names = "chunk_1.parquet, chunk_5.txt/, x.txt are not named like a chunk and will not be read."
    assert warning.startswith(f"IGNORED: input/transactions/: {names}")


NOT_INPUT = [
    *("_temporary/0/task_1/part-1", ".old/part-1", "a/.hidden/part-1", "_started_1", ".part-0.crc", "part-0.crc"),
    *("part-2.csv.tmp", "part-2.TMP", "writing.tmp/part-2", "a_$folder$", "_SUCCESS"),
]
EMPTY = {"part-8": b"", "part-9.csv.gz": b"", "part-9b.csv.gz": gzip.compress(b""), "part-9c": gzip.compress(b"")}


def test_chunks_and_importance_ignore_the_same_objects(settings, bucket):
    """Both prefixes have leftovers, unfinished files and empty objects next to good parts."""
    ignored = dict.fromkeys(NOT_INPUT, b"no header") | EMPTY
    for folder, content in (
        ("input/transactions/chunk_1", GOOD),
        ("input/customers", "Source,Target,Weight\nC1,M1,1\n"),
        ("input/customers/a", "Source,Target,Weight\nC1,M1,2\n"),
    ):
        for name, body in {**ignored, "part-0.csv": content}.items():
            put(bucket, name, body, folder)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1
    with connect(settings, read_only=True) as warehouse:
        assert warehouse.execute("select importance_version, rows_in_file from raw.chunks").fetchall() == [(1, 1)]
        weights = warehouse.execute("select weight from raw.customer_importance order by 1").fetchall()
    assert weights == [(1,), (2,)]


def test_folder_of_empty_parts_is_rejected(settings, bucket):
    for folder in ("input/transactions/chunk_1", "input/customers"):
        for name, body in EMPTY.items():
            put(bucket, name, body, folder)
    put(bucket, "chunk_1/_SUCCESS", "")
    assert load.load_chunks(settings, bucket)["chunks_rejected"] == 1
    with connect(settings, read_only=True) as warehouse:
        for table in ("chunks", "importance_versions"):
            assert warehouse.execute(f"select reason from raw.{table}").fetchall() == [("contains no lines",)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("part-1.csv", "no header\n", "part-1.csv: header lacks"),
        ("part-1.csv", "\n", "part-1.csv: contains no lines"),
        ("a/part-1.csv.gz", "no gzip", "a/part-1.csv.gz: broken gzip"),
        (
            "part-1.csv",
            " " * 2000,
            "part-1.csv: has, together with the parts before it, more bytes after decompression than the limit of 2000",
        ),
    ],
)
def test_reason_names_the_part(settings, bucket, name, content, reason):
    for folder, good in (("input/transactions/chunk_1", GOOD), ("input/customers", "Source,Target,Weight\nC1,M1,1\n")):
        put(bucket, "0", good, folder)
        put(bucket, name, content, folder)
    put(bucket, "chunk_1/_SUCCESS", "")
    load.load_chunks(settings.model_copy(update={"max_decompressed_bytes": 2000}), bucket)
    with connect(settings, read_only=True) as warehouse:
        for table in ("chunks", "importance_versions"):
            [(found,)] = warehouse.execute(f"select reason from raw.{table}").fetchall()
            assert found.startswith(reason)


@pytest.mark.parametrize(("kind", "columns"), [("transactions", TRANSACTIONS), ("importance", IMPORTANCE)])
def test_undecodable_lines_take_bounded_memory(kind, columns):
    """Two files with 100,000 undecodable lines each are validated within 300 MB."""
    header = b"customer,merchant,gender,amount,weight"
    text, undecodable = csv_lines.split_lines(b"\n".join([header, *[b"C\xff,M,F,1,1"] * 100_000]))
    file = csv_lines.CsvObject("chunk_1", text, undecodable, *csv_lines.read_header(text, columns), rows=100_000)
    small = {"threads": 2, "memory_limit": "300MB", "temp_directory": ""}
    with duckdb.connect(config=small) as warehouse, rows.validated(warehouse, [file, file], kind, ()):
        reasons = warehouse.execute("select file, reason, count(*) from validated_rows group by all order by all")
        assert reasons.fetchall() == [(1, "not UTF-8", 100_000), (2, "not UTF-8", 100_000)]


def test_numbers_are_read_like_python_decimals():
    """Amounts and weights have up to 19 digits, a decimal point anywhere, and exponents."""
    chance = random.Random(17)
    texts = []
    for _ in range(5_000):
        digits = "".join(
            chance.choice("0123456789" if chance.random() < 0.7 else "09") for _ in range(chance.randrange(1, 20))
        )
        point = chance.randrange(len(digits) + 1)
        exponent = chance.choice(
            ("", f"e{chance.randrange(20)}", f"E-{chance.randrange(20)}", f"e+{chance.randrange(9)}")
        )
        texts.append(f"{digits[:point]}{chance.choice(('', '.'))}{digits[point:]}{exponent}")
    for kind, column, columns, decimals, limit in (
        ("transactions", "amount", TRANSACTIONS, 4, 10**14),
        ("importance", "weight", IMPORTANCE, 18, 10**9),
    ):
        text = "\n".join(["customer,merchant,gender,amount,weight", *(f"C,M,F,{text},{text}" for text in texts)])
        file = csv_lines.CsvObject("chunk_1", text, [], *csv_lines.read_header(text, columns), rows=len(texts))
        with duckdb.connect() as warehouse, rows.validated(warehouse, [file], kind, ()):
            found = warehouse.execute(f"select {column}, reason from validated_rows order by line_number").fetchall()
        for text, (value, reason) in zip(texts, found, strict=True):
            number = Decimal(text)
            if number != number.quantize(Decimal(1).scaleb(-decimals), context=Context(prec=60)):
                assert reason == f"{column} has more than {decimals} decimal places", text
            elif number >= limit:
                assert reason.startswith(f"{column} has more than "), text
            else:
                assert (value, reason) == (number, None), text


def test_average_weight_is_exact(tmp_path):
    """Evidence has averages that a double would round or that have infinitely many digits; the audit agrees."""
    weights = {
        "C1": ["123456789.123456789123456789"],
        "C2": ["999999999.999999999999999999"] * 3,
        "C3": ["-0.000000000000000001", "-1", "-1"],
        "C4": ["1", "1", "0"],
    }
    write_importance(tmp_path, [(customer, "M1", weight) for customer in weights for weight in weights[customer]])
    write_chunk(tmp_path, "chunk_1", [Row(customer, "M1", "F", "1") for customer in weights])
    everyone = {"upgrade_min_merchant_transactions": 0, "upgrade_top_percent": 100, "upgrade_bottom_percent": 100}
    thresholds = everyone | {"upgrade_weight_aggregate": "avg"}
    replay(tmp_path, tmp_path, vars=thresholds)
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb", vars=thresholds)
    with connect(settings, read_only=True) as warehouse:
        found = warehouse.execute("select customer, weight::varchar from detections order by customer").fetchall()
    assert found == [
        ("C1", "123456789.123456789123456789"),
        ("C2", "999999999.999999999999999999"),
        ("C3", "-0.666666666666666667"),
        ("C4", "0.666666666666666666"),
    ]
    audit(settings, FolderStore(tmp_path))


CLEAN_HEADER = "step,customer,gender,merchant,amount,extra"
CLEAN_ROWS = [
    "0,'C1','F','M1',4.55,x",
    "0,C1,F,M1,4.55,x",
    "'0','C2','','M1','1E1',''",
    ",é😀,,M2\ufe0f,+.5,",
    "0,NULL,NaN,M1,1,null",
    "0,C1,F,'n/a',1,x",
    "0,C1,F,M1,#N/A,x",
    "0,nullable,none1,1NULL,1,x",
    "0,C1,F,M1,-0,=1+1",
    "0,'C1','F','M1',x,'kept_as_it_is'",
    "0,'','F','M1',1,x",
    "0,C1,F,,1,x",
    "0,C1,F,M1,'',x",
    "0,C1,F,M1,-1,x",
    "0,C1,F,M1,1.00001,x",
    "0,C1,F,M1,123456789012345,x",
    f"0,{'C' * 1000},'{'F' * 1000}',M1,1,x",
]
CLEAN_CHUNKS = [
    "\n".join([CLEAN_HEADER, *CLEAN_ROWS]) + "\n",
    "\n".join([CLEAN_HEADER, *CLEAN_ROWS]),
    "\r\n".join([CLEAN_HEADER.upper(), *reversed(CLEAN_ROWS)]) + "\r\n",
    f"\ufeff{CLEAN_HEADER}\r" + "\r".join(CLEAN_ROWS),
    CLEAN_HEADER,
    "customer,merchant,gender,amount\nC1,M1,F,1\nC2,M2,F,x\n",
    "merchant,customer,gender,amount\nM1,C1,F,1\nM2,C2,F,x\n",
    "age,customer,gender,merchant,amount,extra\n7,C1,F,M1,1,x\n",
    "\ufeffcustomer,merchant,gender,amount\n\ufeffC1,M1,F,1\n\ufeff\ufeffC2,M2,F,x\n",
    "step,gender,customer,merchant,amount,extra\n0,F,C1,M1,1,x\n",
]
CLEAN_IMPORTANCE = (
    "Source,Target,Weight,typeTrans\nC1,M1,1.5,x\n'C2','M2','-1e-18',''\nC3,M3,x,x\n,M4,1,x\nC5,M5,1e9,\n"
    "null,M6,1,x\nC7,M7,NaN,x"
)
ODD_CHUNKS = {
    "an empty line above the header": f"\n{CLEAN_HEADER}\n{CLEAN_ROWS[0]}\n",
    "an empty line": f"{CLEAN_HEADER}\n\n{CLEAN_ROWS[0]}\n",
    "an empty line at the end": f"{CLEAN_HEADER}\n{CLEAN_ROWS[0]}\n\n",
    "a missing column": f"{CLEAN_HEADER}\n0,C1,F,M1,1\n",
    "an extra column": f"{CLEAN_HEADER}\n0,C1,F,M1,1,x,\n",
    "a comma in quotes": f"{CLEAN_HEADER}\n0,'C,1',F,M1,1,x\n",
    "doubled quotes": f"{CLEAN_HEADER}\n0,'C''1',F,M1,1,x\n",
    "a quote inside": f"{CLEAN_HEADER}\n0,O'Brien,F,M1,1,x\n",
    "an unclosed quote": f"{CLEAN_HEADER}\n0,'C1,F,M1,1,x\n0,C1',F,M1,1,x\n",
    "double quotes": f'{CLEAN_HEADER}\n0,"C1",F,M1,1,x\n',
    "a space": f"{CLEAN_HEADER}\n0, C1,F,M1,1,x\n",
    "a no-break space": f"{CLEAN_HEADER}\n0,C1\u00a0,F,M1,1,x\n",
    "a zero-width space": f"{CLEAN_HEADER}\n0,C1,F,M\u200b1,1,x\n",
    "line separators of Unicode": f"{CLEAN_HEADER}\n0,C1\u2028\x85,F,M1,1,x\n",
    "a typographic quote": f"{CLEAN_HEADER}\n0,O\u2019Brien,F,M1,1,x\n",
    "a control character": f"{CLEAN_HEADER}\n0,C1\x7f,F,M1,1,x\n",
    "a tab": f"{CLEAN_HEADER}\n0,C1\t,F,M1,1,x\n",
    "a NUL": f"{CLEAN_HEADER}\n0,C\0,F,M1,1,x\n",
    "a long value": f"{CLEAN_HEADER}\n0,{'C' * 1001},F,M1,1,x\n",
    "many columns": f"{CLEAN_HEADER}{',x' * 95}\n{CLEAN_ROWS[0]}{',x' * 95}\n",
    "not UTF-8": f"{CLEAN_HEADER}\n".encode() + b"0,C\xff,F,M1,1,x\n",
}


def csv_object(content: str | bytes) -> csv_lines.CsvObject:
    content = content if isinstance(content, bytes) else content.encode()
    text, undecodable = csv_lines.split_lines(content)
    header = csv_lines.read_header(text, TRANSACTIONS)
    return csv_lines.CsvObject("chunk", text, undecodable, *header, rows=0)


@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_odd_files_are_read_line_by_line(name):
    assert not rows.is_clean(csv_object(ODD_CHUNKS[name]))


def test_both_readers_load_the_same_rows(settings, bucket, tmp_path, monkeypatch):
    """Both readers load the same rows, accepted and rejected, from clean files mixed with odd files."""
    assert all(rows.is_clean(csv_object(chunk)) for chunk in CLEAN_CHUNKS)
    chunks = [*CLEAN_CHUNKS, *ODD_CHUNKS.values(), *CLEAN_CHUNKS]
    for number, chunk in enumerate(chunks):
        put(bucket, f"chunk_{number}", chunk)
    put(bucket, "all.csv", CLEAN_IMPORTANCE, "input/customers")
    by_lines = settings.model_copy(update={"warehouse": tmp_path / "by_lines.duckdb"})
    counts = load.load_chunks(settings, bucket)
    monkeypatch.setattr(rows, "is_clean", lambda file: False)
    assert load.load_chunks(by_lines, bucket) == counts
    assert counts["rows_rejected"] > 2 * 4 * 7
    for table in ("transactions", "rejected_rows", "customer_importance"):
        found = [table_rows(each, table) for each in (settings, by_lines)]
        assert found[0] == found[1] and found[0], table


@pytest.mark.parametrize("chunk", CLEAN_CHUNKS)
def test_both_readers_agree_on_each_file(chunk, monkeypatch):
    file = csv_object(chunk)
    found = []
    for is_clean in (rows.is_clean, lambda file: False):
        monkeypatch.setattr(rows, "is_clean", is_clean)
        with duckdb.connect() as warehouse, rows.validated(warehouse, [file], "transactions", ["null"]):
            found.append(warehouse.execute("select * from validated_rows order by line_number").fetchall())
            by_lines = warehouse.execute("select count(*) from split_rows").fetchone()[0]
        assert by_lines == (0 if len(found) == 1 else len(found[0]))
    assert found[0] == found[1]


def table_rows(settings: Settings, table: str) -> list[tuple]:
    with connect(settings, read_only=True) as warehouse:
        return warehouse.execute(f"select * from raw.{table} order by all").fetchall()
