"""Randomly damaged chunks: the load does not crash or hang, loses no row, and agrees with a check in plain Python."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import pytest
from support import figures
from support.fuzz import REJECTED_WHOLE, Mutant, Verdict, expected_verdict, mutant
from support.loading import CASES
from tallymark.intake import csv_lines, rows
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

MUTANTS = int(os.environ.get("TALLYMARK_MUTANTS", "250"))
SEED = int(os.environ.get("TALLYMARK_FUZZ_SEED", "1"))
BATCH = 100
TRIED: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def page(request) -> Iterator[None]:
    yield
    figures.write(
        request.session,
        "input",
        f"# Damaged chunks\n\nWritten by `make fuzz`, which damages chunks at random (seed {SEED}), loads them, "
        "and compares the result for each row with a second implementation in plain Python. The load did not crash or "
        "hang, and in each chunk, rows in the file = accepted + rejected.",
        ("case", "count"),
        [*TRIED.items(), *named_cases().items()],
    )


def named_cases() -> dict[str, int]:
    """Count the cases in bad_input.yaml by outcome."""
    whole = sum("chunk" in case for case in CASES)
    some = sum("rejected" in case for case in CASES)
    return {
        "named cases (tests/support/bad_input.yaml)": len(CASES),
        "named cases: rejected as a whole": whole,
        "named cases: some rows rejected": some,
        "named cases: odd, and accepted": len(CASES) - whole - some,
    }


def test_damaged_chunks(tmp_path, monkeypatch):
    """At least 5 percent are clean files, and at least 5 percent are not, because these are read differently."""
    clean = Counter()
    original = rows.is_clean

    def is_clean(file: csv_lines.CsvObject) -> bool:
        clean[found := original(file)] += 1
        return found

    monkeypatch.setattr(rows, "is_clean", is_clean)
    chance = random.Random(SEED)
    settings = Settings(warehouse=tmp_path / "warehouse.duckdb")
    bucket = FolderStore(tmp_path)
    folder = tmp_path / "input/transactions"
    folder.mkdir(parents=True)
    for first in range(0, MUTANTS, BATCH):
        mutants = [mutant(chance) for _ in range(min(BATCH, MUTANTS - first))]
        for path in folder.iterdir():
            path.unlink()
        for number, (ending, body) in enumerate(mutants, start=first):
            (folder / f"chunk_{number}{ending}").write_bytes(body)
        load_chunks(settings, bucket, max_chunks=BATCH)
        for number, found in enumerate(verdicts(settings, first, mutants), start=first):
            expected = expected_verdict(mutants[number - first])
            assert found == expected, f"mutant {number} of seed {SEED}: {mutants[number - first]}"
            count(expected)
    assert TRIED["chunks damaged"] == MUTANTS
    assert min(clean[True], clean[False]) > MUTANTS / 20


def count(verdict: Verdict) -> None:
    TRIED["chunks damaged"] += 1
    TRIED["chunks rejected as a whole"] += verdict.accepted is None
    TRIED["chunks with rejected rows"] += bool(verdict.rejected)
    TRIED["rows accepted"] += len(verdict.accepted or ())
    TRIED["rows rejected"] += len(verdict.rejected)


def verdicts(settings: Settings, first: int, mutants: list[Mutant]) -> list[Verdict]:
    """Read the outcome of the chunks from the warehouse, and check that the ledger's counts match the rows."""
    found = []
    with connect(settings, read_only=True) as warehouse:
        ledger = warehouse.execute(
            "select chunk_key, chunk_seq, state, rows_in_file, rows_accepted, rows_rejected "
            "from raw.chunks order by chunk_seq desc limit ?",
            [len(mutants)],
        ).fetchall()
        ledger = {key.rpartition("/")[2]: row for key, *row in ledger}
        last = [chunk_seq for chunk_seq, *_ in ledger.values()]
        accepted = warehouse.execute(
            "select chunk_seq, line_number, customer, merchant, gender, amount from raw.transactions "
            "where list_contains(?, chunk_seq)",
            [last],
        ).fetchall()
        rejected = warehouse.execute(
            "select chunk_seq, line_number from raw.rejected_rows where list_contains(?, chunk_seq) order by all",
            [last],
        ).fetchall()
    for number, (ending, _) in enumerate(mutants, start=first):
        chunk_seq, state, in_file, *counts = ledger[f"chunk_{number}{ending}"]
        if state == "rejected" and in_file is None:
            found.append(REJECTED_WHOLE)
            continue
        by_line = {line: (*values, Decimal(amount)) for seq, line, *values, amount in accepted if seq == chunk_seq}
        lines = [line for seq, line in rejected if seq == chunk_seq]
        assert counts == [len(by_line), len(lines)] and in_file == sum(counts)
        found.append(Verdict(None if state == "rejected" else by_line, lines))
    return found
