"""One peer's connection from its A-ASSOCIATE-RQ to its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from pacs import correlation
from pacs.dicom.model import Caller, Role
from pacs.dimse import negotiation
from pacs.dimse.access import STORE, Access
from pacs.dimse.association import Association, Message, Stopping
from pacs.dimse.command import RESPONSE, Field
from pacs.dimse.echo import serve_echo
from pacs.dimse.find import serve_find
from pacs.dimse.negotiation import Proposal, Rejection
from pacs.dimse.peer import Rules
from pacs.dimse.retrieve import serve_get, serve_move
from pacs.dimse.sender import Sender
from pacs.dimse.service import Serve, Services, serve_request
from pacs.dimse.status import CANCELLED, UNRECOGNIZED_OPERATION, Status, is_failure
from pacs.dimse.store import serve_store
from pacs.dimse.user import Identities
from pacs.dimse.wire import AbortReason, Closed, PduType, ProtocolError, Timeouts, Wire
from pacs.errors import Forbidden
from pacs.services.query import QueryService
from pacs.services.retrieve import Retrieve
from pacs.services.store import Store
from pacs.watching import Associated, Served, Watch

log = logging.getLogger(__name__)

_LINGER_S = 2.0
# As PS3.7 writes them; fields that no operation has are all one.
_NAMES: dict[int, str] = {field: field.name.replace("_", "-") for field in Field}
_CHANGING = frozenset({Field.C_STORE, Field.N_CREATE, Field.N_SET, Field.N_ACTION, Field.N_DELETE})


@dataclass(frozen=True, slots=True)
class Acceptor:
    """What all connections of a server share. max_pdu: what peers may send, bytes; 0 for any.

    admit: called with each association before it is accepted, and with the rules of who is calling; false when there
    are too many. strict_called: refuse those that call another AE title than ours. watch: told of associations and of
    each request.
    """

    ae_title: str
    store: Store
    query: QueryService
    retrieve: Retrieve
    sender: Sender
    services: Services
    access: Access
    identities: Identities
    max_pdu: int
    timeouts: Timeouts
    strict_called: bool
    admit: Callable[[Association, str, Rules], bool]
    dismiss: Callable[[Association], None]
    watch: Watch

    def serve(self, wire: Wire, peer: str) -> None:
        """Negotiate, serve requests until the peer has enough, close. Never raises. peer: host:port, for the log."""
        correlation.begin()
        linger_s = _LINGER_S
        try:
            established = self._establish(wire, peer)
            if established is not None:
                association, caller, rules = established
                try:
                    self._serve_association(association, caller, rules)
                finally:
                    association.close_outbox()
                    self.dismiss(association)
                    self.watch(Associated(caller, association.called, is_end=True))
        except Closed as error:
            log.info("connection ended address=%s reason=%s", peer, error)
            linger_s = 0.0
        except ProtocolError as error:
            log.warning("aborted address=%s reason=%s", peer, error)
            wire.abort(2, error.reason)
        except Exception:  # one connection's failure must not take the server along
            log.exception("connection failed address=%s", peer)
            wire.abort(2, AbortReason.NOT_SPECIFIED)
        finally:
            wire.close(linger_s)

    def _establish(self, wire: Wire, peer: str) -> tuple[Association, Caller, Rules] | None:
        """Answer the A-ASSOCIATE-RQ; None when it was rejected."""
        proposal = self._receive_proposal(wire)
        if isinstance(proposal, Rejection):
            self._reject(wire, peer, proposal)
            return None
        rules = self._rules(proposal, peer)
        if isinstance(rules, Rejection):
            self._reject(wire, peer, rules, proposal.calling)
            return None
        verdict = self.identities.decide(proposal.user)
        if verdict.is_refused:
            self._reject(wire, peer, negotiation.USER_REFUSED, proposal.calling)
            return None
        rules = rules.within(verdict.user)
        refused = self.access.refused(proposal, rules)
        accepted, answer = negotiation.accept(
            proposal,
            self.max_pdu,
            self.services.roles,
            refused=refused,
            may_store=rules.allows(STORE),
            is_user_confirmed=verdict.is_answered,
        )
        association = Association(wire, accepted, self.max_pdu)
        if not self.admit(association, proposal.calling, rules):
            self._reject(wire, peer, negotiation.TOO_MANY, proposal.calling)
            return None
        wire.set_timeout(self.timeouts.message_s)
        caller = Caller(proposal.calling, peer, "dimse", rules.role, rules.scope)
        counts = f"{len(accepted.contexts)}/{len(proposal.contexts)}"
        user = f" user={verdict.user.name!r}" if verdict.user else ""
        log.info("associated from=%s to=%s address=%s contexts=%s%s", caller.name, proposal.called, peer, counts, user)
        if refused:
            log.warning("contexts refused from=%s count=%d reason=not allowed", caller.name, len(refused))
        try:
            wire.send(answer)
        except Closed:
            self.dismiss(association)
            raise
        self.watch(Associated(caller, proposal.called, user=verdict.user.name if verdict.user else ""))
        return association, caller, rules

    def _reject(self, wire: Wire, peer: str, rejection: Rejection, calling: str = "") -> None:
        log.warning("association rejected from=%s address=%s reason=%s", calling, peer, rejection.text)
        self.watch(Associated(Caller(calling, peer, "dimse"), self.ae_title, rejection.text))
        wire.send(negotiation.reject(rejection))

    def _rules(self, proposal: Proposal, peer: str) -> Rules | Rejection:
        if self.strict_called and proposal.called != self.ae_title:
            return negotiation.CALLED_NOT_RECOGNIZED
        return self.access.decide(proposal, peer)

    def _receive_proposal(self, wire: Wire) -> Proposal | Rejection:
        wire.deadline = time.monotonic() + self.timeouts.associating_s
        kind, length = wire.header()
        if kind == PduType.ABORT:
            raise Closed("aborted by the peer")
        if kind != PduType.ASSOCIATE_RQ:
            raise ProtocolError(f"PDU of type {kind} before an association", AbortReason.UNEXPECTED_PDU)
        pdu = bytes((kind, 0)) + length.to_bytes(4, "big") + wire.payload(length)
        wire.deadline = None
        return negotiation.parse_request(pdu)

    def _serve_association(self, association: Association, caller: Caller, rules: Rules) -> None:
        serve = self._dispatch if rules.allows(STORE) else self._dispatch_without_store
        if rules.role < Role.WRITER:
            serve = self._dispatch_reading
        try:
            while (message := association.receive(self.timeouts.idle_s)) is not None:
                self._serve_request(message, caller, serve)
            association.confirm_release()
            log.info("released from=%s address=%s", caller.name, caller.address)
        except Stopping:
            association.abort()
            log.info("aborted from=%s address=%s reason=shutting down", caller.name, caller.address)

    def _serve_request(self, message: Message, caller: Caller, serve: Serve) -> None:
        association = message.association
        service = _NAMES.get(message.command.field, "other")
        received, sent = association.received_bytes, association.sent_bytes
        association.last_status, association.last_transfers = -1, ()
        at, began = time.time(), time.perf_counter()
        try:
            serve_request(message, caller, serve)
        finally:
            status = association.last_status
            self.watch(
                Served(
                    service,
                    "dimse",
                    "none" if status < 0 else f"{status:04X}",
                    status < 0 or (status != CANCELLED and is_failure(status)),
                    service,
                    caller,
                    at,
                    time.perf_counter() - began,
                    association.received_bytes - received,
                    association.sent_bytes - sent,
                    transfers=association.last_transfers,
                    peer=message.command.destination or "",
                )
            )

    def _dispatch_reading(self, message: Message, caller: Caller) -> None:
        if message.command.field in _CHANGING:
            raise Forbidden("who is a reader here changes nothing")
        self._dispatch(message, caller)

    def _dispatch_without_store(self, message: Message, caller: Caller) -> None:
        if message.command.field == Field.C_STORE:
            raise Forbidden("this AE title may not store here")
        self._dispatch(message, caller)

    def _dispatch(self, message: Message, caller: Caller) -> None:
        match message.command.field:
            case Field.C_STORE:
                serve_store(message, self.store, caller)
            case _ if serve := self.services.find(message):
                serve(message, caller)
            case Field.C_FIND:
                serve_find(message, self.query, caller, self.ae_title)
            case Field.C_MOVE:
                serve_move(message, self.retrieve, self.sender, caller)
            case Field.C_GET:
                serve_get(message, self.retrieve, caller, self.access.sending(caller.name))
            case Field.C_ECHO:
                serve_echo(message, caller)
            case field if field & RESPONSE:
                raise ProtocolError("a response to nothing that was asked", AbortReason.UNEXPECTED_PDU)
            case field:
                log.warning("refused command=%04XH from=%s reason=unknown operation", field, caller.name)
                message.drain()
                message.respond(Status(UNRECOGNIZED_OPERATION, "this operation is not supported"))
