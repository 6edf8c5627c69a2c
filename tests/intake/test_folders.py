"""Folders of part files from Spark, Databricks and Hadoop: which parts count, and when a folder is complete."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from support.loading import GOOD, put, query
from tallymark.intake import folders
from tallymark.intake.errors import RejectedError
from tallymark.intake.listing import waiting_chunks
from tallymark.pipeline.load import load_chunks
from tallymark.settings import Settings
from tallymark.store import StoredObject
from tallymark.store.folder import FolderStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FOLDER = "input/transactions/chunk_1/"
OLD, NEW = "part-00000-tid-111-a-1-1-c000.csv", "part-00000-tid-222-b-2-1-c000.csv"


def members(sizes: dict[str, int | str]) -> tuple[list[StoredObject], dict[str, str]]:
    """Return the objects of a folder, put one second apart, and their content by key."""
    listed = [
        StoredObject(FOLDER + name, name, len(str(content)), NOON + timedelta(seconds=number))
        for number, (name, content) in enumerate(sizes.items())
    ]
    return listed, {FOLDER + name: str(content) for name, content in sizes.items()}


def counting(content: dict[str, str]) -> list[str]:
    listed, bodies = members(content)
    parts = folders.committed_parts(lambda stored: bodies[stored.key].encode(), FOLDER, listed)
    return [part.key.removeprefix(FOLDER) for part in parts]


def committed(added: list[str], removed: tuple[str, ...] = ()) -> str:
    return json.dumps({"added": added, "removed": list(removed)})


def success(*paths: str, **more) -> str:
    return json.dumps({"name": "org.apache.hadoop.fs.s3a.commit.files.SuccessData/1", "filenames": paths, **more})


COUNTING = {
    "an empty marker": ({"part-1": "x", "part-0": "x", "_SUCCESS": ""}, ["part-0", "part-1"]),
    "a marker that is not JSON": ({"part-0": "x", "_SUCCESS": "done"}, ["part-0"]),
    "JSON without a list": ({"part-0": "x", "_SUCCESS": "{}"}, ["part-0"]),
    "a failed attempt and a committed one": (
        {
            "_started_111": "",
            OLD: "x",
            "_started_222": "",
            NEW: "x",
            "_committed_222": committed([NEW]),
            "_SUCCESS": "",
        },
        [NEW],
    ),
    "a committed file was overwritten": (
        {OLD: "x", "_committed_111": committed([OLD]), NEW: "x", "_committed_222": committed([NEW], (OLD,))},
        [NEW],
    ),
    "an overwritten file was vacuumed": (
        {"_committed_111": committed([OLD]), NEW: "x", "_committed_222": committed([NEW], (OLD,)), "_SUCCESS": ""},
        [NEW],
    ),
    "two transactions added files": (
        {OLD: "x", "_committed_111": committed([OLD]), NEW: "x", "_committed_222": committed([NEW])},
        [OLD, NEW],
    ),
    "a directory without a committed transaction": (
        {f"a/{OLD}": "x", "a/_committed_111": committed([OLD]), f"b/{NEW}": "x", "b/_started_222": "", "_SUCCESS": ""},
        [f"a/{OLD}"],
    ),
    "S3A lists whole keys": (
        {"part-0": "x", "part-1": "x", "_SUCCESS": success(f"/{FOLDER}part-1")},
        ["part-1"],
    ),
    "S3A lists keys of another folder, from which this one was copied": (
        {"part-0": "x", "a/part-0": "x", "_SUCCESS": success("/elsewhere/a/part-0")},
        ["a/part-0"],
    ),
    "a list of 100 files may be incomplete": (
        {**{f"part-{n:03d}": "x" for n in range(120)}, "_SUCCESS": success(*(f"part-{n:03d}" for n in range(100)))},
        [f"part-{n:03d}" for n in range(120)],
    ),
}


@pytest.mark.parametrize("case", COUNTING)
def test_parts_that_count(case):
    content, expected = COUNTING[case]
    assert counting(content) == expected


CONTRADICTIONS = {
    "an added part is missing": (
        {"_committed_222": committed([NEW])},
        f"_committed_222 lists {NEW}, which is missing",
    ),
    "a part belongs to no transaction": (
        {"part-0": "x", NEW: "x", "_committed_222": committed([NEW])},
        "part-0 is not listed in any _committed_<id>",
    ),
    "a part of a committed transaction is not listed": (
        {OLD: "x", NEW: "x", "_committed_111": committed([]), "_committed_222": committed([NEW])},
        f"{OLD} is not listed in any _committed_<id>",
    ),
    "a transaction is not JSON": ({NEW: "x", "_committed_222": "x"}, "_committed_222 is not JSON"),
    "a transaction is empty": ({NEW: "x", "_committed_222": ""}, "_committed_222 is not JSON"),
    "a transaction lists nothing": ({NEW: "x", "_committed_222": "[]"}, "_committed_222 does not list"),
    "nothing is committed": ({OLD: "x", "_started_111": "", "_SUCCESS": ""}, "contains no committed parts"),
    "a listed part is missing": (
        {"part-0": "x", "_SUCCESS": success("part-0", "part-1")},
        "_SUCCESS lists part-1, which",
    ),
    "the job failed": (
        {"part-0": "x", "_SUCCESS": success("part-0", success=False)},
        "_SUCCESS reports that the job failed",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradicting_folders_are_rejected(case):
    content, reason = CONTRADICTIONS[case]
    with pytest.raises(RejectedError) as rejected:
        counting(content)
    assert str(rejected.value).startswith(reason)


def test_oversized_marker_is_not_fetched():
    marker = StoredObject(f"{FOLDER}_committed_1", "x", 2**30, NOON)
    with pytest.raises(RejectedError, match="too large for a commit marker"):
        folders.committed_parts(lambda _: pytest.fail("it was fetched"), FOLDER, [marker])


@pytest.mark.parametrize(
    ("names", "is_complete"),
    [
        (("part-0",), False),
        (("part-0", "_SUCCESS"), True),
        (("part-0", "_committed_1"), True),
        (("a/part-0", "a/_committed_1", "b/part-0"), False),
        (("a/part-0", "b/part-0", "a/_committed_1", "b/_committed_2"), True),
        (("a/part-0", "b/part-0", "a/_SUCCESS"), False),
        (("_SUCCESS", "part-0"), False),
        (("_SUCCESS",), False),
    ],
)
def test_folder_is_complete_if_marker_is_newest(names, is_complete):
    listed, _ = members(dict.fromkeys(names, 1))
    assert folders.is_complete(FOLDER, listed, settled=NOON - timedelta(seconds=1)) == is_complete


def test_copied_folder_is_complete_once_settled():
    listed, _ = members({"_SUCCESS": 1, "part-0": 1, "part-1": 1})
    assert not folders.is_complete(FOLDER, listed, settled=NOON + timedelta(seconds=1))
    assert folders.is_complete(FOLDER, listed, settled=NOON + timedelta(seconds=2))
    same_second = [StoredObject(stored.key, "x", 1, NOON) for stored in listed]
    assert not folders.is_complete(FOLDER, same_second, settled=NOON - timedelta(seconds=1))
    assert folders.is_complete(FOLDER, same_second, settled=NOON)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse.duckdb", folder_settle_seconds=0)


@pytest.fixture
def bucket(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.mark.parametrize("folder", ["input/transactions/chunk_1", "input/customers/weights", "input/customers"])
def test_only_parts_committed_by_databricks_count(settings, bucket, folder):
    """The same rule applies to chunks and to the customer importance."""
    is_chunk = folder.endswith("chunk_1")
    content = GOOD if is_chunk else "Source,Target,Weight\nC1,M1,1\n"
    for name, body in {OLD: content, NEW: content, "_committed_222": committed([NEW]), "_SUCCESS": ""}.items():
        put(bucket, name, body, folder)
    load_chunks(settings, bucket)
    table = "raw.transactions" if is_chunk else "raw.customer_importance"
    assert query(settings, f"select count(*) from {table}") == [(1,)]


def test_parts_newer_than_the_marker_count(settings, bucket):
    """This is the order in which aws s3 sync copies a folder. Modification times come from the local files."""
    slow = settings.model_copy(update={"folder_settle_seconds": 3600})
    for name, content in (("_SUCCESS", ""), ("part-0", GOOD)):
        put(bucket, f"chunk_1/{name}", content)
    assert load_chunks(slow, bucket)["chunks_accepted"] == 0
    put(bucket, "chunk_1/part-1", GOOD)
    assert load_chunks(slow, bucket)["chunks_accepted"] == 0
    assert load_chunks(settings, bucket)["rows_accepted"] == 2


def test_settling_folder_delays_later_chunks(settings, bucket):
    slow = settings.model_copy(update={"folder_settle_seconds": 3600})
    for name in ("chunk_1", "chunk_2/_SUCCESS", "chunk_2/part-0", "chunk_10"):
        put(bucket, name, "" if "_SUCCESS" in name else GOOD.replace("C1", name))
    assert load_chunks(slow, bucket)["chunks_accepted"] == 1
    assert [chunk.key for chunk in waiting_chunks(slow, bucket.list(""))] == []
    assert load_chunks(settings, bucket)["chunks_accepted"] == 2
    keys = [f"input/transactions/{name}" for name in ("chunk_1", "chunk_2/", "chunk_10")]
    assert [key for (key,) in query(settings, "select chunk_key from raw.chunks order by chunk_seq")] == keys


def test_unsettled_folder_stops_delaying_chunks(settings, bucket):
    slow = settings.model_copy(update={"folder_settle_seconds": 3600})
    for name in ("chunk_1/_SUCCESS", "chunk_1/part-0", "chunk_2"):
        put(bucket, name, "" if "_SUCCESS" in name else GOOD)
    long_ago = time.time() - 3600 - folders.MAX_HOLD_SECONDS - 60
    os.utime(bucket.root / FOLDER / "_SUCCESS", (long_ago, long_ago))
    load_chunks(slow, bucket)
    assert query(settings, "select chunk_key from raw.chunks") == [("input/transactions/chunk_2",)]


def test_corrected_folder_is_loaded(settings, bucket):
    for name, body in {NEW: GOOD, "_committed_222": committed([NEW, OLD]), "_SUCCESS": ""}.items():
        put(bucket, f"chunk_1/{name}", body)
    assert load_chunks(settings, bucket)["chunks_rejected"] == 1
    [(reason,)] = query(settings, "select reason from raw.chunks")
    assert reason == f"_committed_222 lists {OLD}, which is missing. Put the missing part"
    put(bucket, f"chunk_1/{OLD}", GOOD)
    assert load_chunks(settings, bucket)["rows_accepted"] == 2


def test_vacuumed_folder_is_the_same_chunk(settings, bucket):
    """Databricks deletes the files of failed transactions a few days later."""
    for name, body in {OLD: "x\n", NEW: GOOD, "_committed_222": committed([NEW]), "_SUCCESS": ""}.items():
        put(bucket, f"chunk_1/{name}", body)
    assert load_chunks(settings, bucket)["rows_accepted"] == 1
    (bucket.root / FOLDER / OLD).unlink()
    put(bucket, "chunk_1/_committed_vacuum333", committed([], ("_started_111",)))
    put(bucket, "chunk_2", GOOD.replace("C1", "C2"))
    assert load_chunks(settings, bucket)["chunks_accepted"] == 1
    assert query(settings, "select count(*) from raw.conflicts") == [(0,)]
    put(bucket, f"chunk_1/{NEW}", GOOD + GOOD.splitlines()[1])
    assert load_chunks(settings, bucket)["chunks_in_conflict"] == 1


def test_conflict_names_parts_put_later(settings, bucket):
    for name in ("part-0", "_SUCCESS"):
        put(bucket, f"chunk_1/{name}", GOOD if name == "part-0" else "")
    load_chunks(settings, bucket)
    time.sleep(0.01)
    put(bucket, "chunk_1/part-1", GOOD)
    assert load_chunks(settings, bucket)["chunks_in_conflict"] == 1
    [(message,)] = query(settings, "select message from raw.conflicts")
    assert message.endswith(
        "Put since then: part-1. To count their rows, put only these files into a folder with a new name."
    )


def test_chunks_wait_for_first_complete_importance(settings, bucket):
    slow = settings.model_copy(update={"folder_settle_seconds": 3600})
    put(bucket, "_SUCCESS", "", "input/customers")
    put(bucket, "part-0", "Source,Target,Weight\nC1,M1,1\n", "input/customers")
    put(bucket, "chunk_1", GOOD)
    with pytest.raises(RuntimeError, match="customer importance below input/customers/ is not complete yet"):
        load_chunks(slow, bucket)
    assert load_chunks(settings, bucket)["chunks_accepted"] == 1
    put(bucket, "part-1", "Source,Target,Weight\nC1,M1,1\n", "input/customers")
    put(bucket, "chunk_2", GOOD)
    load_chunks(slow, bucket)
    assert query(settings, "select importance_version from raw.chunks order by chunk_seq") == [(1,), (1,)]
