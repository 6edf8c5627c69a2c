"""Objects are fetched ahead, and returned in order."""

from datetime import UTC, datetime
from threading import Barrier

import pytest
from tallymark.store import StoredObject
from tallymark.store.ahead import BYTES_AHEAD, OBJECTS_AHEAD, fetched_ahead


def listed(count: int, size: int = 1) -> list[StoredObject]:
    return [StoredObject(f"chunk_{number}", "etag", size, datetime(2024, 1, 1, tzinfo=UTC)) for number in range(count)]


def body(stored: StoredObject) -> bytes:
    return stored.key.encode()


def test_objects_are_fetched_concurrently():
    objects, concurrent = listed(2 * OBJECTS_AHEAD), Barrier(OBJECTS_AHEAD)

    def get(stored):
        concurrent.wait(timeout=120)
        return body(stored)

    with fetched_ahead(get, objects) as get_in_turn:
        assert [get_in_turn(stored) for stored in objects] == [body(stored) for stored in objects]


def test_each_object_is_fetched_once_in_order():
    objects, fetched = listed(3 * OBJECTS_AHEAD), []

    def get(stored):
        fetched.append(stored)
        return body(stored)

    with fetched_ahead(get, objects) as get_in_turn:
        for place, stored in enumerate(objects, start=1):
            assert get_in_turn(stored) == body(stored)
            assert len(fetched) <= place + OBJECTS_AHEAD
    assert sorted(fetched, key=objects.index) == objects


def test_failed_fetch_raises_when_requested():
    objects = listed(5)

    def get(stored):
        if stored == objects[1]:
            raise PermissionError(stored.key)
        return body(stored)

    with fetched_ahead(get, objects) as get_in_turn:
        assert get_in_turn(objects[0]) == b"chunk_0"
        with pytest.raises(PermissionError, match="chunk_1"):
            get_in_turn(objects[1])
        assert get_in_turn(objects[2]) == b"chunk_2"


def test_skipped_objects_do_not_block_others():
    objects = listed(3 * OBJECTS_AHEAD)
    with fetched_ahead(body, objects) as get_in_turn:
        for stored in (objects[0], objects[2 * OBJECTS_AHEAD], objects[-1]):
            assert get_in_turn(stored) == body(stored)


def test_large_objects_are_not_fetched_ahead():
    objects, fetched = listed(4, size=BYTES_AHEAD // 2 + 1), []

    def get(stored):
        fetched.append(stored)
        return body(stored)

    with fetched_ahead(get, objects) as get_in_turn:
        get_in_turn(objects[0])
    assert fetched == objects[:1]
