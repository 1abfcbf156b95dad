"""Who may associate, and for what: the rules of peers.toml, roles, and the strict mode.

A service that is not allowed to a peer is refused when the association is negotiated: its presentation contexts get the
result 1, user-rejection (PS3.8 Table 9-18). A status of 0124H would come too late. A C-STORE SCU would first have sent
an instance, all of it, and the next one after that; storescu and most modalities go through a whole study so, and some
try again for ever. "No acceptable presentation contexts" they all tell their user at once. One case is left for 0124H:
who may get but not store needs contexts of storage classes for what C-GET brings, and a C-STORE could come on them.
So it is with UPS: who only looks may find and read steps on the contexts on which others change them.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from pacs.dimse.command import Field
from pacs.dimse.models import MODELS, VERIFICATION, is_storage
from pacs.dimse.negotiation import CALLING_NOT_RECOGNIZED, Proposal, Rejection
from pacs.dimse.peer import Peer, Rules, Sending
from pacs.dimse.peers import Peers

log = logging.getLogger(__name__)

STORE, FIND, MOVE, GET, ECHO = "store", "find", "move", "get", "echo"
_OF_REQUESTS = {Field.C_FIND: FIND, Field.C_MOVE: MOVE, Field.C_GET: GET}
_ALL = Rules()


@dataclass(frozen=True, slots=True)
class Access:
    """is_strict: only known peers, from their addresses. others: SOP class → name of further services."""

    peers: Peers
    is_strict: bool = False
    others: Mapping[str, str] = field(default_factory=dict)

    def decide(self, proposal: Proposal, address: str) -> Rules | Rejection:
        """What the calling AE may do. address: host:port that the connection comes from."""
        peer = self.peers.caller(proposal.calling)
        if peer is None:
            return CALLING_NOT_RECOGNIZED if self.is_strict else _ALL
        if peer.is_broken or not self._is_from(peer, address.rpartition(":")[0]):
            return CALLING_NOT_RECOGNIZED
        return peer.rules

    def sending(self, calling: str) -> Sending:
        """How to send to who is calling."""
        peer = self.peers.caller(calling)
        return peer.sending if peer else Sending()

    def refused(self, proposal: Proposal, rules: Rules) -> frozenset[int]:
        """IDs of the presentation contexts for services that are not allowed."""
        if rules.allows_all:
            return frozenset()
        return frozenset(
            context.context_id
            for context in proposal.contexts
            if not self._may_propose(context.abstract_syntax, proposal, rules)
        )

    def _may_propose(self, sop_class_uid: str, proposal: Proposal, rules: Rules) -> bool:
        service = self.others.get(sop_class_uid) or service_of(sop_class_uid)
        if service is None:  # none that there is: it gets the answer for that
            return True
        is_for_get = service == STORE and proposal.roles.get(sop_class_uid, (True, False))[1]
        return rules.allows(service) or (is_for_get and rules.allows(GET))

    def _is_from(self, peer: Peer, host: str) -> bool:
        networks = peer.rules.networks
        if networks:
            address = _plain(host)
            return any(address in network for network in networks)
        return not self.is_strict or _plain(host) in _addresses_of(peer)


def service_of(sop_class_uid: str) -> str | None:
    """The name in peers.toml of the service that a SOP class belongs to."""
    if sop_class_uid == VERIFICATION:
        return ECHO
    if sop_class_uid in MODELS:
        return _OF_REQUESTS[MODELS[sop_class_uid].field]
    return STORE if is_storage(sop_class_uid) else None


def _addresses_of(peer: Peer) -> set[IPv4Address | IPv6Address]:
    """Where a peer without ``addresses`` comes from: where it is reached."""
    if not peer.host:
        return set()
    try:
        found = socket.getaddrinfo(peer.host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        log.warning("host of a peer not found peer=%s host=%s reason=%s", peer.ae_title, peer.host, error.strerror)
        return set()
    return {_plain(str(address[0])) for *_, address in found}


def _plain(host: str) -> IPv4Address | IPv6Address:
    """The address; an IPv4 one that a socket of both kinds shows as IPv6 is itself."""
    address = ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
