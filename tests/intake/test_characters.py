"""Words for missing values, and invisible characters in values."""

import re
import unicodedata

import pytest
from support.fuzz import TRIMMED as TRIMMED_IN_PYTHON
from support.loading import put, query
from tallymark.intake.characters import HIDDEN_ASCII, TRIMMED, visible
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore

HEADER = "customer,merchant,gender,amount\n"
REASONS = "select line_number, reason from raw.rejected_rows order by all"
# Only the second form is read line by line.
FORMS = pytest.mark.parametrize("form", ["{}", "' {} '"])


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb", folder_settle_seconds=0)


@pytest.fixture
def bucket(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


def warnings(caplog) -> list[str]:
    return [text for text in caplog.messages if text.startswith("INVISIBLE CHARACTERS")]


def test_trimmed_characters():
    trimmed = {chr(code) for code in range(0x110000) if re.match(f"[{TRIMMED}]", chr(code))}
    assert trimmed == set(TRIMMED_IN_PYTHON)
    spaces = {chr(code) for code in range(1, 0x110000) if unicodedata.category(chr(code)) in ("Cc", "Zs", "Zl", "Zp")}
    assert spaces <= trimmed
    others = {unicodedata.category(character) for character in trimmed - spaces}
    assert others <= {"Cf", "Cn", "Lo", "Mn", "Pf", "Pi", "Ps", "So"}
    ascii_trimmed = {character for character in map(chr, range(128)) if re.match(f"[ {HIDDEN_ASCII}]", character)}
    assert ascii_trimmed == {character for character in trimmed if character.isascii()}


@FORMS
def test_empty_setting_disables_missing_words(settings, bucket, form):
    put(bucket, "chunk_1", HEADER + ",".join(map(form.format, ("NULL", "None", "NaN", "1"))) + "\n")
    without = settings.model_copy(update={"missing_words": ""})
    assert load_chunks(without, bucket)["rows_accepted"] == 1
    assert query(settings, "select customer, merchant, gender from raw.transactions") == [("NULL", "None", "NaN")]


@FORMS
def test_custom_missing_words(settings, bucket, form):
    """A word may be a number, which matches identical text only. The default words then count as values."""
    words = ("k. A.", "9999", "99990", "NULL", "-1", "É")
    rows = [(word, "M1", "F", "1") for word in words] + [("C1", "M1", "F", word) for word in words]
    put(bucket, "chunk_1", HEADER + "\n".join(",".join(map(form.format, row)) for row in rows) + "\n")
    other = settings.model_copy(update={"missing_words": " K. a. ,9999,, -1, é"})
    load_chunks(other, bucket)
    expected = {2: "no customer", 3: "no customer", 6: "no customer", 7: "no customer", 8: "no amount", 9: "no amount"}
    expected |= {11: "amount is not a number", 12: "no amount", 13: "no amount"}
    assert dict(query(settings, REASONS)) == expected


def test_missing_words_from_the_environment(monkeypatch):
    monkeypatch.setenv("TALLYMARK_MISSING_WORDS", r"\N, (Leer)")
    assert Settings().missing_values == [r"\n", "(leer)"]


def test_importance_values(settings, bucket, caplog):
    rows = ["\u00a0C1,M1\u200b,\u20091", "NULL,M1,1", "C1,'n/a',1", "C1,M1,NaN", "C\u200d1,M1,2", "x\u200dx,M1,y"]
    put(bucket, "all.csv", "\ufeffSource\u00a0,Target,Weight\n" + "\n".join(rows), "input/customers")
    load_chunks(settings, bucket)
    weights = query(settings, "select customer, merchant, weight::integer from raw.customer_importance order by weight")
    assert weights == [("C1", "M1", 1), ("C\u200d1", "M1", 2)]
    expected = {3: "no customer", 4: "no merchant", 5: "no weight", 7: "weight is not a number"}
    assert dict(query(settings, REASONS)) == expected
    [warning] = warnings(caplog)
    assert "input/customers/all.csv (customer importance version 1) has 1 row with" in warning
    assert "for example C<U+200D>1." in warning


def test_invisible_characters_in_ids_are_logged(settings, bucket, caplog):
    """There is one warning per chunk, across all parts, and only accepted rows count."""
    put(bucket, "chunk_1", HEADER + "\u00a0C1\u200b,\u201cM1\u201d,F\u200bF,1\n")
    put(bucket, "chunk_2/part-0", HEADER + "C1,M\u00a0\u200b1,F,1\nC\u00ad2,M\u00ad1,F,1\n")
    put(bucket, "chunk_2/part-1", HEADER + "C1,M1,F,1\nC\u20603,M1,F,x\nC\u20602,M1,F,1\n")
    put(bucket, "chunk_2/_SUCCESS", "")
    put(bucket, "chunk_3", HEADER + "C\v1,M1,F,1\n")
    put(bucket, "chunk_4", HEADER + "C 1,M1,F,1\n")
    load_chunks(settings, bucket)
    found = [
        re.search(r"(chunk_\d).* has (\d+ rows?) .* for example (.*)\. They", text).groups()
        for text in warnings(caplog)
    ]
    assert found == [("chunk_2", "3 rows", "M<U+00A0><U+200B>1"), ("chunk_3", "1 row", "C<U+000B>1")]
    customers = query(settings, "select distinct customer from raw.transactions order by 1")
    assert [visible(customer) for (customer,) in customers] == ["C<U+000B>1", "C 1", "C1", "C<U+00AD>2", "C<U+2060>2"]
