"""One TCP connection, read and written as DICOM Upper Layer PDUs (PS3.8 9.3).

A blocking socket and one buffer: what arrives is handed on as views of that buffer, so an object of any size passes
through it, and a peer that sends faster than the disk writes is slowed down by TCP itself.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Protocol

BUFFER_BYTES = 256 * 1024
CONTROL_PDU_LIMIT = 1024 * 1024  # A-ASSOCIATE-RQ with 128 contexts of 40 transfer syntaxes takes half of it


class PduType(IntEnum):
    """PS3.8 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class AbortReason(IntEnum):
    """Of the service provider, PS3.8 Table 9-26."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_VALUE = 6


class ProtocolError(Exception):
    """The peer broke the protocol: the association is aborted with ``reason``."""

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_VALUE) -> None:
        super().__init__(message)
        self.reason = reason


class Closed(Exception):
    """The connection is of no more use: closed, reset, silent for too long, or aborted by the peer."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """associating_s: for an A-ASSOCIATE-RQ to arrive as a whole (the ARTIM timer, PS3.8 9.1.4), and for its answer.

    message_s: silence of a peer in the middle of a message, or before its response. idle_s: silence between two
    requests; None for ever.
    """

    associating_s: float = 30.0
    message_s: float = 60.0
    idle_s: float | None = None


class Wakes(Protocol):
    """Something with a descriptor that becomes readable."""

    def fileno(self) -> int: ...


class Wire:
    """Used by one thread; ``shut_reading`` and ``shut`` may come from another.

    timeout_s: how long the peer may keep us waiting in the middle of something.
    """

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        self._socket = connection
        self._is_tls = isinstance(connection, ssl.SSLSocket)
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = 0
        self._end = 0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self.deadline: float | None = None
        self.sent_bytes = 0
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Associations may rest for days; keepalive finds out about peers that vanished without a word.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self.set_timeout(timeout_s)

    def set_timeout(self, timeout_s: float) -> None:
        if self._is_tls:
            # Python goes round and round when the kernel gives up on a socket of ssl's.
            self._socket.settimeout(timeout_s)
            return
        # The kernel's timeouts, not Python's: those cost a poll() before every recv() and send().
        self._socket.settimeout(None)
        whole = int(timeout_s)
        value = Struct("ll").pack(whole, int((timeout_s - whole) * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def shake_hands(self) -> None:
        """The TLS handshake, as a whole within the timeout; nothing where there is no TLS. Raises Closed."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return
        try:
            self._socket.do_handshake()
        except OSError as err:
            raise Closed(f"TLS handshake failed: {reason_of(err)}") from None

    # -- reading ---------------------------------------------------------------------------------------------------

    def wait(self, idle_s: float | None) -> None:
        """Return when something has arrived. Raises Closed when nothing does for idle_s (None: for ever)."""
        began = time.monotonic()
        while self._start == self._end:
            try:
                self._fill()
            except _TimedOut:
                if idle_s is not None and time.monotonic() - began >= idle_s:
                    raise Closed("idle for too long") from None

    def wait_or_wake(self, wake: Wakes | None, timeout_s: float | None) -> bool:
        """Whether something has arrived; False when ``wake`` was signalled before, or timeout_s is over.

        Raises Closed.
        """
        if self._has_arrived():
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if wake is not None:
            poll.register(wake.fileno(), select.POLLIN)
        poll.poll(None if timeout_s is None else math.ceil(timeout_s * 1000))
        return self._has_arrived()

    def arrived_kind(self) -> int | None:
        """The first byte that has arrived and was not read: between two PDUs, the next one's type. Raises Closed."""
        return self._buffer[self._start] if self._has_arrived() else None

    def header(self) -> tuple[int, int]:
        """Type and length of the next PDU. Raises ProtocolError for a type that does not exist."""
        kind, _, length = _PDU_HEADER.unpack(self._take(6))
        if not 1 <= kind <= 7:
            raise ProtocolError(f"PDU of unknown type {kind}", AbortReason.UNRECOGNIZED_PDU)
        return kind, length

    def payload(self, length: int) -> bytes:
        """The rest of a PDU that is not P-DATA. Raises ProtocolError when it is longer than any such PDU can be."""
        if length > CONTROL_PDU_LIMIT:
            raise ProtocolError(f"PDU of {length} bytes")
        return b"".join(bytes(view) for view in self.stream(length))

    def pdv_header(self) -> tuple[int, int, int]:
        """Length of the fragment, context ID and message control header (PS3.8 9.3.5.1 and E.2)."""
        length, context_id, control = _PDV_HEADER.unpack(self._take(6))
        return length - 2, context_id, control

    def stream(self, length: int) -> Iterator[memoryview]:
        """The next bytes as they come. Each view is valid until the next is asked for."""
        while length > 0:
            if self._start == self._end:
                self._wait_within_timeout()
            size = min(length, self._end - self._start)
            view = self._buffer[self._start : self._start + size]
            self._start += size
            length -= size
            yield view

    def is_readable(self) -> bool:
        """Whether something has arrived that was not read yet (the end of the connection included)."""
        if self._start != self._end:
            return True
        if self._is_tls:
            return self._is_decrypted()
        return bool(self._poll.poll(0))

    def _has_arrived(self) -> bool:
        if self.is_readable() and self._start == self._end:
            with contextlib.suppress(_TimedOut):
                self._fill()
        return self._start != self._end

    def _is_decrypted(self) -> bool:
        """What arrives may be half a record, or TLS talking of itself: only reading tells."""
        timeout_s = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            self._fill()
        except _TimedOut:
            return False
        finally:
            self._socket.settimeout(timeout_s)
        return True

    def _take(self, size: int) -> memoryview:
        while self._end - self._start < size:
            self._wait_within_timeout()
        view = self._buffer[self._start : self._start + size]
        self._start += size
        return view

    def _wait_within_timeout(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Closed("no answer in time")
        try:
            self._fill()
        except _TimedOut:
            raise Closed("no answer in time") from None

    def _fill(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == BUFFER_BYTES:
            left = self._end - self._start
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        try:
            size = self._socket.recv_into(self._buffer[self._end :])
        except (BlockingIOError, ssl.SSLWantReadError):
            raise _TimedOut from None
        except OSError as err:
            if isinstance(err, TimeoutError) and err.errno is None:  # Python's own; the kernel's is a peer that is gone
                raise _TimedOut from None
            raise Closed(reason_of(err)) from None
        if size == 0:
            raise Closed("connection closed")
        self._end += size

    # -- writing ---------------------------------------------------------------------------------------------------

    def send(self, *parts: bytes | memoryview) -> None:
        """Write all parts. Raises Closed when the peer is gone or does not read."""
        for part in parts:
            self.sent_bytes += len(part)
        try:
            if self._is_tls or len(parts) == 1:
                self._socket.sendall(parts[0] if len(parts) == 1 else b"".join(parts))
                return
            self._send_gathered(parts)
        except (BlockingIOError, ssl.SSLWantWriteError):
            raise Closed("the peer does not read") from None
        except OSError as err:
            is_slow = isinstance(err, TimeoutError) and err.errno is None
            raise Closed("the peer does not read" if is_slow else reason_of(err)) from None

    def _send_gathered(self, parts: Iterable[bytes | memoryview]) -> None:
        pending = [memoryview(part) for part in parts]
        while pending:
            sent = self._socket.sendmsg(pending)
            while pending and sent >= len(pending[0]):
                sent -= len(pending.pop(0))
            if pending:
                pending[0] = pending[0][sent:]

    # -- ending ----------------------------------------------------------------------------------------------------

    def abort(self, source: int, reason: AbortReason) -> None:
        """Tell the peer (A-ABORT; source 0: service user, 2: service provider), if it still listens."""
        with contextlib.suppress(Closed):
            self.send(_PDU_HEADER.pack(PduType.ABORT, 0, 4) + bytes((0, 0, source, reason)))

    def shut_reading(self) -> None:
        self._shut(socket.SHUT_RD)

    def shut(self) -> None:
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):
            # The connection's, not ssl's, which would go on in plain text.
            socket.socket.shutdown(self._socket, how)

    def close(self, linger_s: float = 0.0) -> None:
        """Close; linger_s: how long to wait for the peer to close first.

        Closing while unread bytes are waiting resets the connection, and the peer would lose our last PDU.
        """
        if linger_s:
            until = time.monotonic() + linger_s
            self.set_timeout(linger_s)
            if isinstance(self._socket, ssl.SSLSocket):
                with contextlib.suppress(OSError, ValueError):
                    self._socket.unwrap()
            with contextlib.suppress(OSError):
                self._shut(socket.SHUT_WR)
                while time.monotonic() < until and self._socket.recv_into(self._buffer):
                    pass
        self._socket.close()


class _TimedOut(Exception):
    pass


def reason_of(error: OSError) -> str:
    """For people: what went wrong with a connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error) or "connection lost"


_PDU_HEADER = Struct(">BBL")
_PDV_HEADER = Struct(">LBB")
