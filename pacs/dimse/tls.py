"""TLS of DIMSE connections: the Non-Downgrading BCP 195 profile (PS3.15 B.10), and certificates that may be renewed."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pacs.errors import Invalid

log = logging.getLogger(__name__)

# TLS 1.2 with ephemeral keys and authenticated encryption, or 1.3, whose suites are all so: what RFC 9325 (BCP 195)
# leaves of the profile's list. DHE is not among them, since peers choose its groups badly (RFC 9325 4.1).
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
ClientCertificates = Literal["required", "optional", "none"]


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files. certificate: ours, with its chain; key: its key, where it is not in the same file.

    ca: who vouches for the other side, None for those that this machine trusts.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def names(self) -> list[Path]:
        return [path for path in (self.ca, self.certificate, self.key) if path]

    def load_into(self, context: ssl.SSLContext) -> None:
        """Raises Invalid naming the file that cannot be used."""
        path = self.ca
        try:
            if path:
                context.load_verify_locations(path)
            path = self.certificate
            if path:
                # A key with a passphrase would have OpenSSL ask for it on the terminal.
                context.load_cert_chain(path, self.key, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise Invalid(f"{path}: {_reason(error)}", str(path)) from error


class Reloaded:
    """A context over files, made again when they change. Safe to call from any thread.

    What cannot be read after a change is told in the log, once, and the context from before goes on.
    """

    def __init__(self, files: Files, make: Callable[[], ssl.SSLContext]) -> None:
        self._files = files
        self._make = make
        self._lock = threading.Lock()
        self._seen: list[tuple[int, int, int]] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Raises Invalid when the files cannot be used, and never could."""
        with self._lock:
            seen = [_stamp(path) for path in self._files.names()]
            if self._context is None or seen != self._seen:
                self._renew(seen)
            assert self._context is not None
            return self._context

    def _renew(self, seen: list[tuple[int, int, int]]) -> None:
        is_first = self._context is None
        try:
            self._context = self._make()
        except Invalid as error:
            if is_first:
                raise
            log.error("certificates not renewed, those from before go on reason=%s", error)
        else:
            if not is_first:
                log.info("certificates renewed files=%s", ",".join(path.name for path in self._files.names()))
        # A broken file is not read again for every connection, but when it changes.
        self._seen = seen


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How a peer is spoken to. is_host_verified: its certificate must be for the host name that it is reached by."""

    files: Files = Files()
    is_host_verified: bool = True
    _kept: list[Reloaded] = field(default_factory=list, compare=False, repr=False)

    def context(self) -> ssl.SSLContext:
        """For the next connection. Raises Invalid when the files cannot be used."""
        if not self._kept:
            self._kept.append(Reloaded(self.files, self._make))
        return self._kept[0].context()

    def _make(self) -> ssl.SSLContext:
        context = _profile(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.is_host_verified
        self.files.load_into(context)
        if self.files.ca is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context


class ServerTls:
    """How peers may speak to us. clients: whether they have to show a certificate that ``files.ca`` vouches for.

    Raises Invalid when files are missing that OpenSSL would miss only when a peer comes.
    """

    def __init__(self, files: Files, clients: ClientCertificates = "required") -> None:
        if files.certificate is None:
            raise Invalid("DIMSE by TLS needs a certificate: set DIMSE_TLS_CERTIFICATE", "DIMSE_TLS_CERTIFICATE")
        if clients != "none" and files.ca is None:
            raise Invalid(
                "peers have to show certificates: set DIMSE_TLS_CA to those who vouch for them, or DIMSE_TLS_CLIENTS to"
                " none",
                "DIMSE_TLS_CA",
            )
        self._files = files
        self._clients = clients
        self._reloaded = Reloaded(files, self._make)

    def context(self) -> ssl.SSLContext:
        """For the next connection. Raises Invalid when the files cannot be used, and never could."""
        return self._reloaded.context()

    def _make(self) -> ssl.SSLContext:
        context = _profile(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = _MODES[self._clients]
        # Resumed, a session would go on with what was verified once, whatever the files say by now.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        self._files.load_into(context)
        return context


_MODES: dict[ClientCertificates, ssl.VerifyMode] = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}


def _profile(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # An end without notice: PDUs say themselves whether they are whole, and OpenSSL 3 would let nothing more be sent.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0, 0
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        known = {
            "NO_CERTIFICATE_OR_CRL_FOUND": "no certificate in PEM format",
            "NO_START_LINE": "not PEM",
            "KEY_VALUES_MISMATCH": "the key is not the certificate's",
            "BAD_DECRYPT": "the key has a passphrase; store it without one, readable by this user only",
        }
        return known.get(error.reason or "", error.reason or str(error))
    return getattr(error, "strerror", None) or str(error)
