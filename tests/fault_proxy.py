"""An HTTP proxy on loopback that fails as it is told, for putting in front of a real server.

``proxy.fault`` is asked about each request and says what goes wrong with it; ``None`` for nothing. The proxy knows only
what S3 clients use: bodies with a length, or chunked.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from tests.server import free_port


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came. path: with its query."""

    method: str
    path: str
    headers: dict[str, str] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of a request.

    status: answered with it, never forwarded. hang_s: the answer is held back so long. is_dropped: the connection is
    closed instead of an answer; with is_forwarded after the server has done it. cut_at: so many bytes of the answer's
    body, then the connection is closed. is_corrupted: one byte of the request's body is another one.
    """

    status: int = 0
    hang_s: float = 0
    is_dropped: bool = False
    is_forwarded: bool = True
    cut_at: int | None = None
    is_corrupted: bool = False


REFUSE_500 = Fault(status=500)
REFUSE_503 = Fault(status=503)
HANG = Fault(hang_s=3600, is_forwarded=False)
LOSE_REQUEST = Fault(is_dropped=True, is_forwarded=False)
LOSE_ANSWER = Fault(is_dropped=True)
Rule = Callable[[Request], Fault | None]


def nothing(request: Request) -> Fault | None:
    return None


class FaultProxy:
    """Forwards to 127.0.0.1:``port``; its own ``port`` stays the same when it goes down and up."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.fault: Rule = nothing
        self.seen: list[Request] = []
        self.released = threading.Event()  # ends what hangs
        self._server: ThreadingHTTPServer | None = None

    def up(self) -> None:
        """Listen."""
        self.released.clear()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and break those there are."""
        self.released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.break_connections()
            self._server = None

    @contextmanager
    def failing(self, rule: Rule | Fault) -> Iterator[None]:
        """This goes wrong in a ``with``; a plain Fault goes for every request."""
        self.fault = rule if callable(rule) else lambda request: rule
        try:
            yield
        finally:
            self.fault = nothing
            self.released.set()
            self.released = threading.Event()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went is no news here."""


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._forward()

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    def _forward(self) -> None:
        body = self._body()
        request = Request(self.command, self.path, dict(self.headers))
        self.proxy.seen.append(request)
        released = self.proxy.released
        fault = self.proxy.fault(request) or Fault()
        if fault.status:
            self._answer(fault.status, [("Content-Length", "0")], b"")
            return
        if fault.is_corrupted and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        answer = self._ask(body) if fault.is_forwarded else None
        if fault.hang_s:
            released.wait(fault.hang_s)
        if fault.is_dropped or answer is None:
            self._break()
            return
        status, headers, content = answer
        if fault.cut_at is None:
            self._answer(status, headers, content)
        else:
            self._answer(status, headers, content[: fault.cut_at])
            self._break()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.server_port, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    upstream.putheader(name, value)  # Host as it came: it is signed
            upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
            kept = [pair for pair in answer.getheaders() if pair[0].lower() not in ("transfer-encoding", "connection")]
            if answer.getheader("Content-Length") is None:
                kept.append(("Content-Length", str(len(content))))
            return answer.status, kept, content
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _break(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def first(times: int, fault: Fault, matching: Callable[[Request], bool] = lambda request: True) -> Rule:
    """The fault for the first so many requests that match."""
    lock = threading.Lock()
    left = times

    def rule(request: Request) -> Fault | None:
        nonlocal left
        with lock:
            if left == 0 or not matching(request):
                return None
            left -= 1
            return fault

    return rule


def for_seconds(seconds: float, fault: Fault) -> Rule:
    """The fault for every request until so many seconds after the first."""
    begin: list[float] = []

    def rule(request: Request) -> Fault | None:
        begin.append(time.monotonic())
        return fault if begin[-1] - begin[0] < seconds else None

    return rule
