"""What is known of one peer: where it is, what it may do here, and how it is sent to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from pacs.dicom.model import EVERYTHING, Role, Scope
from pacs.dimse.pace import Pace
from pacs.dimse.tls import ClientTls, Files
from pacs.dimse.user import Identity
from pacs.dimse.wire import Timeouts
from pacs.services.access import Principal, narrowed

STORED = "stored"  # in a list of transfer syntaxes: the one that an instance is stored in
KEPT_S = 3.0


# By name, what those may use who only look: no more than they may do over HTTP. Of UPS, to find and to read.
READING = frozenset({"echo", "find", "move", "get", "worklist", "mpps-retrieve", "ups"})


@dataclass(frozen=True, slots=True)
class Rules:
    """What a peer may do as calling AE. services: by name (``access.service_of``), None for all of its role.

    networks: where it may come from, () for anywhere, or in strict mode for the address that it is reached at.
    max_associations: of its own at once, None for no limit but the server's. scope: what it sees.
    """

    services: frozenset[str] | None = None
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    max_associations: int | None = None
    role: Role = Role.ADMIN
    scope: Scope = EVERYTHING

    @property
    def allows_all(self) -> bool:
        return self.services is None and self.role >= Role.WRITER

    def allows(self, service: str) -> bool:
        if self.role < Role.WRITER and service not in READING:
            return False
        return self.services is None or service in self.services

    def within(self, principal: Principal | None) -> Rules:
        """For somebody who is known: what both the peer and they may do, and see."""
        if principal is None:
            return self
        return replace(
            self,
            role=min(self.role, principal.role),
            scope=narrowed(self.scope, principal.scope),
        )


@dataclass(frozen=True, slots=True)
class Sending:
    """How a peer is sent to. transfer_syntaxes: in this order of preference; STORED stands for the stored one.

    What is not in the list comes after it: the stored one, then uncompressed ones. connections: at once, of one C-MOVE.
    max_associations: to it at once, of all of them; None for any number. keep_s: how long an association is kept for
    what is sent next. pace: None for as fast as it goes.
    """

    transfer_syntaxes: tuple[str, ...] = ()
    connections: int = 1
    max_associations: int | None = None
    keep_s: float = KEPT_S
    pace: Pace | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Peer:
    """host, port: "" and 0 of a peer that only calls. tls: None when it is spoken to without.

    user: who we say that we are. associating_s, message_s: instead of the ``Timeouts`` for all. is_broken: its entry
    cannot be understood, and nothing is allowed to it.
    """

    ae_title: str
    host: str
    port: int
    tls: ClientTls | None = None
    rules: Rules = Rules()
    sending: Sending = Sending()
    user: Identity | None = None
    associating_s: float | None = None
    message_s: float | None = None
    is_broken: bool = False

    def described(self) -> dict[str, Any]:
        """As JSON, without secrets. services, modalities, labels: None for all; addresses: [] for anywhere."""
        rules, sending = self.rules, self.sending
        return {
            "ae_title": self.ae_title,
            "host": self.host or None,
            "port": self.port or None,
            "tls": self.tls is not None,
            "services": None if rules.services is None else sorted(rules.services),
            "role": rules.role.word,
            "modalities": None if rules.scope.modalities is None else sorted(rules.scope.modalities),
            "labels": None if rules.scope.labels is None else sorted(rules.scope.labels),
            "addresses": [str(network) for network in rules.networks],
            "max_associations": rules.max_associations,
            "connections": sending.connections,
            "bytes_per_s": sending.pace.bytes_per_s if sending.pace else None,
            "transfer_syntaxes": list(sending.transfer_syntaxes),
            "user": self.user.primary.decode("utf-8", "replace") if self.user else None,
            "is_broken": self.is_broken,
        }

    def timeouts(self, usual: Timeouts) -> Timeouts:
        """usual: what holds where the peer has none of its own."""
        if self.associating_s is None and self.message_s is None:
            return usual
        return Timeouts(self.associating_s or usual.associating_s, self.message_s or usual.message_s, usual.idle_s)


def parse_peer(ae_title: str, address: str, tls: Files | None = None) -> Peer:
    """A peer at host:port, or host:port:cipher,cipher: that there is a list means TLS, with the files of ``tls``
    (None: with the machine's authorities, and no certificate of ours).

    Java's names of ciphers mean nothing here: what is spoken is what BCP 195 asks for. Raises ValueError saying what is
    wrong.
    """
    matched = _ADDRESS.fullmatch(address.strip())
    if matched is None:
        raise ValueError("not host:port or host:port:cipher,cipher")
    port = int(matched["port"])
    if not 1 <= port <= 65535:
        raise ValueError("the port is not 1 to 65535")
    has_ciphers = bool((matched["ciphers"] or "").strip(", "))
    secured = ClientTls(tls or Files()) if has_ciphers else None
    return Peer(checked_ae_title(ae_title), matched["v6"] or matched["host"], port, secured)


def checked_ae_title(ae_title: str) -> str:
    """Without spaces around. Raises ValueError."""
    ae_title = ae_title.strip()
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", ae_title):
        raise ValueError("the AE title is not 1 to 16 printable ASCII characters without backslash")
    return ae_title


_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\s]+)):(?P<port>[0-9]{1,6})(?::(?P<ciphers>.*))?")
