"""Objects fetched before their turn: S3 takes its time for each, and answers for several at once."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tallymark.store import Get, StoredObject

# As many connections as a boto3 client keeps (max_pool_connections) and two to spare.
OBJECTS_AHEAD = 8
BYTES_AHEAD = 64 * 2**20


@contextmanager
def fetched_ahead(get: Get, objects: Iterable[StoredObject]) -> Iterator[Get]:
    """A ``get`` for objects that are asked for in this order, if at all; the next ones are fetched meanwhile.

    What fetching an object raises is raised where it is asked for.
    """
    objects = list(objects)
    places = {stored: place for place, stored in enumerate(objects)}
    fetched: dict[int, Future[bytes]] = {}

    def get_in_turn(asked_for: StoredObject) -> bytes:
        turn, size = places[asked_for], 0
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
