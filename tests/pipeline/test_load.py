"""The load: ledger, rejected rows and chunks, conflicts, and versions of the customer importance."""

import csv
import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from support.loading import CASES, FIRST, GOOD, body_of, put, query
from tallymark.intake import ledger, listing
from tallymark.intake.gzipped import RejectedError, decompress
from tallymark.intake.listing import waiting_chunks
from tallymark.intake.rejected import RejectedFiles
from tallymark.outbox import planned_files
from tallymark.pipeline import load
from tallymark.pipeline.build import build_models
from tallymark.pipeline.export import export_detections
from tallymark.settings import PROJECT_ROOT, Settings
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect
from tallymark.warehouse.ledger_index import LedgerIndex

# A line in a file of rejected rows may be as long as a chunk.
csv.field_size_limit(2**24)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb", folder_settle_seconds=0)


@pytest.fixture
def bucket(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


def test_bad_input(settings, bucket):
    """All cases of bad_input.yaml in one load, with a good chunk before and after each."""
    for number, case in enumerate(CASES):
        put(bucket, f"chunk_{number:03d}a good", GOOD)
        put(bucket, f"chunk_{number:03d}b{case.get('key', '')}", body_of(case))
    put(bucket, "chunk_999", GOOD)
    small = settings.model_copy(update={"max_decompressed_bytes": 4_000_000, "max_object_bytes": 3_000_000})
    taken = load.load_chunks(small, bucket, max_chunks=1000)
    rows = query(
        settings,
        "select chunk_key, chunk_seq, state, reason, rows_in_file, rows_accepted, rows_rejected "
        "from raw.chunks order by chunk_seq",
    )
    assert len(rows) == 2 * len(CASES) + 1
    by_number = {row[0].rpartition("/")[2][6:10]: row for row in rows}
    wrong = []
    for number, case in enumerate(CASES):
        _, chunk_seq, state, reason, in_file, accepted, rejected = by_number[f"{number:03d}b"]
        assert by_number[f"{number:03d}a"][2:] == ("accepted", None, 1, 1, 0)
        none_counts = (reason or "").startswith("has no valid rows (")
        assert none_counts == (state == "rejected" and rejected > 0)
        found = {"chunk": f"{state}: {reason}"} if state == "rejected" and not none_counts else {"accepted": accepted}
        reasons = query(
            settings,
            f"select line_number, reason from raw.rejected_rows where chunk_seq = {chunk_seq} order by line_number",
        )
        if reasons:
            found["rejected"] = dict(reasons)
        expected = {key: case[key] for key in ("accepted", "rejected") if key in case}
        if "chunk" in case:
            expected = {"chunk": f"rejected: {case['chunk']}"}
        matches = found == expected or ("chunk" in case and case["chunk"] in found.get("chunk", ""))
        if state == "accepted" or none_counts:
            matches = matches and in_file == accepted + rejected and rejected == len(reasons)
        if "values" in case:
            values = query(
                settings,
                f"select customer, merchant, gender, amount::varchar from raw.transactions "
                f"where chunk_seq = {chunk_seq} order by line_number",
            )
            matches = matches and [list(row) for row in values] == case["values"]
            found["values"] = values
        if not matches:
            wrong.append((case["name"], expected, found))
        if state == "rejected":
            in_file_of_rejected = rejected_file(settings, bucket, chunk_seq)
            assert in_file_of_rejected[-1] == [by_number[f"{number:03d}b"][0], "", reason, ""]
            assert len(in_file_of_rejected) == rejected + 1
    assert not wrong, "\n".join(map(str, wrong))
    none_count = ("rejected" in case and case["accepted"] == 0 for case in CASES)
    assert taken["chunks_rejected"] == sum("chunk" in case for case in CASES) + sum(none_count)


def rejected_file(settings: Settings, bucket: FolderStore, chunk_seq: int) -> list[list[str]]:
    """The rows of the file with a chunk's rejected rows, or with the reason why it was rejected as a whole."""
    [(key,)] = query(settings, f"select file_key from output.files where chunk_seq = {chunk_seq}")
    with (bucket.root / key).open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["object_key", "line_number", "reason", "line"]
    return rows


def test_case_names_are_unique():
    assert len(CASES) >= 60
    assert len({case["name"] for case in CASES}) == len(CASES)


def test_rejected_rows_are_written_to_csv(settings, bucket):
    put(bucket, "chunk_1.csv", GOOD + "0,broken,row\n" + "0,'C,\"1','2'\n")
    put(bucket, "chunk_1.csv.gz", gzip.compress((GOOD + "x\n").encode()))
    load.load_chunks(settings, bucket)
    key = "input/transactions/chunk_1.csv"
    assert (bucket.root / "output/rejected/chunk_1.csv").read_text() == (
        "object_key,line_number,reason,line\n"
        f'{key},3,has 3 fields instead of 10,"0,broken,row"\n'
        f"{key},4,has 3 fields instead of 10,\"0,'C,\"\"1','2'\"\n"
    )
    assert (
        (bucket.root / "output/rejected/chunk_1-2.csv")
        .read_text()
        .endswith(f"{key}.gz,3,has 1 field instead of 10,x\n")
    )


@pytest.mark.parametrize("together", [True, False])
def test_each_chunk_has_its_own_rejected_file(settings, bucket, together):
    """The third chunk would get the file name that the second one has."""
    names = ("chunk_7", "chunk_7-3.csv", "chunk_7.csv", "chunk_7.csv.gz")
    for name in names:
        content = f"{GOOD}row of {name}\n".encode()
        put(bucket, name, gzip.compress(content) if name.endswith(".gz") else content)
        if not together:
            load.load_chunks(settings, bucket)
    load.load_chunks(settings, bucket)
    of_chunk = query(
        settings, "select chunk_key, file_key from raw.chunks join output.files using (chunk_seq) order by chunk_seq"
    )
    assert [key.rpartition("/")[2] for key, _ in of_chunk] == list(names)
    files = [key.rpartition("/")[2] for _, key in of_chunk]
    assert files == ["chunk_7.csv", "chunk_7-3.csv", "chunk_7-3-3.csv", "chunk_7-4.csv"]
    for name, file in zip(names, files, strict=True):
        assert (bucket.root / "output/rejected" / file).read_text().endswith(f",row of {name}\n")


@pytest.mark.parametrize("together", [True, False])
def test_rejected_chunk_has_a_file_with_the_reason(settings, bucket, caplog, together):
    """Names follow the order of the chunks, whether a chunk or some of its rows were rejected."""
    contents = {"chunk_7": "no header\n", "chunk_7.csv": GOOD + "bad\n", "chunk_7.csv.gz": "no gzip", "chunk_8": GOOD}
    caplog.set_level("INFO")
    for name, content in contents.items():
        put(bucket, name, content)
        if not together:
            load.load_chunks(settings, bucket)
    load.load_chunks(settings, bucket)
    keys = query(settings, "select file_key, row_count from output.files where chunk_seq > 0 order by chunk_seq")
    assert keys == [(f"output/rejected/{name}.csv", 1) for name in ("chunk_7", "chunk_7-2", "chunk_7-3")]
    assert {text for text in caplog.messages if text.startswith("put ")} == {f"put {key} (1 row)" for key, _ in keys}
    first = f"{FIRST[:-1]}7"
    assert (bucket.root / "output/rejected/chunk_7.csv").read_text() == (
        "object_key,line_number,reason,line\n"
        f"{first},,\"header lacks customer, merchant, gender, amount; the first line is: 'no header'\",\n"
    )
    assert rejected_file(settings, bucket, 2) == [[f"{first}.csv", "3", "has 1 field instead of 10", "bad"]]
    [(reason,)] = query(settings, "select reason from raw.chunks where chunk_seq = 3")
    assert rejected_file(settings, bucket, 3) == [[f"{first}.csv.gz", "", reason, ""]]


def test_each_attempt_has_its_own_rejected_file(settings, bucket):
    """The chunk is rejected as a whole twice, for the same reason, and then accepted with a rejected row."""
    for content in ("", "\n", GOOD + "bad\n"):
        put(bucket, "chunk_1", content)
        load.load_chunks(settings, bucket)
    assert [rejected_file(settings, bucket, chunk_seq) for chunk_seq in (1, 2, 3)] == [
        [[FIRST, "", "contains no lines", ""]],
        [[FIRST, "", "contains no lines", ""]],
        [[FIRST, "3", "has 1 field instead of 10", "bad"]],
    ]
    assert len(list(bucket.list("output/rejected/"))) == 3


def test_a_file_is_planned_once(settings):
    with connect(settings) as warehouse:
        planned_files.plan(warehouse, "output/rejected/chunk_1.csv", b"")
        with pytest.raises(duckdb.ConstraintException, match="Duplicate key"):
            planned_files.plan(warehouse, "output/rejected/chunk_1.csv", b"other")


def test_grouping_does_not_change_validation(settings, bucket, tmp_path, monkeypatch):
    """Different columns, gzip, part files, rejected rows and rejected chunks, in one group and in many."""
    put(bucket, "chunk_1", GOOD + "0,C2,2,F,28007,M1,28007,es_food,-1,0\n")
    put(bucket, "chunk_2", "amount,Merchant,GENDER,customer\n1.5,M2,f,'C 3'\n\n2,M2,,\"C4\"\nno,M2,F,C5\n")
    put(bucket, "chunk_3", "customer,merchant\nC1,M1\n")
    put(bucket, "chunk_4.gz", gzip.compress(GOOD.encode() + b"0,C\xff,2,F,28007,M1,28007,es_food,1,0\n"))
    put(bucket, "chunk_5/part-0", "\n\nextra,customer,merchant,gender,amount\nx,C6,M1,M,7\n")
    put(bucket, "chunk_5/part-1", GOOD + "short,row\n")
    put(bucket, "chunk_5/_SUCCESS", "")
    apart = settings.model_copy(update={"warehouse": tmp_path / "apart.duckdb"})
    counts = load.load_chunks(settings, bucket)
    monkeypatch.setattr(load, "GROUP_CHARACTERS", 1)
    assert load.load_chunks(apart, bucket) == counts
    assert counts == {
        "chunks_accepted": 4,
        "chunks_rejected": 1,
        "chunks_in_conflict": 0,
        "rows_accepted": 6,
        "rows_rejected": 4,
    }
    for table in ("transactions", "rejected_rows", "chunks"):
        rows = f"select * exclude ({{}}) from raw.{table} order by all"
        rows = rows.format("y_started_at, loaded_at") if table == "chunks" else rows.replace(" exclude ({})", "")
        assert query(settings, rows) == query(apart, rows)


def test_natural_order_late_chunks_and_max_chunks(settings, bucket):
    for number in (10, 2, 1):
        put(bucket, f"chunk_{number}", GOOD)
    assert load.load_chunks(settings, bucket, max_chunks=2)["chunks_accepted"] == 2
    put(bucket, "chunk_0", GOOD)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 2
    keys = query(settings, "select chunk_key from raw.chunks order by chunk_seq")
    assert [key.rpartition("_")[2] for (key,) in keys] == ["1", "2", "0", "10"]


def test_changed_chunk_is_a_conflict_once(settings, bucket):
    put(bucket, "chunk_1", GOOD)
    load.load_chunks(settings, bucket)
    put(bucket, "chunk_1", GOOD + GOOD.splitlines()[1])
    assert load.load_chunks(settings, bucket)["chunks_in_conflict"] == 1
    assert load.load_chunks(settings, bucket)["chunks_in_conflict"] == 0
    assert query(settings, "select count(*) from raw.transactions") == [(1,)]
    assert query(settings, "select chunk_key from raw.conflicts") == [("input/transactions/chunk_1",)]


def test_rejected_chunk_can_be_replaced(settings, bucket):
    put(bucket, "chunk_1", "no header\n")
    assert load.load_chunks(settings, bucket)["chunks_rejected"] == 1
    assert load.load_chunks(settings, bucket)["chunks_rejected"] == 0
    put(bucket, "chunk_1", GOOD)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1
    assert query(settings, "select chunk_seq, state from raw.chunks order by 1") == [(1, "rejected"), (2, "accepted")]


def test_rejected_content_over_accepted_chunk_is_a_conflict(settings, bucket):
    """It is recorded once. Afterwards the ledger index knows the object, so no chunk is waiting."""
    contents = ["no header\n", GOOD, "no header\n", GOOD, "no header\n"]
    put(bucket, "chunk_2", "no header either\n")
    conflicts = []
    for content in contents:
        put(bucket, "chunk_1", content)
        conflicts.append(load.load_chunks(settings, bucket)["chunks_in_conflict"])
        assert waiting_chunks(settings, bucket.list("input/")) == []
    assert conflicts == [0, 0, 1, 0, 0]
    assert query(settings, "select chunk_seq, state from raw.chunks order by 1") == [
        (1, "rejected"),
        (2, "rejected"),
        (3, "accepted"),
    ]


def test_changed_limit_revalidates_rejected_input(settings, bucket):
    """A chunk gets the next chunk_seq, the importance the next version. Other rejected input stays rejected."""
    packed = gzip.compress(GOOD.encode())
    put(bucket, "chunk_1", GOOD)
    put(bucket, "chunk_2.csv.gz", packed)
    put(bucket, "chunk_3", "more than 5 (TALLYMARK_MAX_OBJECT_BYTES)")
    put(bucket, "all.csv", "Source,Target,Weight\n" + "C1,M1,1\n" * 20, "input/customers")
    for changed, expected in (
        ({"max_object_bytes": 100}, (0, 3)),
        ({"max_object_bytes": 100}, (0, 0)),
        ({"max_object_bytes": len(packed)}, (1, 1)),
        ({"max_decompressed_bytes": 5}, (0, 1)),
        ({}, (1, 0)),
        ({"max_object_bytes": 5}, (0, 0)),
    ):
        limited = settings.model_copy(update=changed)
        taken = load.load_chunks(limited, bucket)
        assert (taken["chunks_accepted"], taken["chunks_rejected"]) == expected, changed
        assert waiting_chunks(limited, bucket.list("input/")) == []
    chunks = query(settings, "select chunk_seq, chunk_key[26:26], state, importance_version from raw.chunks order by 1")
    assert chunks == [
        (1, "1", "rejected", None),
        (2, "2", "rejected", None),
        (3, "3", "rejected", None),
        (4, "1", "rejected", None),
        (5, "2", "accepted", None),
        (6, "1", "rejected", None),
        (7, "1", "accepted", 4),
    ]
    states = query(settings, "select state from raw.importance_versions order by importance_version")
    assert states == [("rejected",)] * 3 + [("accepted",)]


def test_ledger_index_may_be_lost_or_corrupt(settings, bucket):
    path = LedgerIndex(settings.warehouse, settings.limits).path
    put(bucket, "chunk_1", GOOD)
    put(bucket, "chunk_2", GOOD)
    load.load_chunks(settings, bucket)
    whole = path.read_bytes()
    for left in (None, b"", b"no index", whole[:-9], whole[: len(whole) // 2], whole[:4096] + bytes(len(whole) - 4096)):
        path.unlink()
        if left is not None:
            path.write_bytes(left)
        assert load.load_chunks(settings, bucket)["chunks_accepted"] == 0
        assert waiting_chunks(settings, bucket.list("input/")) == []
    assert query(settings, "select count(*) from raw.transactions") == [(2,)]


def has_work(settings: Settings, bucket: FolderStore) -> bool:
    """Whether the sensor would start a run."""
    return (
        bool(waiting_chunks(settings, bucket.list("input/")))
        or LedgerIndex(settings.warehouse, settings.limits).has_unfinished_work()
    )


def finish(settings: Settings, bucket: FolderStore) -> None:
    build_models(settings)
    export_detections(settings, bucket)
    assert not has_work(settings, bucket)


@pytest.mark.parametrize("way", [shutil.copy, shutil.copy2])
def test_restored_warehouse_takes_missing_chunks_again(settings, bucket, way):
    put(bucket, "chunk_1", GOOD)
    load.load_chunks(settings, bucket)
    finish(settings, bucket)
    backup = way(settings.warehouse, settings.warehouse.with_name("backup"))
    put(bucket, "chunk_2", GOOD)
    load.load_chunks(settings, bucket)
    way(backup, settings.warehouse)
    assert has_work(settings, bucket)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1
    finish(settings, bucket)


def test_recreated_warehouse_invalidates_ledger_index(settings, bucket):
    put(bucket, "chunk_1", GOOD)
    load.load_chunks(settings, bucket)
    settings.warehouse.unlink()
    with connect(settings):
        pass
    assert has_work(settings, bucket)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1


def test_changed_warehouse_invalidates_ledger_index(settings, bucket):
    """For example dbt run by hand, which deletes the record of the last build that passed."""
    put(bucket, "chunk_1", GOOD)
    load.load_chunks(settings, bucket)
    finish(settings, bucket)
    with duckdb.connect(str(settings.warehouse)) as by_hand:
        by_hand.execute("delete from output.passed_builds")
    assert has_work(settings, bucket)
    load.load_chunks(settings, bucket)
    finish(settings, bucket)


@pytest.mark.system
def test_two_warehouses_in_one_folder_share_nothing(tmp_path, bucket):
    for number, name in enumerate(("both.x", "both.y", "both") * 2):
        settings = Settings(warehouse=tmp_path / name, output_prefix=f"output of {name}/")
        if number % 3 == 0:
            put(bucket, f"chunk_{number}", GOOD)
        assert has_work(settings, bucket)
        assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1
        finish(settings, bucket)


def test_lost_ledger_index_does_not_delay_new_chunks(settings, bucket):
    for number in (1, 2, 3):
        put(bucket, f"chunk_{number}", GOOD)
    load.load_chunks(settings, bucket)
    LedgerIndex(settings.warehouse, settings.limits).discard()
    put(bucket, "chunk_4", GOOD)
    assert load.load_chunks(settings, bucket, max_chunks=1)["chunks_accepted"] == 1


def test_poke_cost_does_not_grow_with_ledger(settings, bucket):
    """Compares the bytes that this process reads during a poke, as counted by Linux."""
    put(bucket, "chunk_1", GOOD)
    load.load_chunks(settings, bucket)
    listed = list(bucket.list("input/"))
    few, many = (bytes_of_a_poke(settings, count, listed) for count in (3_000, 30_000))
    assert many < 2 * few


def bytes_of_a_poke(settings: Settings, count: int, listed: list) -> int:
    with connect(settings) as warehouse:
        warehouse.execute(
            "insert into raw.chunks (chunk_seq, chunk_key, etag) select number, 'chunk_' || number, 'x' "
            "from range(10, 10 + ?) as numbers (number)",
            [count],
        )
        ledger.create_ledger_views(warehouse, settings.limits)
        ledger.update_index(LedgerIndex(settings.warehouse, settings.limits), warehouse, ())
    before = bytes_read()
    assert waiting_chunks(settings, listed) == []
    index = LedgerIndex(settings.warehouse, settings.limits)
    index.has_unfinished_work()
    listing.places(index, settings.transactions_prefix, settings.full_listing_seconds)
    return bytes_read() - before


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def test_customer_importance_versions(settings, bucket):
    header, folder = "Source,Target,Weight,typeTrans,fraud\n", "input/customers"
    contents = [
        None,
        "'C1','M1',1.5,'x',0\n",
        "'C1','M1',2,'x',0\n'C1','M1',x,'x',0\n",
        "'C1','M1',1.5,'x',0\n",
        b"\x1f\x8b",
    ]
    for number, content in enumerate(contents):
        if content:
            put(bucket, "all.csv", header + content if isinstance(content, str) else content, folder)
        put(bucket, f"chunk_{number}", GOOD)
        load.load_chunks(settings, bucket)
    versions = query(settings, "select importance_version from raw.chunks order by chunk_seq")
    assert versions == [(None,), (1,), (2,), (1,), (1,)]
    states = query(
        settings, "select importance_version, state, rows_accepted, rows_rejected from raw.importance_versions"
    )
    assert states == [(1, "accepted", 1, 0), (2, "accepted", 1, 1), (3, "rejected", 0, 0)]
    assert "weight is not a number" in (bucket.root / "output/rejected/customer_importance-2.csv").read_text()
    [_, row] = (bucket.root / "output/rejected/customer_importance-3.csv").read_text().splitlines()
    assert row.startswith("input/customers/,,all.csv: broken gzip: ") and row.endswith(",")
    assert len(list((bucket.root / "output/rejected").iterdir())) == 2


def test_broken_importance_keeps_last_good_version(settings, bucket):
    """Even if no chunk has used that version yet: it may have been loaded in a run without a chunk."""
    header, folder = "Source,Target,Weight,typeTrans,fraud\n", "input/customers"
    put(bucket, "all.csv", "broken", folder)
    put(bucket, "chunk_0", GOOD)
    load.load_chunks(settings, bucket)
    for weight in (1, 2, 1):
        put(bucket, "all.csv", f"{header}'C1','M1',{weight},'x',0\n", folder)
        load.load_chunks(settings, bucket)
    (bucket.root / folder / "all.csv").unlink()
    load.load_chunks(settings, bucket)
    put(bucket, "all.csv", "broken again", folder)
    load.load_chunks(settings, bucket)
    put(bucket, "chunk_1", GOOD)
    load.load_chunks(settings, bucket)
    put(bucket, "all.csv", f"{header}'C1','M1',2,'x',0\n", folder)
    load.load_chunks(settings, bucket)
    put(bucket, "all.csv", "broken again", folder)
    put(bucket, "chunk_2", GOOD)
    load.load_chunks(settings, bucket)
    states = query(settings, "select state from raw.importance_versions order by importance_version")
    assert states == [("rejected",), ("accepted",), ("accepted",), ("rejected",)]
    assert query(settings, "select importance_version from raw.chunks order by chunk_seq") == [(None,), (2,), (3,)]


def test_object_changed_after_listing_is_not_loaded(settings, bucket):
    put(bucket, "chunk_1", GOOD)
    listed = list(bucket.list("input/transactions/"))
    put(bucket, "chunk_1", GOOD + "more\n")
    assert load.load_chunks(settings, bucket, objects=listed)["chunks_unreadable"] == 1
    assert query(settings, "select count(*) from raw.transactions") == [(0,)]
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1


def test_too_large_object_is_rejected(settings, bucket):
    put(bucket, "chunk_1", GOOD)
    load.load_chunks(settings.model_copy(update={"max_object_bytes": 10}), bucket)
    [(reason,)] = query(settings, "select reason from raw.chunks")
    assert reason.startswith(f"has {len(GOOD)} bytes, more than the limit of 10")


def test_load_after_failed_commit(settings, bucket, monkeypatch):
    put(bucket, "chunk_1", GOOD)
    with monkeypatch.context() as broken:
        broken.setattr(ledger, "record", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load.load_chunks(settings, bucket)
    assert LedgerIndex(settings.warehouse, settings.limits).has_unfinished_work()
    assert query(settings, "select count(*) from raw.transactions") == [(0,)]
    assert load.load_chunks(settings, bucket)["rows_accepted"] == 1


def test_a_gzip_bomb_is_not_decompressed():
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(RejectedError, match="has more bytes after decompression than"):
        decompress("chunk_1.csv.gz", bomb, 1000)


def test_too_large_object_is_never_fetched(settings, bucket, monkeypatch):
    """Neither are parts of a folder that exceed the limit only together."""
    put(bucket, "chunk_1", GOOD * 10)
    for name in ("part-0", "part-1"):
        put(bucket, f"chunk_2/{name}", GOOD * 6)
    put(bucket, "chunk_2/_SUCCESS", "")
    monkeypatch.setattr(FolderStore, "get", lambda *_: pytest.fail("it was fetched"))
    limited = settings.model_copy(update={"max_object_bytes": len(GOOD) * 10 - 1})
    assert load.load_chunks(limited, bucket)["chunks_rejected"] == 2


def test_parts_together_exceed_decompressed_limit(settings, bucket):
    for name in ("part-0.csv.gz", "part-1.csv.gz"):
        put(bucket, f"chunk_1/{name}", gzip.compress(GOOD.encode() * 6))
    put(bucket, "chunk_1/_SUCCESS", "")
    limited = settings.model_copy(update={"max_decompressed_bytes": len(GOOD) * 10})
    assert load.load_chunks(limited, bucket)["chunks_rejected"] == 1
    [(reason,)] = query(settings, "select reason from raw.chunks")
    assert "TALLYMARK_MAX_DECOMPRESSED_BYTES" in reason


@pytest.mark.parametrize("rest", [-2, -1, -100])
def test_plain_parts_count_toward_decompressed_limit(settings, bucket, rest):
    """A plain part alone exceeds the limit by ``-rest`` bytes; a gzip part follows it."""
    put(bucket, "chunk_1/part-0.csv", GOOD)
    put(bucket, "chunk_1/part-1.csv.gz", gzip.compress(GOOD.encode()))
    put(bucket, "chunk_1/_SUCCESS", "")
    put(bucket, "chunk_2", "customer,merchant,gender,amount\n")
    limited = settings.model_copy(update={"max_decompressed_bytes": len(GOOD) + rest})
    taken = load.load_chunks(limited, bucket)
    assert (taken["chunks_rejected"], taken["chunks_accepted"]) == (1, 1)
    [(reason,)] = query(settings, "select reason from raw.chunks where state = 'rejected'")
    assert "TALLYMARK_MAX_DECOMPRESSED_BYTES" in reason


def test_gzip_bomb_memory_is_bounded(tmp_path):
    """A gigabyte packed into about a megabyte, with a limit of 32 megabytes, in a separate process."""
    bomb = tmp_path / "bomb.gz"
    with gzip.open(bomb, "wb", compresslevel=6) as file:
        for _ in range(16):
            file.write(bytes(2**26))
    assert bomb.stat().st_size < 2_000_000
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from tallymark.intake.gzipped import RejectedError, decompress\n"
        "body, before = Path(sys.argv[1]).read_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decompress('bomb.gz', body, 2**25)\n"
        "except RejectedError: print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT / "plugins")}
    done = subprocess.run([sys.executable, "-c", script, str(bomb)], env=environment, capture_output=True, timeout=600)
    assert int(done.stdout) < 150, done.stderr


def test_folders(settings, bucket):
    """A folder is taken whole or not at all. Its parts may have different column orders."""
    put(bucket, "chunk_1 unfinished/part-0", GOOD)
    put(bucket, "chunk_2 one part is bad/part-0", GOOD)
    put(bucket, "chunk_2 one part is bad/part-1", "no header")
    put(bucket, "chunk_3 nothing in it/part-0", "")
    put(bucket, "chunk_4 good/part-0.csv", GOOD)
    put(bucket, "chunk_4 good/part-1.csv", "amount,gender,merchant,customer\n1,M,M2,C2\nx\n")
    put(bucket, "chunk_4 good/.part-1.csv.crc", "no header")
    for name in ("chunk_2 one part is bad", "chunk_3 nothing in it", "chunk_4 good"):
        put(bucket, f"{name}/_SUCCESS", "")
    load.load_chunks(settings, bucket)
    rows = query(settings, "select chunk_key, reason, rows_in_file, rows_accepted from raw.chunks order by chunk_seq")
    assert [(key[25:-1], *found) for key, *found in rows] == [
        ("2 one part is bad", rows[0][1], None, 0),
        ("3 nothing in it", "contains no lines", None, 0),
        ("4 good", None, 3, 2),
    ]
    assert "header lacks customer" in rows[0][1]
    assert query(settings, "select customer from raw.transactions order by customer") == [("C1",), ("C2",)]
    put(bucket, "chunk_1 unfinished/_SUCCESS", "")
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 1


def test_late_and_duplicate_chunks_are_logged(settings, bucket, caplog):
    for number in (1, 3):
        put(bucket, f"chunk_{number}", GOOD.replace("C1", f"C{number}"))
    load.load_chunks(settings, bucket)
    assert not [text for text in caplog.messages if text.startswith(("LATE", "DUPLICATE"))]
    put(bucket, "chunk_2", GOOD.replace("C1", "C2"))
    put(bucket, "chunk_4", GOOD)
    assert load.load_chunks(settings, bucket)["chunks_accepted"] == 2
    late, duplicate = [text for text in caplog.messages if text.startswith(("LATE", "DUPLICATE"))]
    assert late.startswith("LATE: input/transactions/chunk_2 landed after input/transactions/chunk_3")
    assert duplicate.startswith("DUPLICATE CONTENT: input/transactions/chunk_4 has the same content as input/")
    assert query(settings, "select count(*) from raw.transactions") == [(4,)]


@pytest.mark.parametrize(
    "name",
    ["chunk_".ljust(255, "x"), "chunk_1".ljust(251, "x") + ".csv", "chunk_1" + "ü" * 124, b"chunk_\xff.csv"],
    ids=["255 bytes", "255 bytes with .csv", "two-byte characters", "not UTF-8"],
)
def test_rejected_row_in_oddly_named_chunk(settings, bucket, name):
    put(bucket, os.fsdecode(name), GOOD + "bad\n")
    assert load.load_chunks(settings, bucket)["rows_rejected"] == 1
    finish(settings, bucket)
    [rejected] = (bucket.root / "output/rejected").iterdir()
    assert "too few" in rejected.read_text() or ",bad" in rejected.read_text()
    rejected.name.encode()


def test_rejected_file_names(settings):
    """Names are unique, and no longer than S3 and file systems allow."""

    def names(prefix: str, name: str) -> list[str]:
        limited = settings.model_copy(update={"output_prefix": prefix})
        with connect(settings) as warehouse:
            warehouse.execute("delete from output.files")
            for chunk_seq in (7, 8):
                RejectedFiles(limited, warehouse).plan(name, chunk_seq, None)
            return [key for (key,) in warehouse.execute("select file_key from output.files order by all").fetchall()]

    assert names("o/", "a") == ["o/rejected/a-8.csv", "o/rejected/a.csv"]
    assert names("o/", "a" * 251) == [f"o/rejected/{'a' * 249}-8.csv", f"o/rejected/{'a' * 251}.csv"]
    assert names("o/", "a" * 252) == [f"o/rejected/{'a' * 249}-{chunk_seq}.csv" for chunk_seq in (7, 8)]
    assert names("o/", "ü" * 500) == [f"o/rejected/{'ü' * 124}-{chunk_seq}.csv" for chunk_seq in (7, 8)]
    deep = "o" * 900 + "/"
    assert names(deep, "a" * 200) == [f"{deep}rejected/{'a' * 108}-{chunk_seq}.csv" for chunk_seq in (7, 8)]
