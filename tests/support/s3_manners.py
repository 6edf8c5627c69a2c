"""Differences between S3-compatible servers, imitated by changing the responses of a correct one."""

import gzip
import re
from abc import ABC, abstractmethod
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

SECONDS_SLOW = 3600


class Answer(NamedTuple):
    """A response from the S3 server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found.lower() == name.lower()), None)

    def with_header(self, name: str, value: str | None) -> "Answer":
        """Return the response with another value for a header, or without the header."""
        kept = [(found, old) for found, old in self.headers if found.lower() != name.lower()]
        return self._replace(headers=kept if value is None else [*kept, (name, value)])

    def without(self, element: bytes) -> "Answer":
        """Return the response without an XML element."""
        return self._replace(body=re.sub(b"<%s>.*?</%s>" % (element, element), b"", self.body))


class Manners(BaseHTTPRequestHandler, ABC):
    """Kinds of ``Fault`` (support.faulty_s3) that are differences between servers, not network faults."""

    @abstractmethod
    def _forward(self, body: bytes) -> Answer:
        """Return the response of the real server to this request."""

    @abstractmethod
    def _send(self, answer: Answer, length: int | None = None) -> None:
        """Send a response to the client; ``length`` is a Content-Length that differs from that of the body."""

    def _send_error(self, status: int, code: str, message: str = "made up by a test") -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self._send(Answer(status, [("Content-Type", "application/xml")], text.encode()))

    def _accepts_gzip(self) -> bool:
        return "gzip" in self.headers.get("Accept-Encoding", "")

    # Compression in transit.

    def _unpacked(self, body: bytes) -> None:
        """Decompress an object stored with Content-Encoding: gzip, unless the client accepts gzip."""
        answer = self._forward(body)
        if answer.header("Content-Encoding") == "gzip" and not self._accepts_gzip():
            answer = answer._replace(body=gzip.decompress(answer.body)).with_header("Content-Encoding", None)
        self._send(answer)

    def _packed(self, body: bytes) -> None:
        """Compress the response if the client accepts gzip, and make its ETag weak."""
        answer = self._forward(body)
        if answer.status == 200 and self._accepts_gzip():
            etag = f"W/{answer.header('ETag')}"
            answer = answer._replace(body=gzip.compress(answer.body)).with_header("Content-Encoding", "gzip")
            answer = answer.with_header("ETag", etag)
        self._send(answer)

    # ETags and listings.

    def _other_etag(self, body: bytes) -> None:
        """Send an object with an ETag that differs from the listing."""
        if self.headers.get("If-Match", '"other"') != '"other"':
            self._send_error(412, "PreconditionFailed")
        else:
            del self.headers["If-Match"]
            self._send(self._forward(body).with_header("ETag", '"other"'))

    def _weak_etag(self, body: bytes) -> None:
        answer = self._forward(body)
        self._send(answer.with_header("ETag", f"W/{answer.header('ETag')}"))

    def _if_match_wants_quotes(self, body: bytes) -> None:
        if re.fullmatch('".*"', self.headers.get("If-Match", '""')):
            self._send(self._forward(body))
        else:
            self._send_error(412, "PreconditionFailed")

    def _ignores_if_match(self, body: bytes) -> None:
        del self.headers["If-Match"]
        self._send(self._forward(body))

    def _no_etag(self, body: bytes) -> None:
        self._send(self._forward(body).with_header("ETag", None).without(b"ETag"))

    def _no_size(self, body: bytes) -> None:
        self._send(self._forward(body).without(b"Size"))

    def _no_time(self, body: bytes) -> None:
        self._send(self._forward(body).without(b"LastModified"))

    def _ignores_start_after(self, body: bytes) -> None:
        self.path = re.sub("start-after=[^&]*", "", self.path)
        self._send(self._forward(body))

    def _same_token(self, body: bytes) -> None:
        """Send pages of a listing that all claim that there is more, with the same continuation token."""
        self.path = re.sub("continuation-token=[^&]*", "", self.path)
        more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>"
        answer = self._forward(body).without(b"IsTruncated").without(b"NextContinuationToken")
        self._send(answer._replace(body=answer.body.replace(b"</ListBucketResult>", more + b"</ListBucketResult>")))

    def _html(self, body: bytes) -> None:
        """Send an HTML page, like a web server or a network that requires a login."""
        self._send(Answer(200, [("Content-Type", "text/html")], b"<html><body><p>Welcome</p></body></html>"))

    # Puts.

    def _no_conditional_put(self, body: bytes) -> None:
        if self.headers.get("If-None-Match"):
            self._send_error(
                501, "NotImplemented", "A header you provided implies functionality that is not implemented"
            )
        else:
            self._send(self._forward(body))

    def _no_conditional_put_400(self, body: bytes) -> None:
        if self.headers.get("If-None-Match"):
            self._send_error(400, "InvalidArgument", "Unsupported header 'If-None-Match' received for this API call.")
        else:
            self._send(self._forward(body))

    def _ignores_if_none_match(self, body: bytes) -> None:
        del self.headers["If-None-Match"]
        self._send(self._forward(body))

    def _no_checksums(self, body: bytes) -> None:
        named = [name for name in self.headers if re.match("x-amz-(sdk-)?checksum", name.lower())]
        if named:
            self._send_error(400, "InvalidArgument", f"Unsupported header '{named[0]}' received for this API call.")
        else:
            self._send(self._forward(body))

    def _wants_md5(self, body: bytes) -> None:
        """Require a Content-MD5, like a bucket with object lock."""
        if self.headers.get("Content-MD5"):
            self._send(self._forward(body))
        else:
            self._send_error(400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required")

    def _wants_aes256(self, body: bytes) -> None:
        self._wants("x-amz-server-side-encryption", "AES256", body)

    def _wants_kms(self, body: bytes) -> None:
        self._wants("x-amz-server-side-encryption", "aws:kms", body)

    def _wants_payer(self, body: bytes) -> None:
        self._wants("x-amz-request-payer", "requester", body)

    def _wants(self, header: str, value: str, body: bytes) -> None:
        if self.headers.get(header) == value:
            self._send(self._forward(body))
        else:
            self._send_error(403, "AccessDenied", "Access Denied")

    def _forgets_put(self, body: bytes) -> None:
        self._send(Answer(200, [("ETag", '"0"')], b""))

    # Clocks.

    def _slow_clock(self, body: bytes) -> None:
        answer = self._forward(body)
        now = parsedate_to_datetime(answer.header("Date")).timestamp()
        self._send(answer.with_header("Date", formatdate(now - SECONDS_SLOW, usegmt=True)))
