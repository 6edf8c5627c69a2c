"""Explanations of failed calls to S3: what happened, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PaginationError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from tallymark.store import BucketError

# S3's code for an object in an archived storage class.
ARCHIVED = "InvalidObjectState"
# Codes of 4xx responses that are about the client, the connection or the server's load, not about the object.
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
CONTINUES = "No data was lost or partly loaded. The next run continues where this one stopped."


class UnusableAnswerError(RuntimeError):
    """A response is incomplete or contradicts another one. A retry may help."""


class UnsupportedServerError(RuntimeError):
    """The server does not behave like S3. A retry does not help."""


S3_ERRORS = (BotoCoreError, ClientError, ResponseParserError, UnusableAnswerError, UnsupportedServerError)


@contextmanager
def explained(
    action: str, client: Any, bucket: str, aws_conn_id: str | None, when_denied: str | None = None
) -> Iterator[None]:
    """Convert errors of boto3 into a BucketError that says what to do.

    Args:
        action: what the code does, such as ``list input/``.
        aws_conn_id: the Airflow connection of the client, if it has one.
        when_denied: additional advice for a 403 response.
    """
    try:
        yield
    except S3_ERRORS as error:
        advice = _advice(error, _connection(aws_conn_id), when_denied)
        raise BucketError(_message(action, client, bucket, error, advice)) from error


def explain_get(key: str, client: Any, bucket: str, aws_conn_id: str | None, error: Exception) -> str:
    """Return the message of an UnreadableError; ``error`` is one of S3_ERRORS."""
    advice = _advice_for_object(error, _connection(aws_conn_id))
    return _message(f"get {key}", client, bucket, error, advice)


def is_about_bucket(error: Exception) -> bool:
    """Return whether the error affects the whole bucket: credentials or the bucket are missing."""
    return isinstance(error, NO_CREDENTIALS) or code(error) == "NoSuchBucket"


def is_definite(error: Exception) -> bool:
    """Return whether the error is about the object itself; see UnreadableError."""
    answer = status(error) or 0
    return 400 <= answer < 500 and answer not in (401, 408, 429) and code(error) not in NOT_ABOUT_THE_OBJECT


def status(error: BaseException | None) -> int | None:
    """Return the HTTP status of S3's response, if there was one."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(error, ClientError) else None


def code(error: BaseException | None) -> str | None:
    """Return S3's error code, such as ``AccessDenied``, if there was a response."""
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None


def _message(action: str, client: Any, bucket: str, error: Exception, advice: str) -> str:
    reason = str(error).rstrip(".")
    return f"Could not {action} in bucket {bucket} at {client.meta.endpoint_url}: {reason}. {advice}"


def _connection(aws_conn_id: str | None) -> str:
    return f"the Airflow connection {aws_conn_id}" if aws_conn_id else "the AWS configuration of this process"


def _advice(error: Exception, connection: str, when_denied: str | None = None) -> str:
    if code(error) == "RequestTimeTooSkewed":
        return "Set the clock of this machine, with NTP: S3 rejects requests that are more than 15 minutes off."
    if status(error) in (401, 403) or isinstance(error, NO_CREDENTIALS):
        permissions = f"Check {connection}, and that it has the permissions in docs/policies/mechanism-y.json."
        return f"{permissions} {when_denied}" if when_denied and status(error) == 403 else permissions
    if code(error) == "NoSuchBucket":
        return "Create the bucket, or set TALLYMARK_BUCKET to another one."
    if isinstance(error, SSLError):
        return f"Check the server's certificate, and the verify option of {connection}."
    if isinstance(error, ProxyConnectionError):
        return "Check the environment variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
    if isinstance(error, UnsupportedServerError | PaginationError | ResponseParserError) or status(error) == 501:
        return (
            f"The server does not behave like S3. Check endpoint_url of {connection}. docs/s3-stores.md lists what a "
            "server must support, and make doctor checks it."
        )
    if _may_be_outage(error):
        return f"S3 is unreachable, or its responses were cut off. {_if_it_persists(connection)}"
    return f"Check {connection} and the settings TALLYMARK_BUCKET and TALLYMARK_*_PREFIX, or run make doctor."


def _advice_for_object(error: Exception, connection: str) -> str:
    if code(error) == ARCHIVED:
        return "Restore the object from its archive."
    if status(error) == 403:
        return _advice(error, connection, "The object may also have its own access rules or encryption key.")
    if status(error) == 404:
        return "S3 lists the object but does not find it. Put it again, or delete it."
    if is_definite(error):
        return "S3 does not serve the object as stored. Put it again, or delete it."
    if _may_be_outage(error):
        return (
            "If S3 serves other objects, this one is damaged: put it again, or delete it. "
            f"Otherwise, S3 is unreachable. {_if_it_persists(connection)}"
        )
    return _advice(error, connection)


def _if_it_persists(connection: str) -> str:
    return f"{CONTINUES} If this persists, check endpoint_url and region_name of {connection}, and the network."


def _may_be_outage(error: Exception) -> bool:
    answer = status(error)
    if answer is not None:
        return answer >= 500 or answer in (408, 429) or code(error) == "RequestTimeout"
    return isinstance(error, HTTPClientError | ConnectionError | UnusableAnswerError)
