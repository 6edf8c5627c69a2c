"""Attempts to read objects. When one cannot be read, either the others go on, or S3 is away and the run fails."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from tallymark.store import BucketError, Get, ObjectChangedError, Store, StoredObject, UnreadableError

Fetched = TypeVar("Fetched")


class Attempts:
    """Reads objects of a store, and asks for other objects when one cannot be read.

    Args:
        others: objects that S3 should serve, the most promising ones first.
    """

    def __init__(self, store: Store, others: Callable[[], Iterable[StoredObject]]):
        self._store = store
        self._others = others
        self._has_access = False

    def read(self, key: str, fetch: Callable[[Get], Fetched], get: Get | None = None) -> Fetched:
        """What ``fetch`` returns.

        ``fetch`` is called once more when it failed as it does in an outage, and S3 serves other objects.

        Args:
            key: of what is read; objects whose keys begin with it prove nothing.
            get: for the first attempt, such as one that has objects already.

        Raises:
            UnreadableError: when it cannot be read while S3 serves other objects.
            BucketError: when S3 does not serve others either.
        """
        try:
            return fetch(get or self._store.get)
        except UnreadableError as error:
            if error.is_archived or (error.is_definite and self._has_access):
                raise
            if not self._serves_others(key):
                raise BucketError(str(error)) from error
            self._has_access = True
            if error.is_definite:
                raise
        return fetch(self._store.get)

    def _serves_others(self, key: str) -> bool:
        for stored in self._others():
            if stored.size and not stored.key.startswith(key):
                try:
                    self._store.get(stored)
                except ObjectChangedError:
                    continue
                except UnreadableError as error:
                    if error.is_archived:
                        return True
                    if not error.is_definite:
                        return False
                else:
                    return True
        return False
