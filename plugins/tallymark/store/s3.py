"""A bucket on S3 or a compatible server, with timeouts, retries and fallbacks.

docs/s3-stores.md lists what a server must support, and the fallbacks for what it does not.
"""

import base64
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tallymark.store import (
    IsEnough,
    ObjectChangedError,
    StoredObject,
    UnreadableError,
    bare_etag,
    must_be_equal,
)
from tallymark.store.explain import (
    ARCHIVED,
    S3_ERRORS,
    UnsupportedServerError,
    UnusableAnswerError,
    code,
    explain_get,
    explained,
    is_about_bucket,
    is_definite,
    status,
)

log = logging.getLogger(__name__)

# A call takes about two minutes at most: four attempts of up to 25 seconds, and the pauses between them.
ATTEMPTS = 4
S3_CONFIG = Config(
    connect_timeout=5,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    # Many servers reject the checksum headers that boto3 adds. Each put has a Content-MD5, which all servers support.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
# A poke takes at most about 30 seconds. Including task retries, a run fails after S3 has hung for two minutes.
LISTING_CONFIG = S3_CONFIG.merge(Config(read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}))

# The default of http.client is "identity", for which some servers and proxies decompress objects stored as gzip.
_accept_encoding: ContextVar[str] = ContextVar("_accept_encoding", default="identity")
# Endpoints known to reject If-None-Match.
_without_conditional_writes: set[str] = set()


class _WriteConflictError(UnusableAnswerError):
    """S3 rejected a put because of another write, although the key held no object before."""


