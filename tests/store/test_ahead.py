"""Objects are fetched before their turn, and come in their turn."""

from datetime import UTC, datetime
from threading import Barrier

import pytest
from tallymark.store import StoredObject
from tallymark.store.ahead import BYTES_AHEAD, OBJECTS_AHEAD, fetched_ahead


def listed(count: int, size: int = 1) -> list[StoredObject]:
    return [StoredObject(f"chunk_{number}", "etag", size, datetime(2024, 1, 1, tzinfo=UTC)) for number in range(count)]


def body(stored: StoredObject) -> bytes:
    return stored.key.encode()


def test_as_many_as_that_are_fetched_at_once():
    objects, at_once = listed(2 * OBJECTS_AHEAD), Barrier(OBJECTS_AHEAD)

    def get(stored):
        at_once.wait(timeout=120)
        return body(stored)

    with fetched_ahead(get, objects) as get_in_turn:
        assert [get_in_turn(stored) for stored in objects] == [body(stored) for stored in objects]


def test_each_is_fetched_once_and_in_its_turn():
    objects, asked_for = listed(3 * OBJECTS_AHEAD), []

    def get(stored):
        asked_for.append(stored)
        return body(stored)

    with fetched_ahead(get, objects) as get_in_turn:
        for place, stored in enumerate(objects, start=1):
            assert get_in_turn(stored) == body(stored)
            assert len(asked_for) <= place + OBJECTS_AHEAD
    assert sorted(asked_for, key=objects.index) == objects


def test_what_cannot_be_fetched_is_said_in_its_turn_and_the_others_come():
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


def test_those_that_nobody_asks_for_do_not_hold_up_the_others():
    objects = listed(3 * OBJECTS_AHEAD)
    with fetched_ahead(body, objects) as get_in_turn:
        for stored in (objects[0], objects[2 * OBJECTS_AHEAD], objects[-1]):
            assert get_in_turn(stored) == body(stored)


def test_large_ones_wait_for_their_turn():
    objects, asked_for = listed(4, size=BYTES_AHEAD // 2 + 1), []

    def get(stored):
        asked_for.append(stored)
        return body(stored)

    with fetched_ahead(get, objects) as get_in_turn:
        get_in_turn(objects[0])
    assert asked_for == objects[:1]
