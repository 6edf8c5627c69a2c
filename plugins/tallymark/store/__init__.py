"""Where objects are kept, a bucket (s3.py) or a folder that is laid out like one (folder.py): what both do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tallymark.errors import UserError

IsEnough = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class StoredObject:
    """One object as a listing shows it.

    Attributes:
        etag: without the quotes that S3 puts around it.
        size: bytes.
        last_modified: time zone aware.
    """

    key: str
    etag: str
    size: int
    last_modified: datetime

    @classmethod
    def from_listing(cls, entry: dict[str, Any]) -> "StoredObject":
        """From an entry of ``Contents`` in the answer to ``ListObjectsV2``."""
        return cls(entry["Key"], entry["ETag"].strip('"'), entry["Size"], entry["LastModified"])


class ObjectChangedError(UserError, RuntimeError):
    """An object is no longer the one that was listed."""


class BucketError(UserError, RuntimeError):
    """S3 did not do what it was asked; the message says what was asked, of whom, and what to do."""


class UnreadableError(BucketError):
    """S3 refused one object; whether it answers for others shows only there.

    Attributes:
        is_archived: it refused because of where it keeps the object, so that it knows us and would give us others.
    """

    def __init__(self, message: str, is_archived: bool = False):
        super().__init__(message)
        self.is_archived = is_archived


class OtherContentError(UserError, FileExistsError):
    """A key that must never change holds other content."""


Get = Callable[[StoredObject], bytes]


class Store(Protocol):
    """What the steps need of a bucket."""

    def list(self, prefix: str, after: str = "", is_enough: IsEnough | None = None) -> Iterator[StoredObject]:
        """All objects whose keys begin with the prefix and sort, by their bytes, behind ``after``.

        Args:
            is_enough: is given the keys of what was listed by one call, and tells whether to ask for no more.
        """

    def get(self, stored: StoredObject) -> bytes:
        """The whole content.

        Raises:
            ObjectChangedError: when the object has another ETag by now, or is gone.
            UnreadableError: when it may not be read, or not where it is kept.
        """

    def put_new(self, key: str, body: bytes) -> None:
        """Put an object that must never change; nothing happens if it is there already.

        Raises:
            OtherContentError: when the key holds other content.
        """

    def put(self, key: str, body: bytes) -> None:
        """Put an object, or replace it as a whole by another one."""


def must_be_equal(key: str, existing: bytes, body: bytes) -> None:
    """Raise an OtherContentError unless what a key holds is what was to be put."""
    if existing != body:
        raise OtherContentError(
            f"{key} is there already and holds other content ({len(existing)} bytes instead of {len(body)}). "
            "It was left as it is. Does another warehouse write to the same prefix? "
            "If this one is an old copy, make it anew: make rebuild"
        )
