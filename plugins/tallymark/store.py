"""Where objects are kept: a bucket, or a folder that is laid out like one."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol


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


class ObjectChangedError(RuntimeError):
    """An object is no longer the one that was listed."""


class Store(Protocol):
    """What the steps need of a bucket."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose keys begin with the prefix."""

    def get(self, stored: StoredObject) -> bytes:
        """The whole content.

        Raises:
            ObjectChangedError: when the object has another ETag by now, or is gone.
        """

    def put_new(self, key: str, body: bytes) -> None:
        """Put an object that must never change; nothing happens if it is there already.

        Raises:
            FileExistsError: when the key holds other content.
        """


def _must_be_equal(key: str, existing: bytes, body: bytes) -> None:
    if existing != body:
        raise FileExistsError(
            f"{key} is there already and holds other content ({len(existing)} bytes instead of {len(body)}). "
            "It was left as it is. Does another warehouse write to the same prefix?"
        )


@dataclass(frozen=True)
class S3Store:
    """A bucket, through a boto3 S3 client."""

    client: Any
    bucket: str

    def list(self, prefix: str) -> Iterator[StoredObject]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            yield from map(StoredObject.from_listing, page.get("Contents", []))

    def get(self, stored: StoredObject) -> bytes:
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=stored.key, IfMatch=stored.etag)
        except self.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "412", "NoSuchKey"):
                raise ObjectChangedError(f"{stored.key} changed or went away after it was listed") from error
            raise
        if answer["ETag"].strip('"') != stored.etag:
            raise ObjectChangedError(f"{stored.key} changed after it was listed")
        return answer["Body"].read()

    def put_new(self, key: str, body: bytes) -> None:
        # The look beforehand is for servers that ignore If-None-Match.
        existing = self._read(key)
        if existing is None:
            try:
                self.client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="text/csv", IfNoneMatch="*")
                return
            except self.client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
                    raise
                existing = self._read(key) or b""
        _must_be_equal(key, existing, body)

    def _read(self, key: str) -> bytes | None:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None


@dataclass(frozen=True)
class FolderStore:
    """A folder whose files are the objects; an ETag is the MD5 of the content, as on S3.

    Attributes:
        root: what is listed and read.
        target: what is written; the same folder unless given.
    """

    root: Path
    target: Path | None = None
    _etags: dict[tuple[str, int, int], str] = field(default_factory=dict, repr=False)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        folder = self.root / prefix.rpartition("/")[0]
        for path in sorted(folder.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and key.startswith(prefix):
                status = path.stat()
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                yield StoredObject(key, self._etag(path, status), status.st_size, modified)

    def _etag(self, path: Path, status: os.stat_result) -> str:
        version = (str(path), status.st_size, status.st_mtime_ns)
        if version not in self._etags:
            self._etags[version] = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        return self._etags[version]

    def get(self, stored: StoredObject) -> bytes:
        try:
            body = (self.root / stored.key).read_bytes()
        except FileNotFoundError as error:
            raise ObjectChangedError(f"{stored.key} went away after it was listed") from error
        if hashlib.md5(body, usedforsecurity=False).hexdigest() != stored.etag:
            raise ObjectChangedError(f"{stored.key} changed after it was listed")
        return body

    def put_new(self, key: str, body: bytes) -> None:
        path = (self.target or self.root) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".") as unfinished:
            unfinished.write(body)
            unfinished.flush()
            os.fsync(unfinished.fileno())
            os.chmod(unfinished.name, 0o644)
            try:
                os.link(unfinished.name, path)
            except FileExistsError:
                _must_be_equal(key, path.read_bytes(), body)
