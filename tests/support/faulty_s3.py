"""A proxy between the pipeline and an S3 server that spoils some of the responses."""

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer

from support.s3_manners import Answer, Manners


@dataclass
class Fault:
    """A fault to inject.

    Attributes:
        kind: a method of ``_Handler`` or ``Manners`` without its underscore, or ``answer_<status>_<code>``.
        requests: regular expression for ``<method> <path and query>``.
        times: number of matching requests that the fault affects, from the first one on.
    """

    kind: str
    requests: str = ".*"
    times: float = float("inf")


@dataclass
class FaultyS3:
    """The running proxy. Set ``faults`` at any time; ``done`` lists the kinds of injected faults.

    ``choose``, if set, is called first for each request, and returns the kind of a fault or None.
    """

    url: str
    upstream: tuple[str, int]
    faults: list[Fault] = field(default_factory=list)
    choose: Callable[[str], str | None] | None = None
    done: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def next_fault(self, request: str) -> str | None:
        """Return the kind of fault to inject for this request, or None."""
        with self.lock:
            self.requests.append(request)
            if self.choose and (kind := self.choose(request)):
                self.done.append(kind)
                return kind
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.requests, request):
                    fault.times -= 1
                    self.done.append(fault.kind)
                    return fault.kind
        return None


class _Handler(Manners):
    protocol_version = "HTTP/1.1"
    faulty: FaultyS3

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.faulty.next_fault(f"{self.command} {self.path}")
        if answer := re.fullmatch(r"answer_(\d+)_(\w+)", kind or ""):
            self._send_error(int(answer[1]), answer[2])
        else:
            getattr(self, f"_{kind or 'pass_on'}")(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any

    def _forward(self, body: bytes) -> Answer:
        server = http.client.HTTPConnection(*self.faulty.upstream, timeout=30)
        try:
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            server.close()

    def _send(self, answer: Answer, length: int | None = None) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _pass_on(self, body: bytes) -> None:
        self._send(self._forward(body))

    def _error_500(self, body: bytes) -> None:
        self._send_error(500, "InternalError")

    def _error_503(self, body: bytes) -> None:
        self._send_error(503, "SlowDown")

    def _denied_403(self, body: bytes) -> None:
        self._send_error(403, "AccessDenied")

    def _archived_403(self, body: bytes) -> None:
        self._send_error(403, "InvalidObjectState")

    def _missing_404(self, body: bytes) -> None:
        self._send_error(404, "NoSuchKey")

    def _reset(self, body: bytes) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _reset_when_done(self, body: bytes) -> None:
        """Carry out the request, and reset the connection instead of answering."""
        self._forward(body)
        self._reset(body)

    def _hang(self, body: bytes) -> None:
        self.faulty.closing.wait(60)
        self.close_connection = True

    def _cut(self, body: bytes) -> None:
        """Send half of the content, then close the connection."""
        answer = self._forward(body)
        self._send(answer._replace(body=answer.body[: len(answer.body) // 2]), len(answer.body))
        self.close_connection = True

    def _shortened(self, body: bytes) -> None:
        """Send half of the content with headers that claim it is complete, like a server without checksums."""
        answer = self._forward(body)
        headers = [(name, value) for name, value in answer.headers if "checksum" not in name.lower()]
        self._send(Answer(answer.status, headers, answer.body[: len(answer.body) // 2]))

    def _truncated_listing(self, body: bytes) -> None:
        """Send the first half of a listing, which claims that there is more but has no continuation token."""
        answer = self._forward(body)
        entries = re.findall(b"<Contents>.*?</Contents>", answer.body, re.S)
        text = answer.body
        for entry in entries[len(entries) // 2 :]:
            text = text.replace(entry, b"", 1)
        text = re.sub(b"<IsTruncated>.*?</IsTruncated>", b"", text)
        text = text.replace(b"</ListBucketResult>", b"<IsTruncated>true</IsTruncated></ListBucketResult>")
        self._send(answer._replace(body=text))

    def _lacks_objects(self, body: bytes) -> None:
        """Send a listing that silently lacks the second half of its objects."""
        answer = self._forward(body)
        entries = re.findall(b"<Contents>.*?</Contents>", answer.body, re.S)
        text = answer.body
        for entry in entries[len(entries) // 2 :]:
            text = text.replace(entry, b"", 1)
        self._send(answer._replace(body=text))

    def log_message(self, *_) -> None:
        pass


@contextmanager
def faulty_s3(upstream_port: int) -> Iterator[FaultyS3]:
    """Run a proxy on a free port of 127.0.0.1, in threads of this process."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        handler.faulty = FaultyS3(f"http://127.0.0.1:{server.server_port}", ("127.0.0.1", upstream_port))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield handler.faulty
        finally:
            handler.faulty.closing.set()
            server.shutdown()
            thread.join()
