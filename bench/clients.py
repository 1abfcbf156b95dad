"""The clients, the same for every archive: HTTP on plain sockets, which costs next to nothing, and DCMTK's tools."""

from __future__ import annotations

import selectors
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.peers import Peer, plain_environment

_BUFFER_BYTES = 1 << 20
_TIMEOUT_S = 300
_TAIL_BYTES = 8


@dataclass(frozen=True)
class Answer:
    """size: bytes of the body, without the framing of chunks. tail: its last. body: empty where it was not kept."""

    status: int
    size: int
    body: bytes
    tail: bytes


class Connection:
    """One kept HTTP/1.1 connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._space = memoryview(bytearray(_BUFFER_BYTES))
        self._reader = _Reader(is_kept=True)

    def ask(
        self, method: str, path: str, accept: str, *, kind: str = "", body: bytes = b"", is_kept: bool = True
    ) -> Answer:
        self.send(method, path, accept, kind=kind, body=body, is_kept=is_kept)
        while (answer := self.receive()) is None:
            pass
        return answer

    def send(
        self, method: str, path: str, accept: str, *, kind: str = "", body: bytes = b"", is_kept: bool = True
    ) -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n"
        if method == "POST":
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        self._reader = _Reader(is_kept)
        self._socket.sendall(f"{head}\r\n".encode())
        if body:
            self._socket.sendall(body)

    def receive(self) -> Answer | None:
        """What one read brings; None while the answer is not whole."""
        size = self._socket.recv_into(self._space)
        return self._reader.feed(self._space[:size]) if size else self._reader.end()

    def fileno(self) -> int:
        return self._socket.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self._socket.close()


class _Reader:
    """One response as it comes in."""

    def __init__(self, is_kept: bool) -> None:
        self._is_kept = is_kept
        self._head: bytearray | None = bytearray()
        self._line = bytearray()  # the size of a chunk, or what stands between two
        self._body = bytearray()
        self._tail = b""
        self._is_chunked = False
        self._ends_with_connection = False
        self._left = 0
        self._size = 0
        self._status = 0

    def feed(self, data: memoryview) -> Answer | None:
        if self._head is not None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return None
            data = memoryview(bytes(self._head[end + 4 :]))
            self._take_head(bytes(self._head[:end]).lower().split(b"\r\n"))
            self._head = None
        is_whole = self._chunks(data) if self._is_chunked else self._plain(data)
        return self._answer() if is_whole else None

    def end(self) -> Answer:
        """The connection was closed, which ends an answer that says nothing of its length."""
        if self._head is not None or not self._ends_with_connection:
            raise ConnectionError("the connection was closed before the answer was whole")
        return self._answer()

    def _answer(self) -> Answer:
        return Answer(self._status, self._size, bytes(self._body), self._tail)

    def _take_head(self, lines: list[bytes]) -> None:
        self._status = int(lines[0].split()[1])
        headers = dict(line.split(b":", 1) for line in lines[1:])
        self._is_chunked = b"chunked" in headers.get(b"transfer-encoding", b"")
        if self._is_chunked or self._status == 204:
            return
        self._ends_with_connection = b"content-length" not in headers
        self._left = int(headers.get(b"content-length", 0))

    def _plain(self, data: memoryview) -> bool:
        self._take(data)
        return self._left == 0 and not self._ends_with_connection

    def _chunks(self, data: memoryview) -> bool:
        while data:
            if self._left:
                part = data[: self._left]
                self._take(part)
                data = data[len(part) :]
                continue
            # Lines are short; each ends in CR LF, and an empty one follows every chunk.
            window = bytes(data[:32])
            end = window.find(b"\n")
            self._line += window if end < 0 else window[: end + 1]
            data = data[len(window) if end < 0 else end + 1 :]
            if end < 0:
                continue
            text = bytes(self._line).strip()
            self._line.clear()
            if text == b"0":
                return True
            if text:
                self._left = int(text.split(b";")[0], 16)
        return False

    def _take(self, data: memoryview) -> None:
        self._size += len(data)
        self._left -= len(data)
        self._tail = (self._tail + bytes(data[-_TAIL_BYTES:]))[-_TAIL_BYTES:]
        if self._is_kept:
            self._body += data


def all_at_once(port: int, paths: Sequence[str], accept: str, at_once: int) -> tuple[float, list[Answer]]:
    """Seconds for all GETs over ``at_once`` kept connections, by one thread; answers without bodies."""
    waiting = list(reversed(paths))
    answers: list[Answer] = []
    with ExitStack() as opened, selectors.DefaultSelector() as selector:
        connections = [opened.enter_context(Connection(port)) for _ in range(at_once)]
        began = time.perf_counter()
        for connection in connections[: len(paths)]:
            selector.register(connection, selectors.EVENT_READ)
            connection.send("GET", waiting.pop(), accept, is_kept=False)
        while len(answers) < len(paths):
            for key, _ in selector.select():
                ready = key.fileobj
                assert isinstance(ready, Connection)
                answer = ready.receive()
                if answer is not None:
                    answers.append(answer)
                    if waiting:
                        ready.send("GET", waiting.pop(), accept, is_kept=False)
        return time.perf_counter() - began, answers


class Tool:
    """One of DCMTK's, by its full path: pynetdicom installs commands of the same names."""

    def __init__(self, name: str, *arguments: str) -> None:
        self._name = name
        self._process = subprocess.Popen(
            [f"/usr/bin/{name}", *arguments],
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def wait(self) -> str:
        """What it printed. Raises AssertionError when it failed."""
        output, _ = self._process.communicate()
        code = self._process.returncode
        assert code == 0, f"{self._name} ended with {code} {output[-1000:]}"
        return output


def storescu(peer: Peer, *folders: Path) -> None:
    """Send folders, each by a storescu of its own, all at once."""
    # Without -nh it stops, with an exit code, at the first instance that is not stored.
    address = ["-aec", peer.ae_title, "127.0.0.1", str(peer.dimse_port)]
    senders = [Tool("storescu", "+sd", *address, str(folder)) for folder in folders]
    for sender in senders:
        sender.wait()


def asked(tool: str, peer: Peer, *arguments: str) -> tuple[float, str]:
    """Seconds of findscu, movescu or getscu, its start included, and what it printed."""
    began = time.perf_counter()
    output = Tool(tool, "-v", "-S", "-aec", peer.ae_title, *arguments, "127.0.0.1", str(peer.dimse_port)).wait()
    return time.perf_counter() - began, output
