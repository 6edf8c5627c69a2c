"""Which objects form a chunk, and the order of chunks."""

from datetime import UTC, datetime, timedelta

import pytest
from tallymark.intake.chunks import chunk_name, find_chunks, natural_order
from tallymark.store import StoredObject

PREFIX = "input/transactions/"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def stored(*names: str) -> list[StoredObject]:
    return [StoredObject(f"{PREFIX}{name}", f"etag of {name}", 1, NOON) for name in names]


def test_natural_order():
    keys = [
        "chunk_10",
        "chunk_2",
        "chunk_02",
        "chunk_1.csv.gz",
        "chunk_1.csv",
        "chunk_",
        "chunk_x",
        "chunk_9a10",
        "chunk_9a9",
    ]
    expected = [
        "chunk_",
        "chunk_1.csv",
        "chunk_1.csv.gz",
        "chunk_02",
        "chunk_2",
        "chunk_9a9",
        "chunk_9a10",
        "chunk_10",
        "chunk_x",
    ]
    assert sorted(keys, key=natural_order) == expected


@pytest.mark.parametrize("key", ["chunk_²", "chunk_٣", "chunk_" + "9" * 900, "", "chunk 5 ' % \u1f600 ../"])
def test_any_key_can_be_ordered(key):
    assert sorted(["chunk_1", key], key=natural_order)


def test_folder_is_a_chunk_once_marked():
    parts = stored(
        "chunk_3/part-10.csv", "chunk_3/part-9.csv", "chunk_3/_temporary/part-0.csv", "chunk_3/.crc", "chunk_3/"
    )
    assert find_chunks(parts, PREFIX) == []
    [chunk] = find_chunks(parts + stored("chunk_3/_SUCCESS"), PREFIX)
    assert chunk.key == f"{PREFIX}chunk_3/"
    assert chunk_name(chunk.key) == "chunk_3"
    assert [part.key.rpartition("/")[2] for part in chunk.parts] == ["part-9.csv", "part-10.csv"]


def test_changed_part_changes_folder_etag():
    before = stored("chunk_3/part-1.csv", "chunk_3/_SUCCESS")
    after = [StoredObject(before[0].key, "another", 1, NOON + timedelta(hours=1)), before[1]]
    [first], [second] = find_chunks(before, PREFIX), find_chunks(after, PREFIX)
    assert first.etag != second.etag
    assert (first.landed_at, second.landed_at) == (NOON, NOON + timedelta(hours=1))


def test_other_objects_are_not_chunks():
    others = [*stored("readme.txt", "old_chunk_1.csv", "CHUNK_1"), StoredObject("elsewhere/chunk_1", "e", 1, NOON)]
    assert find_chunks(others, PREFIX) == []


@pytest.mark.parametrize("name", ["chunk_7", "chunk_7.csv", "chunk_7.csv.gz", "chunk_7.CSV.GZ"])
def test_chunk_name_has_no_extension(name):
    assert chunk_name(find_chunks(stored(name), PREFIX)[0].key) == "chunk_7"


def test_dots_in_keys_are_not_paths():
    """Nothing outside the prefix is found, and chunk names, which also name files of rejected rows, have no slash."""
    found = find_chunks(
        stored("chunk_1/../../x.csv", "chunk_1/_SUCCESS", "chunk_..", "../chunk_2", "chunk_%2e%2e"), PREFIX
    )
    assert [(chunk.key.removeprefix(PREFIX), len(chunk.parts)) for chunk in found] == [
        ("chunk_1/", 0),
        ("chunk_%2e%2e", 1),
        ("chunk_..", 1),
    ]
    assert not [chunk for chunk in found if "/" in chunk_name(chunk.key)]
