"""Prefetching of objects: each request to S3 is slow, but several can run at the same time."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tallymark.store import Get, StoredObject

# Two fewer than the connections that a boto3 client keeps (max_pool_connections: 10).
OBJECTS_AHEAD = 8
BYTES_AHEAD = 64 * 2**20


@contextmanager
def fetched_ahead(get: Get, objects: Iterable[StoredObject]) -> Iterator[Get]:
    """Provide a ``get`` that fetches the following objects in the background.

    Objects must be requested in the given order, but some may be skipped. If fetching an object fails, its request
    raises the error.
    """
    objects = list(objects)
    places = {stored: place for place, stored in enumerate(objects)}
    fetched: dict[int, Future[bytes]] = {}

    def get_in_turn(requested: StoredObject) -> bytes:
        turn, size = places[requested], 0
        for passed in [place for place in fetched if place < turn]:
            fetched.pop(passed).cancel()
        for place, stored in enumerate(objects[turn : turn + OBJECTS_AHEAD], turn):
            size += stored.size
            if place > turn and size > BYTES_AHEAD:
                break
            if place not in fetched:
                fetched[place] = pool.submit(get, stored)
        return fetched.pop(turn).result()

    pool = ThreadPoolExecutor(OBJECTS_AHEAD)
    try:
        yield get_in_turn
    finally:
        pool.shutdown(cancel_futures=True)