def entries(
    client: Any,
    bucket: str,
    prefix: str,
    after: str = "",
    is_enough: IsEnough | None = None,
    requester_pays: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield the entries of ListObjectsV2, as in ``entries_of``, until the end or until ``is_enough`` returns true.

    Keys up to ``after`` are skipped even if the server ignores StartAfter.

    Raises:
        UnusableAnswerError: when a truncated page has no continuation token.
        UnsupportedServerError: as in ``entries_of``.
    """
    request = {"Bucket": bucket, "Prefix": prefix, **({"StartAfter": after} if after else {})} | _payer(requester_pays)
    for page in client.get_paginator("list_objects_v2").paginate(**request):
        if page.get("IsTruncated") and not page.get("NextContinuationToken"):
            raise UnusableAnswerError("the listing is truncated, but has no continuation token")
        listed = entries_of(page)
        found = [entry for entry in listed if entry["Key"] > after]
        yield from found
        # Older keys on a page mean that the server ignores StartAfter. The newest keys are on a later page then.
        if is_enough and len(found) == len(listed) and is_enough([entry["Key"] for entry in found]):
            return


def entries_of(page: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of a ListObjectsV2 response, each with an ``ETag``, which is empty if the server lists none.

    Raises:
        UnsupportedServerError: when the response is not a listing, or an entry has no key, size or time.
    """
    listed = page.get("Contents", [])
    # boto3 may parse the HTML page of a web server as an empty listing, and then no run would ever find a chunk.
    if not listed and not page.keys() & {"Name", "KeyCount", "MaxKeys", "IsTruncated"}:
        raise UnsupportedServerError("the response is not a listing")
    for entry in listed:
        if missing := [name for name in ("Key", "Size", "LastModified") if name not in entry]:
            raise UnsupportedServerError(f"the listing has no {missing[0]} for {entry.get('Key', 'an object')}")
    return [{"ETag": "", **entry} for entry in listed]


@dataclass(frozen=True)
class S3Store:
    """A bucket, accessed through a boto3 S3 client. All methods raise BucketError when a call to S3 fails.

    Attributes:
        aws_conn_id: the Airflow connection of the client, named in errors.
        server_side_encryption: the encryption requested for each put: "", "AES256", "aws:kms" or "aws:kms:dsse".
        kms_key_id: the key for "aws:kms"; if empty, the bucket's default key.
        requester_pays: whether requests agree to be charged, as requester-pays buckets require.
    """

    client: Any
    bucket: str
    aws_conn_id: str | None = None
    server_side_encryption: str = ""
    kms_key_id: str = ""
    requester_pays: bool = False

    def __post_init__(self) -> None:
        self.client.meta.events.register(
            "before-send.s3.GetObject", _set_accept_encoding, unique_id="tallymark-accept-encoding"
        )

    def list(self, prefix: str, after: str = "", is_enough: IsEnough | None = None) -> Iterator[StoredObject]:
        listed = entries(self.client, self.bucket, prefix, after, is_enough, self.requester_pays)
        with self._explained(f"list {prefix}"):
            yield from map(StoredObject.from_listing, listed)

    def get(self, stored: StoredObject) -> bytes:
        try:
            return self._fetch(stored)
        except S3_ERRORS as error:
            if is_about_bucket(error):
                with self._explained(f"get {stored.key}"):
                    raise
            if status(error) == 404:
                self._must_be_as_listed(stored)
            message = explain_get(stored.key, self.client, self.bucket, self.aws_conn_id, error)
            raise UnreadableError(message, is_definite(error), is_archived=code(error) == ARCHIVED) from error

    def put_new(self, key: str, body: bytes) -> None:
        with self._explained_put(key):
            existing = self._put_unless_there(key, body)
        if existing is not None:
            must_be_equal(key, existing, body)

    def put(self, key: str, body: bytes) -> None:
        with self._explained_put(key):
            self.put_object(key, body)

    def put_object(self, key: str, body: bytes, **more: str) -> None:
        """Call PutObject with checksum, encryption and ``more`` parameters; errors of boto3 are not converted."""
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        encryption = {"ServerSideEncryption": self.server_side_encryption, "SSEKMSKeyId": self.kms_key_id}
        self.client.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=body,
            ContentMD5=md5,
            **{name: value for name, value in encryption.items() if value},
            **_payer(self.requester_pays),
            **more,
        )

    def _explained(self, action: str, when_denied: str | None = None) -> Any:
        return explained(action, self.client, self.bucket, self.aws_conn_id, when_denied)

    def _explained_put(self, key: str) -> Any:
        sent = self.server_side_encryption or "none"
        return self._explained(
            f"put {key}",
            "If the bucket policy requires encryption, set TALLYMARK_SERVER_SIDE_ENCRYPTION and TALLYMARK_KMS_KEY_ID "
            f"accordingly (sent now: {sent}). If it requires a KMS key, check that the connection may use that key.",
        )

    def _fetch(self, stored: StoredObject) -> bytes:
        try:
            etag, body = self._download(stored.key, stored, **_if_match(stored))
        except ClientError as error:
            # Some servers report different ETags in listings and for the object itself.
            if status(error) != 412:
                raise
            etag, body = self._download(stored.key, stored)
        if etag != stored.etag:
            self._must_be_as_listed(stored)
        if len(body) != stored.size:
            raise UnusableAnswerError(f"received {len(body)} bytes, but {stored.size} are listed")
        return body

    def _must_be_as_listed(self, stored: StoredObject) -> None:
        """Raise an ObjectChangedError unless a new listing shows the same object."""
        now = next((found for found in self.list(stored.key) if found.key == stored.key), None)
        if now != stored:
            change = "was deleted" if now is None else "was replaced"
            raise ObjectChangedError(
                f"{stored.key} in bucket {self.bucket} at {self.client.meta.endpoint_url} {change} after it was "
                "listed. It was not loaded. The next listing shows its current state."
            )

    @retry(
        retry=retry_if_exception_type(_WriteConflictError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(max=5),
        reraise=True,
    )
    def _put_unless_there(self, key: str, body: bytes) -> bytes | None:
        """Put an object unless the key holds one.

        Returns the content that the key holds, or None if a conditional put succeeded.
        """
        # Reading first protects against servers that ignore If-None-Match.
        existing = self._read(key)
        if existing is not None:
            return existing
        if self.client.meta.endpoint_url in _without_conditional_writes:
            return self._put_without_condition(key, body)
        try:
            self.put_object(key, body, ContentType="text/csv", IfNoneMatch="*")
        except ClientError as error:
            # Old MinIO releases return 304.
            if status(error) in (304, 409, 412):
                raise _WriteConflictError(str(error)) from error
            if not rejects_condition(error):
                raise
            existing = self._put_without_condition(key, body)
            _without_conditional_writes.add(self.client.meta.endpoint_url)
            log.warning(
                "The server at %s does not support conditional writes (If-None-Match). Tallymark checks for an "
                "existing file before each put and reads the file back. Two warehouses that export to the same prefix "
                "at the same time can still overwrite each other's files. Export to bucket %s from one warehouse only.",
                self.client.meta.endpoint_url,
                self.bucket,
            )
            return existing
        return None

    def _put_without_condition(self, key: str, body: bytes) -> bytes:
        self.put_object(key, body, ContentType="text/csv")
        existing = self._read(key)
        if existing is None:
            raise UnusableAnswerError("the object was put, but S3 does not find it")
        return existing

    def _read(self, key: str) -> bytes | None:
        try:
            return self._download(key)[1]
        except ClientError as error:
            # Some servers use a code other than NoSuchKey.
            if status(error) != 404 or is_about_bucket(error):
                raise
            return None

    # boto3 retries until a response begins, but not when its body is cut off.
    @retry(
        retry=retry_if_exception_type(UnusableAnswerError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(max=5),
        reraise=True,
    )
    def _download(self, key: str, stored: StoredObject | None = None, **conditions: str) -> tuple[str, bytes]:
        """Return ETag and content.

        Args:
            stored: the listed object. If given, the content is requested as stored, and its size is checked if the ETag
                is the listed one.
        """
        if stored is None:
            etag, _, body = self._get_once(key, **conditions)
            return etag, body
        with _as_stored():
            etag, is_encoded, body = self._get_once(key, **conditions)
        if len(body) != stored.size and is_encoded:
            # A proxy may have compressed an uncompressed object.
            etag, _, body = self._get_once(key, **conditions)
        if len(body) != stored.size and etag == stored.etag:
            raise UnusableAnswerError(f"received {len(body)} bytes, but {stored.size} are listed")
        return etag, body

    def _get_once(self, key: str, **conditions: str) -> tuple[str, bool, bytes]:
        """Return the ETag, whether the response has a content encoding, and the bytes received."""
        response = self.client.get_object(Bucket=self.bucket, Key=key, **_payer(self.requester_pays), **conditions)
        try:
            body = response["Body"].read()
        except BotoCoreError as error:
            raise UnusableAnswerError(f"the content was cut off: {error}") from error
        return bare_etag(response.get("ETag") or ""), bool(response.get("ContentEncoding")), body


def _set_accept_encoding(request: Any, **_: Any) -> None:
    """Set the header after signing, because some servers and proxies change it, which would invalidate a signature."""
    request.headers["Accept-Encoding"] = _accept_encoding.get()


@contextmanager
def _as_stored() -> Iterator[None]:
    token = _accept_encoding.set("gzip")
    try:
        yield
    finally:
        _accept_encoding.reset(token)


def _if_match(stored: StoredObject) -> dict[str, str]:
    # Some servers accept only quoted ETags here.
    return {"IfMatch": f'"{stored.etag}"'} if stored.has_etag else {}


def _payer(requester_pays: bool) -> dict[str, str]:
    return {"RequestPayer": "requester"} if requester_pays else {}


def rejects_condition(error: ClientError) -> bool:
    """Return whether a put may have been rejected because of If-None-Match. Only a put without it can tell."""
    names_header = "if-none-match" in str(error.response.get("Error")).lower()
    return status(error) == 501 or code(error) == "NotImplemented" or (status(error) == 400 and names_header)
