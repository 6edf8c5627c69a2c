"""A bucket of S3, with time-outs, retries, and errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tallymark.store import (
    BucketError,
    IsEnough,
    ObjectChangedError,
    StoredObject,
    UnreadableError,
    bare_etag,
    must_be_equal,
)

# No call waits for more than about two minutes: four tries of at most 25 seconds, and the pauses between them.
ATTEMPTS = 4
S3_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": ATTEMPTS})
# A poke waits for about 30 seconds: with its task's retries, a run has failed when S3 has hung for two minutes.
LISTING_CONFIG = S3_CONFIG.merge(Config(read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}))

# S3's code for an object in an archived storage class.
ARCHIVED = "InvalidObjectState"
# 4xx answers that are about the client, the connection or the load, and not about the object.
NOT_ABOUT_THE_OBJECT = {
    "AccountProblem",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)
GOES_ON = "Nothing was lost or taken in part: the next run goes on where this one stopped."

# http.client asks for "identity", and some servers and proxies then unpack objects that are stored packed.
_accept_encoding: ContextVar[str] = ContextVar("_accept_encoding", default="identity")


class UnusableAnswerError(RuntimeError):
    """An answer of S3 is incomplete or contradicts the listing."""


S3_ERRORS = (BotoCoreError, ClientError, ResponseParserError, UnusableAnswerError)


@contextmanager
def explained(action: str, client: Any, bucket: str, aws_conn_id: str | None) -> Iterator[None]:
    """Turn what boto3 raises into a BucketError that says what to do.

    Args:
        action: what is tried, such as ``list input/``.
        aws_conn_id: the Airflow connection of the client, if it has one.
    """
    try:
        yield
    except S3_ERRORS as error:
        raise BucketError(_message(action, client, bucket, error, _advice(error, aws_conn_id))) from error


def _message(action: str, client: Any, bucket: str, error: Exception, advice: str) -> str:
    said = str(error).rstrip(".")
    return f"Could not {action} in bucket {bucket} at {client.meta.endpoint_url}: {said}. {advice}"


def _connection(aws_conn_id: str | None) -> str:
    return f"the Airflow connection {aws_conn_id}" if aws_conn_id else "the credentials of this process"


def _advice(error: Exception, aws_conn_id: str | None) -> str:
    status, connection = _status(error), _connection(aws_conn_id)
    if status in (401, 403) or isinstance(error, NO_CREDENTIALS):
        return f"Check {connection}, and that it has the rights in docs/policies/mechanism-y.json."
    if _code(error) == "NoSuchBucket":
        return "Create the bucket, or name another one in the setting TALLYMARK_BUCKET."
    if status is not None and status < 500:
        return f"Check {connection} and the settings TALLYMARK_BUCKET and TALLYMARK_*_PREFIX."
    return (
        f"S3 is away, or its answers do not arrive whole. {GOES_ON} If it stays so, check endpoint_url and "
        f"region_name of {connection}, and the network."
    )


def _advice_for_object(error: Exception, aws_conn_id: str | None) -> str:
    status = _status(error)
    if _code(error) == ARCHIVED:
        return "Restore the object from its archive."
    if status in (401, 403):
        return f"{_advice(error, aws_conn_id)} An object may also have its own access rule or encryption key."
    if status == 404:
        return "S3 lists the object and does not find it. Put it again, or delete it."
    if _is_definite(error):
        return "S3 does not serve this object as it is stored. Put it again, or delete it."
    return (
        f"If S3 serves other objects, this one is damaged: put it again, or delete it. If not, S3 is away. {GOES_ON} "
        f"If it stays so, check endpoint_url and region_name of {_connection(aws_conn_id)}, and the network."
    )


def _is_definite(error: Exception) -> bool:
    status = _status(error) or 0
    return 400 <= status < 500 and status not in (401, 408, 429) and _code(error) not in NOT_ABOUT_THE_OBJECT


def entries(
    client: Any, bucket: str, prefix: str, after: str = "", is_enough: IsEnough | None = None
) -> Iterator[dict[str, Any]]:
    """Entries of ListObjectsV2 page by page, to the end or to the first page whose keys are enough.

    Each has an ``ETag``; it is empty where the server lists none.

    Raises:
        UnusableAnswerError: when S3 says that there is more and not how to ask for it, or an entry lacks a field.
    """
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, StartAfter=after):
        if page.get("IsTruncated") and not page.get("NextContinuationToken"):
            raise UnusableAnswerError("there is more to the listing, and no token to ask for it with")
        found = page.get("Contents", [])
        for entry in found:
            if missing := [name for name in ("Key", "Size", "LastModified") if name not in entry]:
                raise UnusableAnswerError(f"the listing has no {missing[0]} for {entry.get('Key', 'an object')}")
            yield {"ETag": "", **entry}
        if is_enough and is_enough([entry["Key"] for entry in found]):
            return


def _set_accept_encoding(request: Any, **_: Any) -> None:
    """Set the header after the request is signed: some servers and proxies change it, which breaks a signature."""
    request.headers["Accept-Encoding"] = _accept_encoding.get()


@contextmanager
def _as_stored() -> Iterator[None]:
    token = _accept_encoding.set("gzip")
    try:
        yield
    finally:
        _accept_encoding.reset(token)


@dataclass(frozen=True)
class S3Store:
    """A bucket, through a boto3 S3 client; every method raises BucketError when a call to S3 fails.

    Attributes:
        aws_conn_id: the Airflow connection that the client was made from, to be named in errors.
    """

    client: Any
    bucket: str
    aws_conn_id: str | None = None

    def __post_init__(self) -> None:
        self.client.meta.events.register(
            "before-send.s3.GetObject", _set_accept_encoding, unique_id="tallymark-accept-encoding"
        )

    def _explained(self, action: str) -> Any:
        return explained(action, self.client, self.bucket, self.aws_conn_id)

    def list(self, prefix: str, after: str = "", is_enough: IsEnough | None = None) -> Iterator[StoredObject]:
        with self._explained(f"list {prefix}"):
            yield from map(StoredObject.from_listing, entries(self.client, self.bucket, prefix, after, is_enough))

    def get(self, stored: StoredObject) -> bytes:
        try:
            return self._fetch(stored)
        except S3_ERRORS as error:
            action = f"get {stored.key}"
            if isinstance(error, NO_CREDENTIALS) or _code(error) == "NoSuchBucket":
                advice = _advice(error, self.aws_conn_id)
                raise BucketError(_message(action, self.client, self.bucket, error, advice)) from error
            if _status(error) == 404:
                self._must_be_as_listed(stored)
            advice = _advice_for_object(error, self.aws_conn_id)
            message = _message(action, self.client, self.bucket, error, advice)
            raise UnreadableError(message, _is_definite(error), is_archived=_code(error) == ARCHIVED) from error

    def _fetch(self, stored: StoredObject) -> bytes:
        try:
            etag, body = self._download(stored.key, stored, **_if_match(stored))
        except ClientError as error:
            # A server may tell one ETag in listings and another one for the object itself.
            if _status(error) != 412:
                raise
            etag, body = self._download(stored.key, stored)
        if etag != stored.etag:
            self._must_be_as_listed(stored)
        if len(body) != stored.size:
            raise UnusableAnswerError(f"{len(body)} bytes came instead of the {stored.size} that are listed")
        return body

    def _must_be_as_listed(self, stored: StoredObject) -> None:
        """Raise an ObjectChangedError unless a new listing shows the same object."""
        now = next((found for found in self.list(stored.key) if found.key == stored.key), None)
        if now != stored:
            how = "was deleted" if now is None else "was replaced"
            raise ObjectChangedError(
                f"{stored.key} in bucket {self.bucket} at {self.client.meta.endpoint_url} {how} after it was listed. "
                "Nothing was taken of it; the next listing decides."
            )

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
        must_be_equal(key, existing, body)

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
        retry=retry_if_exception_type(UnusableAnswerError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(max=5),
        reraise=True,
    )
    def _download(self, key: str, stored: StoredObject | None = None, **conditions: str) -> tuple[str, bytes]:
        """Return ETag and content.

        Args:
            stored: as listed, to ask for the content as it is stored; with the same ETag it must have the same size.
        """
        if stored is None:
            etag, _, body = self._get_once(key, **conditions)
            return etag, body
        with _as_stored():
            etag, is_encoded, body = self._get_once(key, **conditions)
        if len(body) != stored.size and is_encoded:
            # A proxy may pack what is stored plain.
            etag, _, body = self._get_once(key, **conditions)
        if len(body) != stored.size and etag == stored.etag:
            raise UnusableAnswerError(f"{len(body)} bytes came instead of the {stored.size} that are listed")
        return etag, body

    def _get_once(self, key: str, **conditions: str) -> tuple[str, bool, bytes]:
        """Return ETag, whether the answer has a content encoding, and the bytes that came."""
        answer = self.client.get_object(Bucket=self.bucket, Key=key, **conditions)
        try:
            body = answer["Body"].read()
        except BotoCoreError as error:
            raise UnusableAnswerError(f"the content broke off: {error}") from error
        return bare_etag(answer.get("ETag") or ""), bool(answer.get("ContentEncoding")), body


def _if_match(stored: StoredObject) -> dict[str, str]:
    # Some servers compare an ETag without quotes with their own in quotes.
    return {"IfMatch": f'"{stored.etag}"'} if stored.has_etag else {}


def _status(error: BaseException | None) -> int | None:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(error, ClientError) else None


def _code(error: BaseException | None) -> str | None:
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
