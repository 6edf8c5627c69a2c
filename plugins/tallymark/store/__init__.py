"""The interface of object stores: a bucket (s3.py), or a folder laid out like one (folder.py)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from tallymark.errors import UserError

IsEnough = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class StoredObject:
    """An object as listed.

    Attributes:
        etag: the ETag without quotes and without the ``W/`` of a weak one. If the server lists no ETag, a text made of
            size and time, which distinguishes versions as well as these two can.
        size: in bytes.
        last_modified: with time zone.
        has_etag: whether ``etag`` is from the server.
    """

    key: str
    etag: str
    size: int
    last_modified: datetime
    has_etag: bool = True

    @classmethod
    def from_listing(cls, entry: dict[str, Any]) -> "StoredObject":
        """Convert an entry of ``Contents`` in a ``ListObjectsV2`` response; ``ETag`` may be missing or empty."""
        etag = bare_etag(entry.get("ETag") or "")
        mark = etag or version_mark(entry["Size"], entry["LastModified"])
        return cls(entry["Key"], mark, entry["Size"], entry["LastModified"], has_etag=bool(etag))


def bare_etag(header: str) -> str:
    """Return an ETag without its quotes and without the ``W/`` of a weak one."""
    return header.removeprefix("W/").strip('"')


def version_mark(size: int, last_modified: datetime) -> str:
    """Return a substitute for a missing ETag."""
    return f"{size} bytes, {last_modified.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


class ObjectChangedError(UserError, RuntimeError):
    """An object was replaced or deleted after it was listed, as a second listing showed."""


class BucketError(UserError, RuntimeError):
    """A call to S3 failed. The message names the call, the bucket and the endpoint, and says what to do."""


class UnreadableError(BucketError):
    """An object cannot be read. Whether S3 serves other objects is unknown.

    Attributes:
        is_definite: whether the error is about this object: access denied, archived, listed but not found. Other errors
            (5xx, timeouts, lost connections, truncated content, rejected credentials) may be an outage.
        is_archived: whether S3 gave the storage class as the reason.
    """

    def __init__(self, message: str, is_definite: bool, is_archived: bool = False):
        super().__init__(message)
        self.is_definite = is_definite
        self.is_archived = is_archived


class OtherContentError(UserError, FileExistsError):
    """The key of an object that must never change already holds different content."""


Get = Callable[[StoredObject], bytes]


class Store(Protocol):
    """The operations that Tallymark needs from a bucket."""

    def list(self, prefix: str, after: str = "", is_enough: IsEnough | None = None) -> Iterator[StoredObject]:
        """List all objects whose keys begin with the prefix and sort after ``after`` in byte order.

        Args:
            is_enough: called with the keys of each page; the listing ends when it returns true.
        """

    def get(self, stored: StoredObject) -> bytes:
        """Return the content as stored; compressed content is not decompressed.

        Raises:
            ObjectChangedError: when a second listing shows a different object under the key, or none.
            UnreadableError: when the object cannot be read after a bounded number of attempts.
            BucketError: when the bucket is missing or cannot be listed, or when there are no credentials.
        """

    def put_new(self, key: str, body: bytes) -> None:
        """Put an object that must never change; do nothing if the key already holds the same content.

        Raises:
            OtherContentError: when the key holds different content.
        """

    def put(self, key: str, body: bytes) -> None:
        """Put an object, or replace it atomically."""


def must_be_equal(key: str, existing: bytes, body: bytes) -> None:
    """Raise an OtherContentError unless a key holds the content that was to be put."""
    if existing != body:
        raise OtherContentError(
            f"{key} already exists with different content ({len(existing)} bytes instead of {len(body)}). It was not "
            "changed. Check whether another warehouse writes to the same prefix. If this warehouse is an old copy, "
            "rebuild it with: make rebuild"
        )
