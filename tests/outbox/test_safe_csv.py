"""Names that a spreadsheet would run as formulas."""

import csv
import random

from support.streams import HEADER
from tallymark.local.replay import replay
from tallymark.outbox.safe_csv import defused, restored

SPECIAL = "'\"=+-@\t\r\n＝＋－＠ aB;,|"  # noqa: RUF001
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "'=1", "''=cmd|' /C calc'!A0", "＝1"]  # noqa: RUF001
HARMLESS = ["C1", "O'Brien", "'tis", "a=1", "1-1", "''"]


def test_escaping_round_trips():
    chance = random.Random(1)
    for _ in range(20_000):
        value = "".join(chance.choices(SPECIAL, k=chance.randrange(6)))
        assert restored(defused(value)) == value
        assert not defused(value)[:1] or defused(value)[0] not in "=+-@\t\r\n＝＋－＠"  # noqa: RUF001


def test_only_formulas_are_escaped():
    assert [defused(value) for value in HARMLESS] == HARMLESS
    assert [defused(value) for value in FORMULAS] == [f"'{value}" for value in FORMULAS]


def test_names_round_trip_through_files(tmp_path):
    """From a chunk to a detection file, and from a bad row to the file of rejected rows."""
    names = [name for name in FORMULAS + HARMLESS if name != "''"]
    folder = tmp_path / "input/transactions"
    folder.mkdir(parents=True)
    quoted = ['"{}"'.format(name.replace('"', '""')) for name in names]
    rows = [f"0,{name},2,F,1,{name},1,food,1,0" for name in quoted]
    (folder / "chunk_1.csv").write_text("\n".join([HEADER, *rows, "=1+1,bad row"]) + "\n")
    replay(tmp_path, tmp_path / "out", vars={"child_min_transactions": 1})
    with (tmp_path / "out/output/detections/detections-00000001.csv").open(newline="") as file:
        _, *lines = csv.reader(file)
    assert sorted(restored(line[4]) for line in lines) == sorted(names)
    assert sorted(restored(line[5]) for line in lines) == sorted(names)
    assert not [value for line in lines for value in line if value[:1] in tuple("=+-@")]
    rejected = (tmp_path / "out/output/rejected/chunk_1.csv").read_text().splitlines()
    assert rejected[1].endswith(',"\'=1+1,bad row"')
