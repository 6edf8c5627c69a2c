"""A bucket of S3, with time-outs, retries, and errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tallymark.store import BucketError, IsEnough, ObjectChangedError, UnreadableError, StoredObject, must_be_equal

# No call waits for more than about two minutes: four tries of at most 25 seconds, and the pauses between them.
ATTEMPTS = 4
S3_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": ATTEMPTS})
# A poke waits for about 30 seconds: with its task's retries, a run has failed when S3 has hung for two minutes.
LISTING_CONFIG = S3_CONFIG.merge(Config(read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}))

# What S3 says of an object in an archived storage class.
ARCHIVED = "InvalidObjectState"


class CutShortError(RuntimeError):
    """An answer of S3 ended before its end."""


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
                raise UnreadableError(str(error), _code(error.__cause__) == ARCHIVED) from error.__cause__
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
