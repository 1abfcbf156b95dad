"""Listening sockets, and the thread that accepts on one.

Worker processes share one socket instead of having one each by SO_REUSEPORT. There the kernel throws dice: of eight
associations two workers get five and three, or worse, three times out of four; and what waits at a worker that dies is
lost. Processes that block in accept() on the same socket are woken in turn.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pacs.errors import Invalid

log = logging.getLogger(__name__)

# How soon a thread notices that it should stop; closing a socket that others use too would not wake it.
_LOOK_UP_S = 0.2


def listen(host: str, port: int, backlog: int, *, what: str, host_setting: str, port_setting: str) -> socket.socket:
    """A listening TCP socket. what: for messages, such as "DIMSE". Raises Invalid naming the setting that is wrong."""
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Invalid(f"{what} port {port} of {host} is taken", port_setting) from error
        reason = error.strerror or os.strerror(error.errno or errno.EIO)
        raise Invalid(f"{what} cannot listen on {host} port {port}: {reason}", host_setting) from error


class Accepting:
    """A thread that gives every connection to ``serve`` until ``stop``.

    listener: blocking; it is closed in the end. shared: other processes accept on it too, and go on when this one
    stops.
    """

    def __init__(
        self,
        listener: socket.socket,
        serve: Callable[[socket.socket, str], None],
        *,
        name: str,
        shared: bool = False,
    ) -> None:
        self._listener = listener
        self._serve = serve
        self._shared = shared
        self._stopping = False
        if shared:
            _limit_waiting(listener, _LOOK_UP_S)
        self._thread = threading.Thread(target=self._accept_all, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accept no more. Idempotent."""
        self._stopping = True
        if not self._shared:
            # Closing alone would not wake the thread that is in accept().
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept_all(self) -> None:
        while not self._stopping:
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:  # nobody came within the time
                continue
            except OSError as error:
                if not self._stopping:
                    # Out of file descriptors, or the peer was gone before we came: the next may succeed.
                    log.warning("connection not accepted reason=%s", error.strerror)
                    time.sleep(0.1)
                continue
            if self._shared:
                _limit_waiting(connection, 0)  # inherited
            self._serve(connection, f"{address[0]}:{address[1]}")


def _limit_waiting(connection: socket.socket, seconds: float) -> None:
    """Python's own timeout would make the socket non-blocking, and then every process wakes for each connection."""
    whole = int(seconds)
    value = struct.pack("@ll", whole, int((seconds - whole) * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
