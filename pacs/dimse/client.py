"""C-STORE SCU for C-MOVE and C-GET: associations to peers, and instances sent over them (PS3.4 B, C.4.2, C.4.3)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.model import StoredInstance
from pacs.dimse import negotiation
from pacs.dimse.association import Association
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from pacs.dimse.negotiation import MAX_CONTEXTS, Context, Proposal, ProposedContext
from pacs.dimse.peer import STORED, Peer, Sending
from pacs.dimse.status import is_failure
from pacs.dimse.wire import Closed, PduType, ProtocolError, Timeouts, Wire, reason_of
from pacs.errors import Invalid, NotAcceptable, NotFound, PacsError
from pacs.services.retrieve import Content

log = logging.getLogger(__name__)

# What a peer gets that does not take the stored transfer syntax, in this order.
FALLBACKS = (syntaxes.EXPLICIT_VR_LITTLE_ENDIAN, syntaxes.IMPLICIT_VR_LITTLE_ENDIAN)
MAX_PDU = 131072
DEFAULT_SENDING = Sending()
# So many of the instances to be sent next are read ahead.
READ_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Originator:
    """Whose C-MOVE a C-STORE serves (PS3.7 9.1.1.1.6 and .7)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of sending one instance. status: the peer's, None when it could not be sent; reason: why it failed.

    is_final: the peer takes no transfer syntax that the instance can be sent in, or its file is gone. is_peer_away: it
    was not this instance's fault, and nothing more is tried now.
    """

    instance: StoredInstance
    status: int | None
    reason: str = ""
    is_final: bool = False
    is_peer_away: bool = False

    @property
    def is_success(self) -> bool:
        return self.status == 0

    @property
    def is_warning(self) -> bool:
        """PS3.7 C.3: 0001H, 0107H, 0116H and Bxxx."""
        return self.status is not None and self.status != 0 and not is_failure(self.status)


class DataSets(Protocol):
    """Where the data sets of instances come from: ``Retrieve``, which sends them as they are stored."""

    def data_set(
        self, instance: StoredInstance, transfer_syntax_uid: str | None = None, *, at_once: bool = False
    ) -> Content: ...


class StoreUser:
    """Sends stored instances over one association, as C-STORE SCU. sending: how the peer wants it."""

    def __init__(
        self,
        association: Association,
        retrieve: DataSets,
        priority: int,
        originator: Originator | None = None,
        sending: Sending = DEFAULT_SENDING,
    ) -> None:
        self.association = association
        self._retrieve = retrieve
        self._priority = priority
        self._originator = originator
        self._preferred = sending.transfer_syntaxes
        self._pace = sending.pace
        self._contexts: dict[tuple[str, str], Context] = {
            (context.abstract_syntax, context.transfer_syntax): context
            for context in reversed(list(association.contexts.values()))
            if context.may_send
        }
        self._message_id = 0
        self._begun: dict[str, Content] = {}  # by blob key; nothing to close as long as nothing is taken from it

    def send(self, instance: StoredInstance) -> int:
        """Send one instance; returns the peer's status.

        Raises a PacsError when this instance cannot be sent, and Closed or ProtocolError when nothing more can.
        """
        context, content = self._content(instance)
        try:
            chunks = iter(content.chunks())
            first = next(chunks, b"")  # what cannot be read should show before anything is on its way
            self._message_id = self._message_id % 0xFFFF + 1
            command = Command(
                field=Field.C_STORE,
                sop_class_uid=instance.sop_class_uid,
                message_id=self._message_id,
                priority=self._priority,
                data_set_type=HAS_DATA_SET,
                sop_uid=instance.target.sop_uid,
                originator=self._originator.ae_title if self._originator else None,
                originator_message_id=self._originator.message_id if self._originator else None,
            )
            try:
                whole = chain((first,), chunks)
                paced = self._pace.of(whole) if self._pace else whole
                self.association.send_stream(context.context_id, command, paced)
            except (Closed, ProtocolError):
                raise
            except Exception as error:
                # Half a data set is on its way: nothing that makes sense can follow it.
                log.error("sending broke off sop=%s reason=%s", instance.target.sop_uid, error)
                self.association.abort()
                raise Closed("an instance could not be read to its end") from error
        finally:
            content.close()
        response = self.association.response(self._message_id)
        response.drain()
        if response.command.status is None:
            raise ProtocolError("a response without a status")
        return response.command.status

    def attempt(self, instance: StoredInstance, following: Sequence[StoredInstance] = ()) -> Outcome:
        """Send one instance; says what became of it. Raises Closed or ProtocolError when nothing more can be sent.

        following: what will be sent next, which a store that is far away begins to read.
        """
        for each in following:
            context = next(self._accepted(each), None)
            if context and context.transfer_syntax == each.transfer_syntax_uid and each.blob.key not in self._begun:
                self._begun[each.blob.key] = self._retrieve.data_set(each, at_once=True)
        try:
            status = self.send(instance)
        except (Closed, ProtocolError):
            raise
        except Exception as error:  # what one instance breaks must not keep the others in
            if not isinstance(error, PacsError):
                log.exception("sending failed sop=%s", instance.target.sop_uid)
            is_final = isinstance(error, NotAcceptable | NotFound)
            return Outcome(instance, None, str(error) if isinstance(error, PacsError) else "internal error", is_final)
        return Outcome(instance, status, "" if status == 0 else f"the peer answered {status:04X}H")

    def _content(self, instance: StoredInstance) -> tuple[Context, Content]:
        """What goes out, and on which context: the first that the instance can be made for."""
        refusal: NotAcceptable | None = None
        for context in self._accepted(instance):
            is_stored = context.transfer_syntax == instance.transfer_syntax_uid
            content = self._begun.pop(instance.blob.key, None) if is_stored else None
            if content is not None:
                return context, content
            try:
                made = self._retrieve.data_set(instance, None if is_stored else context.transfer_syntax)
            except NotAcceptable as error:
                refusal = refusal or error
            else:
                return context, made
        raise refusal or NotAcceptable("the peer accepts no transfer syntax that the instance can be sent in")

    def _accepted(self, instance: StoredInstance) -> Iterator[Context]:
        for syntax in syntaxes_for(instance, self._preferred):
            context = self._contexts.get((instance.sop_class_uid, syntax))
            if context is not None:
                yield context


def proposals(
    instances: Sequence[StoredInstance], preferred: Sequence[str] = ()
) -> Iterator[tuple[list[ProposedContext], int]]:
    """Presentation contexts for sending instances in their order; each comes with how many instances it serves.

    preferred: as ``Sending.transfer_syntaxes``.

    Every stored transfer syntax of a SOP class has a context of its own, and so have the fallbacks: the peer decides
    on each. When they would be more than an association can have, another association follows.
    """
    wanted: dict[tuple[str, str], None] = {}
    count = 0
    for instance in instances:
        pairs = [(instance.sop_class_uid, syntax) for syntax in syntaxes_for(instance, preferred)]
        new = [pair for pair in dict.fromkeys(pairs) if pair not in wanted]
        if len(wanted) + len(new) > MAX_CONTEXTS:
            yield _contexts(wanted), count
            wanted, count, new = {}, 0, list(dict.fromkeys(pairs))
        wanted.update(dict.fromkeys(new))
        count += 1
    if count:
        yield _contexts(wanted), count


def syntaxes_for(instance: StoredInstance, preferred: Sequence[str] = ()) -> Iterable[str]:
    """What an instance may go out in, the best first."""
    stored = instance.transfer_syntax_uid
    if not preferred:
        return dict.fromkeys((stored, *FALLBACKS))
    return dict.fromkeys(stored if syntax == STORED else syntax for syntax in (*preferred, STORED, *FALLBACKS))


def _contexts(pairs: Mapping[tuple[str, str], None]) -> list[ProposedContext]:
    return [
        ProposedContext(2 * position + 1, sop_class_uid, (syntax,))
        for position, (sop_class_uid, syntax) in enumerate(pairs)
    ]


def associate(
    peer: Peer,
    calling: str,
    contexts: Sequence[ProposedContext],
    timeouts: Timeouts,
    roles: Mapping[str, tuple[bool, bool]] | None = None,
) -> Association:
    """Open an association. Raises Closed saying why there is none, ProtocolError when the peer talks nonsense.

    roles: as of ``Proposal``, where they are not the usual ones.
    """
    timeouts = peer.timeouts(timeouts)
    connection = _connect(peer, timeouts.associating_s)
    wire = Wire(connection, timeouts.associating_s)
    try:
        proposal = Proposal(peer.ae_title, calling, tuple(contexts), MAX_PDU, roles or {}, user=peer.user)
        wire.send(negotiation.request(proposal))
        kind, length = wire.header()
        pdu = bytes((kind, 0)) + length.to_bytes(4, "big") + wire.payload(length)
        if kind == PduType.ASSOCIATE_RJ:
            raise Closed(f"{peer.ae_title} rejected the association: {_reason(pdu)}")
        if kind == PduType.ABORT:
            raise Closed(f"{peer.ae_title} aborted the association")
        if kind != PduType.ASSOCIATE_AC:
            raise ProtocolError(f"PDU of type {kind} for an answer to A-ASSOCIATE-RQ")
        accepted = negotiation.parse_accept(pdu, contexts)
    except BaseException:
        wire.close()
        raise
    wire.set_timeout(timeouts.message_s)
    counts = f"{len(accepted.contexts)}/{len(contexts)}"
    log.info("associated to=%s address=%s:%d contexts=%s", peer.ae_title, peer.host, peer.port, counts)
    return Association(wire, accepted, MAX_PDU)


def end(association: Association) -> None:
    """Release, if the peer still can."""
    try:
        association.release()
    except (Closed, ProtocolError):
        association.abort()
    association.close()


def _connect(peer: Peer, timeout_s: float) -> socket.socket:
    try:
        connection = socket.create_connection((peer.host, peer.port), timeout_s)
    except OSError as error:
        raise Closed(f"{peer.ae_title} cannot be reached: {error.strerror or error}") from error
    if peer.tls is None:
        return connection
    try:
        return peer.tls.context().wrap_socket(connection, server_hostname=peer.host)
    except (OSError, Invalid) as error:
        connection.close()
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise Closed(f"TLS with {peer.ae_title} failed: {reason}") from error


def _reason(pdu: bytes) -> str:
    """Of an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""
    source, reason = pdu[8], pdu[9]
    known = {
        (1, 2): "application context not supported",
        (1, 3): "calling AE title not recognized",
        (1, 7): "called AE title not recognized",
        (2, 2): "protocol version not supported",
        (3, 1): "temporary congestion",
        (3, 2): "local limit exceeded",
    }
    return known.get((source, reason), "no reason given")
