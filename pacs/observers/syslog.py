"""Audit messages to a syslog server: RFC 5424 over UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425); PS3.15 A.6, A.7.

Messages wait as jobs, so that those of an outage arrive when it is over. TCP does not say what the server has read:
what was on its way when a connection broke may be lost, or come twice.
"""

from __future__ import annotations

import os
import socket
import ssl
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import orjson

from pacs.errors import Invalid
from pacs.index.work import Job, NewJob, Work
from pacs.services.jobs import Ended, Handler, Unavailable
from pacs.syslog_address import SyslogAddress

SYSLOG = "audit-syslog"
_PRIORITY = 10 * 8 + 5  # security messages, notice
_BATCH = 200
_TIMEOUT_S = 15.0
_DATAGRAM_BYTES = 65_000


class Syslog:
    """Raises Invalid when files of TLS cannot be read. host: of this machine, as messages say."""

    def __init__(
        self,
        work: Work,
        address: SyslogAddress,
        *,
        host: str,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self._work = work
        self._address = address
        self._host = host
        self._tls = _context(ca, certificate, key) if address.transport == "tls" else None

    @property
    def handler(self) -> Handler:
        # One thread: a connection sends in order.
        return Handler(SYSLOG, self.run, batch=_BATCH)

    def write(self, messages: Sequence[bytes]) -> None:
        """Keep messages until they are sent."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._work.add_jobs(
            [
                NewJob(
                    SYSLOG,
                    # In the order of their keys, which is that of time, even within one millisecond.
                    f"{now} {number:06d} {uuid.uuid4().hex[:8]}",
                    str(self._address),
                    orjson.dumps({"at": now, "message": message.decode()}),
                    cause="",
                )
                for number, message in enumerate(messages)
            ]
        )

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Send messages over one connection."""
        frames = [self._frame(job) for job in jobs]
        if self._address.transport == "udp":
            yield from self._send_datagrams(jobs, frames)
            return
        try:
            with self._connect() as connection:
                for frame in frames:
                    connection.sendall(b"%d %b" % (len(frame), frame))
                self._end(connection)
        except OSError as error:
            raise Unavailable(f"{self._address}: {error}") from error
        yield from (Ended(job) for job in jobs)

    def _send_datagrams(self, jobs: Sequence[Job], frames: Sequence[bytes]) -> Iterator[Ended]:
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                self._address.host, self._address.port, type=socket.SOCK_DGRAM
            )[0]
            with socket.socket(family, kind, protocol) as sending:
                for job, frame in zip(jobs, frames, strict=True):
                    sending.sendto(frame[:_DATAGRAM_BYTES], where)
                    yield Ended(job)
        except OSError as error:
            raise Unavailable(f"{self._address}: {error}") from error

    def _connect(self) -> socket.socket:
        plain = socket.create_connection((self._address.host, self._address.port), _TIMEOUT_S)
        if self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._address.host)
        except BaseException:
            plain.close()
            raise

    def _end(self, connection: socket.socket) -> None:
        """Say that this was all, and wait until the server closes: what it has not read until then is not lost."""
        if isinstance(connection, ssl.SSLSocket):
            # A server that does not answer close_notify has read what came before it nevertheless.
            connection.settimeout(2.0)
            with suppress(OSError, ValueError):
                connection.unwrap()
            return
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(2.0)
        with suppress(TimeoutError):
            connection.recv(1)

    def _frame(self, job: Job) -> bytes:
        found = orjson.loads(job.payload)
        head = f"<{_PRIORITY}>1 {found['at']} {self._host or '-'} pacs {os.getpid()} DICOM+RFC3881 - "
        return head.encode("ascii", "replace") + b"\xef\xbb\xbf" + str(found["message"]).encode()


def _context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"the certificates of AUDIT_SYSLOG cannot be used: {error}", "AUDIT_SYSLOG_CA") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
