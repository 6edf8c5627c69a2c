"""Where objects are kept: a bucket, or a folder that is laid out like one."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tallymark.errors import UserError

# No call waits for more than about two minutes: four tries of at most 25 seconds, and the pauses between them.
ATTEMPTS = 4
# The folder, at the top of a FolderStore, of files that are being written: no object is there.
UNFINISHED = ".unfinished/"
S3_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": ATTEMPTS})
# A poke waits for about 30 seconds: with its task's retries, a run has failed when S3 has hung for two minutes.
LISTING_CONFIG = S3_CONFIG.merge(Config(read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}))

# What S3 says of an object in an archived storage class.
ARCHIVED = "InvalidObjectState"

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


class RefusedError(BucketError):
    """S3 refused one object; whether it answers for others shows only there.

    Attributes:
        is_archived: it refused because of where it keeps the object, so that it knows us and would give us others.
    """

    def __init__(self, message: str, is_archived: bool = False):
        super().__init__(message)
        self.is_archived = is_archived


class OtherContentError(UserError, FileExistsError):
    """A key that must never change holds other content."""


class CutShortError(RuntimeError):
    """An answer of S3 ended before its end."""


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
            RefusedError: when it may not be read, or not where it is kept.
        """

    def put_new(self, key: str, body: bytes) -> None:
        """Put an object that must never change; nothing happens if it is there already.

        Raises:
            OtherContentError: when the key holds other content.
        """

    def put(self, key: str, body: bytes) -> None:
        """Put an object, or replace it as a whole by another one."""


def _must_be_equal(key: str, existing: bytes, body: bytes) -> None:
    if existing != body:
        raise OtherContentError(
            f"{key} is there already and holds other content ({len(existing)} bytes instead of {len(body)}). "
            "It was left as it is. Does another warehouse write to the same prefix? "
            "If this one is an old copy, make it anew: make rebuild"
        )


@contextmanager
def explained(action: str, client: Any, bucket: str, aws_conn_id: str | None) -> Iterator[None]:
    """Turn what boto3 raises into a BucketError that says what to do.

    Args:
        action: what is tried, such as ``list input/``.
        aws_conn_id: the Airflow connection of the client, if it has one.
    """
    try:
        yield
    except (BotoCoreError, ClientError, CutShortError) as error:
        advice = _advice(error, aws_conn_id)
        raise BucketError(
            f"Could not {action} in bucket {bucket} at {client.meta.endpoint_url}: {error}. {advice}"
        ) from error


def _advice(error: Exception, aws_conn_id: str | None) -> str:
    status, code = _status(error), _code(error)
    connection = f"the Airflow connection {aws_conn_id}" if aws_conn_id else "the credentials of this process"
    if code == ARCHIVED:
        return "Restore the object from its archive."
    if status in (401, 403) or isinstance(error, NoCredentialsError | PartialCredentialsError):
        return f"S3 refused: check {connection}, and that it is allowed what docs/policies/mechanism-y.json lists."
    if code == "NoSuchBucket":
        return "Create the bucket, or name another one in the setting TALLYMARK_BUCKET."
    if status is not None and status < 500:
        return f"Check {connection} and the settings TALLYMARK_BUCKET and TALLYMARK_*_PREFIX."
    return (
        "S3 is away, or its answers do not arrive whole. Nothing was lost or taken in part: the next run goes on where "
        f"this one stopped. If it stays so, check endpoint_url and region_name of {connection}, and the network."
    )


def entries(
    client: Any, bucket: str, prefix: str, after: str = "", is_enough: IsEnough | None = None
) -> Iterator[dict[str, Any]]:
    """Entries of ListObjectsV2 page by page, to the end or to the first page whose keys are enough.

    Raises:
        CutShortError: when S3 says that there is more and not how to ask for it.
    """
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, StartAfter=after):
        if page.get("IsTruncated") and not page.get("NextContinuationToken"):
            raise CutShortError("there is more to the listing, and no token to ask for it with")
        found = page.get("Contents", [])
        yield from found
        if is_enough and is_enough([entry["Key"] for entry in found]):
            return


