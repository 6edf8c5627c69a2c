"""Where objects are kept, a bucket (s3.py) or a folder that is laid out like one (folder.py): what both do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from tallymark.errors import UserError

IsEnough = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class StoredObject:
    """One object as a listing shows it.

    Attributes:
        etag: without quotes and without the mark of a weak ETag. Where the server lists no ETag, a text made of size
            and time, which tells versions apart as well as it can.
        size: bytes.
        last_modified: time zone aware.
        has_etag: whether ``etag`` is the server's.
    """

    key: str
    etag: str
    size: int
    last_modified: datetime
    has_etag: bool = True

    @classmethod
    def from_listing(cls, entry: dict[str, Any]) -> "StoredObject":
        """Convert an entry of ``Contents`` in the answer to ``ListObjectsV2``; ``ETag`` may be missing or empty."""
        etag = bare_etag(entry.get("ETag") or "")
        mark = etag or version_mark(entry["Size"], entry["LastModified"])
        return cls(entry["Key"], mark, entry["Size"], entry["LastModified"], has_etag=bool(etag))


def bare_etag(header: str) -> str:
    """Return an ETag without its quotes and without the ``W/`` of a weak one."""
    return header.removeprefix("W/").strip('"')


def version_mark(size: int, last_modified: datetime) -> str:
    """Return what stands in for an ETag that is not known."""
    return f"{size} bytes, {last_modified.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


class ObjectChangedError(UserError, RuntimeError):
    """An object was replaced or deleted after it was listed; a second listing proved it."""


class BucketError(UserError, RuntimeError):
    """A call to S3 failed; the message says which call, on which bucket and endpoint, and what to do."""


class UnreadableError(BucketError):
    """One object cannot be read. Only a look at other objects shows whether S3 serves those.

    Attributes:
        is_definite: whether S3 answered about this very object: access denied, archived, listed but not found. If not
            (5xx, time-outs, lost connections, content cut short, rejected credentials), it may be an outage.
        is_archived: whether S3 gave its storage class as the reason.
    """

    def __init__(self, message: str, is_definite: bool, is_archived: bool = False):
        super().__init__(message)
        self.is_definite = is_definite
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
        """Return the whole content, as it is stored: packed content stays packed.

        Raises:
            ObjectChangedError: when a second listing shows another object under the key, or none.
            UnreadableError: when the object cannot be read after a bounded number of attempts.
            BucketError: when the bucket is missing, cannot be listed, or there are no credentials.
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
