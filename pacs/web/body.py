"""The body of an answer as threads take it from the archive and hand it to the loop, or to the socket itself."""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Self

from aiohttp import web

from pacs.services.file_span import FileSpan, OpenSpan, Piece

# One batch is being sent while the next is read: two of these per download is all the memory it takes.
_BATCH_BYTES = 1 << 20
_BATCH_PIECES = 64
# How long a thread waits for a client that keeps up, and how long it stays with one before others have their turn.
_PATIENCE_MS = 5
_TURN_S = 0.1


class Pushed(Enum):
    """How far a socket has got: all is sent, it takes nothing now, or another turn is due."""

    ALL = 1
    FULL = 2
    PART = 3


class Body:
    """Pieces from a blocking iterator. All methods block; one thread at a time.

    has_files: one of the pieces taken so far is part of a file.
    """

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._held: deque[bytes | memoryview | OpenSpan] = deque()
        self.has_files = False
        self._is_ended = False
        self._is_cached = False

    @property
    def is_at_hand(self) -> bool:
        """Whether all of the rest is in memory, so that ``batch`` does not block."""
        return self._is_ended and not any(isinstance(piece, OpenSpan) for piece in self._held)

    @property
    def is_over(self) -> bool:
        """Whether everything has been taken."""
        return self._is_ended and not self._held

    def begin(self) -> Self:
        """Take the first pieces, so that what is wrong with them is known: up to a file, which is opened."""
        while not self.has_files and len(self._held) < _BATCH_PIECES and self._take():
            if sum(len(piece) for piece in self._held if isinstance(piece, bytes)) >= _BATCH_BYTES:
                break
        return self

    def begin_all(self) -> Self:
        """``begin``, and take all of the pieces, which are few."""
        while len(self._held) < _BATCH_PIECES and self._take():
            pass
        files = [piece for piece in self._held if isinstance(piece, OpenSpan)]
        self._is_cached = sum(file.left for file in files) <= _BATCH_BYTES and all(file.is_cached() for file in files)
        return self

    @property
    def is_ready(self) -> bool:
        """Whether all of it can be sent without waiting for a disk or the iterator, and is not much."""
        return self._is_ended and self._is_cached

    def batch(self) -> list[bytes | memoryview]:
        """The next bytes, about a MiB; empty at the end."""
        batch: list[bytes | memoryview] = []
        size = 0
        while size < _BATCH_BYTES and len(batch) < _BATCH_PIECES and self._has_next():
            first = self._held[0]
            piece = first.read(_BATCH_BYTES) if isinstance(first, OpenSpan) else first
            if not isinstance(first, OpenSpan) or not first.left:
                self._held.popleft()
            batch.append(piece)
            size += len(piece)
        return batch

    def push(self, client: socket.socket, patience_ms: int = _PATIENCE_MS) -> Pushed:
        """Send to a socket that does not block. patience_ms: how long a client that takes nothing is waited for.

        Raises ConnectionError when the client is gone.
        """
        until = time.monotonic() + _TURN_S
        while self._has_next():
            first = self._held[0]
            try:
                if isinstance(first, OpenSpan):
                    first.push(client.fileno())
                    is_done = not first.left
                else:
                    is_done = self._push_bytes(client, first)
            except BlockingIOError:
                if not (patience_ms and _takes_more(client, patience_ms)):
                    return Pushed.FULL
                continue
            if is_done:
                self._held.popleft()
            if time.monotonic() > until:
                return Pushed.PART
        return Pushed.ALL

    def close(self) -> None:
        """Of the iterator too."""
        for piece in self._held:
            if isinstance(piece, OpenSpan):
                piece.close()
        self._held.clear()
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()

    def _push_bytes(self, client: socket.socket, data: bytes | memoryview) -> bool:
        if len(self._held) == 1 and not self._is_ended:
            self._take()
        # A part's header and the file after it leave in the same packet.
        sent = client.send(data, 0 if len(self._held) == 1 else getattr(socket, "MSG_MORE", 0))
        if sent < len(data):
            self._held[0] = memoryview(data)[sent:]
        return sent == len(data)

    def _has_next(self) -> bool:
        while not self._held:
            if self._is_ended or not self._take():
                return False
        return True

    def _take(self) -> bool:
        """One more piece, unless it is empty; False when there are no more."""
        piece = next(self._pieces, None)
        if piece is None:
            self._is_ended = True
            return False
        if isinstance(piece, FileSpan):
            self.has_files = True
            if piece:
                self._held.append(piece.open())
        elif piece:
            self._held.append(piece)
        return True


def socket_of(request: web.Request, response: web.StreamResponse) -> socket.socket | None:
    """The client's socket a second time, to be closed; None where bytes cannot go there as they are.

    A second time: the number of the first may be another client's as soon as this one is gone.
    """
    transport = request.transport
    if transport is None or not hasattr(os, "sendfile") or response.content_length is None or response.compression:
        return None
    if isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject | ssl.SSLSocket):
        return None
    found = transport.get_extra_info("socket")
    if found is None or found.fileno() < 0:
        return None
    client = socket.socket(fileno=os.dup(found.fileno()))
    client.setblocking(False)
    return client


def _takes_more(client: socket.socket, patience_ms: int) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLOUT)
    return bool(poll.poll(patience_ms))