@dataclass(frozen=True)
class S3Store:
    """A bucket, through a boto3 S3 client; every method raises BucketError when S3 fails or refuses.

    Attributes:
        aws_conn_id: the Airflow connection that the client was made from, to be named in errors.
    """

    client: Any
    bucket: str
    aws_conn_id: str | None = None

    def _explained(self, action: str) -> Any:
        return explained(action, self.client, self.bucket, self.aws_conn_id)

    def list(self, prefix: str, after: str = "", is_enough: IsEnough | None = None) -> Iterator[StoredObject]:
        with self._explained(f"list {prefix}"):
            yield from map(StoredObject.from_listing, entries(self.client, self.bucket, prefix, after, is_enough))

    def get(self, stored: StoredObject) -> bytes:
        try:
            with self._explained(f"get {stored.key}"):
                etag, body = self._download(stored.key, stored.size, IfMatch=stored.etag)
        except BucketError as error:
            if _code(error.__cause__) in ("PreconditionFailed", "412", "NoSuchKey"):
                raise ObjectChangedError(f"{stored.key} changed or went away after it was listed") from error
            if _status(error.__cause__) in (400, 403) and _code(error.__cause__) != "RequestTimeout":
                raise RefusedError(str(error), _code(error.__cause__) == ARCHIVED) from error.__cause__
            raise
        if etag != stored.etag:
            raise ObjectChangedError(f"{stored.key} changed after it was listed")
        return body

    def put_new(self, key: str, body: bytes) -> None:
        with self._explained(f"put {key}"):
            # The look beforehand is for servers that ignore If-None-Match.
            existing = self._read(key)
            if existing is None:
                try:
                    self.client.put_object(
                        Bucket=self.bucket, Key=key, Body=body, ContentType="text/csv", IfNoneMatch="*"
                    )
                    return
                except ClientError as error:
                    if _code(error) not in ("PreconditionFailed", "ConditionalRequestConflict"):
                        raise
                    existing = self._read(key) or b""
        _must_be_equal(key, existing, body)

    def put(self, key: str, body: bytes) -> None:
        with self._explained(f"put {key}"):
            self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def _read(self, key: str) -> bytes | None:
        try:
            return self._download(key)[1]
        except self.client.exceptions.NoSuchKey:
            return None

    # boto3 tries again until an answer begins, but not when its body breaks off.
    @retry(
        retry=retry_if_exception_type(CutShortError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(max=5),
        reraise=True,
    )
    def _download(self, key: str, size: int | None = None, **conditions: str) -> tuple[str, bytes]:
        """ETag and content; ``size`` is that of the listing, to which an object with the same ETag must keep."""
        answer = self.client.get_object(Bucket=self.bucket, Key=key, **conditions)
        etag = answer["ETag"].strip('"')
        try:
            body = answer["Body"].read()
        except BotoCoreError as error:
            raise CutShortError(f"the content broke off: {error}") from error
        if size is not None and len(body) != size and etag == conditions.get("IfMatch"):
            raise CutShortError(f"{len(body)} bytes came instead of {size}")
        return etag, body


def _status(error: BaseException | None) -> int | None:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(error, ClientError) else None


def _code(error: BaseException | None) -> str | None:
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None


@dataclass(frozen=True)
class FolderStore:
    """A folder whose files are the objects; an ETag is the MD5 of the content, as on S3.

    Keys are UTF-8, as on S3; bytes of a file's name that are not are written as ``\\xNN`` in its key.

    Attributes:
        root: what is listed and read.
        target: what is written, and listed and read too; the same folder unless given.
        written: the prefix of what is written. With another target, what root holds there is somebody else's, such as
            that of the bucket whose input is replayed, and is not seen.
    """

    root: Path
    target: Path | None = None
    written: str = "output/"
    _etags: dict[tuple[str, int, int], str] = field(default_factory=dict, repr=False)
    _odd_paths: dict[str, Path] = field(default_factory=dict, repr=False)

    def list(self, prefix: str, after: str = "", is_enough: IsEnough | None = None) -> Iterator[StoredObject]:
        for root in {self.root, self.target or self.root}:
            found = (path for path in (root / prefix.rpartition("/")[0]).rglob("*") if path.is_file())
            paths = {self._key(path.relative_to(root)): path for path in found}
            keys = sorted(
                key
                for key in paths
                if key.startswith(prefix)
                and key > after
                and not key.startswith(UNFINISHED)
                and not (self._is_in_target(key) and root != self.target)
            )
            for key in keys:
                if key != paths[key].relative_to(root).as_posix():
                    self._odd_paths[key] = paths[key]
                status = paths[key].stat()
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                yield StoredObject(key, self._etag(paths[key], status), status.st_size, modified)

    def _is_in_target(self, key: str) -> bool:
        return self.target is not None and self.written != "" and key.startswith(self.written)

    @staticmethod
    def _key(path: Path) -> str:
        return os.fsencode(path.as_posix()).decode(errors="backslashreplace")

    def _etag(self, path: Path, status: os.stat_result) -> str:
        version = (str(path), status.st_size, status.st_mtime_ns)
        if version not in self._etags:
            self._etags[version] = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        return self._etags[version]

    def get(self, stored: StoredObject) -> bytes:
        path = self._odd_paths.get(stored.key, self.root / stored.key)
        if self.target and (self._is_in_target(stored.key) or not path.exists()):
            path = self.target / stored.key
        try:
            body = path.read_bytes()
        except FileNotFoundError as error:
            raise ObjectChangedError(f"{stored.key} went away after it was listed") from error
        if hashlib.md5(body, usedforsecurity=False).hexdigest() != stored.etag:
            raise ObjectChangedError(f"{stored.key} changed after it was listed")
        return body

    def put_new(self, key: str, body: bytes) -> None:
        with self._written(key, body) as (unfinished, path):
            try:
                os.link(unfinished, path)
            except FileExistsError:
                _must_be_equal(key, path.read_bytes(), body)

    def put(self, key: str, body: bytes) -> None:
        with self._written(key, body) as (unfinished, path):
            os.replace(unfinished, path)

    @contextmanager
    def _written(self, key: str, body: bytes) -> Iterator[tuple[str, Path]]:
        """A finished file under a name that nobody looks at, and the path where it belongs."""
        target = self.target or self.root
        path, aside = target / key, target / UNFINISHED
        for folder in (path.parent, aside):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=aside, delete=False) as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.chmod(file.name, 0o644)
            yield file.name, path
        finally:
            Path(file.name).unlink(missing_ok=True)
