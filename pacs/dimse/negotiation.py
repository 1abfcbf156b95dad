"""Association negotiation (PS3.8 7.1, PS3.7 Annex D): what is proposed, what is accepted.

The PDUs' items are encoded and decoded by pynetdicom; the decisions are made here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from pacs.dicom import transfer_syntax as syntaxes
from pacs.dimse import user_information as items
from pacs.dimse.command import Field
from pacs.dimse.models import MODELS, VERIFICATION, is_storage
from pacs.dimse.user import Identity
from pacs.dimse.wire import ProtocolError

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
MAX_CONTEXTS = 128  # context IDs are the odd numbers of one byte (PS3.8 9.3.2.2)
QUERY_SYNTAXES = (
    syntaxes.EXPLICIT_VR_LITTLE_ENDIAN,
    syntaxes.IMPLICIT_VR_LITTLE_ENDIAN,
    syntaxes.EXPLICIT_VR_BIG_ENDIAN,
)
# What we can do, by request. C-FIND (PS3.4 C.5.1.1): relational queries, date and time combined, fuzzy matching of
# names; not adjusting time zones, not converting to enhanced multi-frame images. C-MOVE and C-GET (C.5.2.1, C.5.3.1):
# relational retrieval; not converting.
_EXTENSIONS = {Field.C_FIND: bytes((1, 1, 1, 0, 0)), Field.C_MOVE: bytes((1, 0)), Field.C_GET: bytes((1, 0))}
_FUZZY = 2  # which of C-FIND's bytes
_STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"
_NONE: Mapping[str, bool] = {}
_USER_REJECTION = 1


@dataclass(frozen=True, slots=True)
class Context:
    """One accepted presentation context. may_send: whether the archive may be the SCU on it."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    may_send: bool = False


@dataclass(frozen=True, slots=True)
class ProposedContext:
    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a peer asks for. roles: SOP class → (the requestor as SCU, as SCP). max_pdu: 0 is unlimited.

    user: who it says that it is. operations: asked to be invoked and performed at once (PS3.7 D.3.3.3).
    service_classes: that SOP classes are said to be of (D.3.3.6).
    """

    called: str
    calling: str
    contexts: tuple[ProposedContext, ...]
    max_pdu: int = 0
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    extensions: Mapping[str, bytes] = field(default_factory=dict)
    user: Identity | None = None
    operations: tuple[int, int] | None = None
    service_classes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Of an association, PS3.8 Table 9-21."""

    result: int
    source: int
    reason: int
    text: str


VERSION_NOT_SUPPORTED = Rejection(1, 2, 2, "protocol version not supported")
CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2, "application context not supported")
CALLING_NOT_RECOGNIZED = Rejection(1, 1, 3, "calling AE title not recognized")
CALLED_NOT_RECOGNIZED = Rejection(1, 1, 7, "called AE title not recognized")
USER_REFUSED = Rejection(1, 2, 1, "user identity not accepted")
TOO_MANY = Rejection(2, 3, 2, "local limit exceeded")


@dataclass(frozen=True, slots=True)
class Accepted:
    """contexts: ID → what may be used; max_pdu: the peer's. called: the AE title that a peer of ours has called.

    extensions: by SOP class, what was granted.
    """

    contexts: Mapping[int, Context]
    max_pdu: int
    called: str = ""
    extensions: Mapping[str, bytes] = field(default_factory=dict)


# -- as acceptor -------------------------------------------------------------------------------------------------------


def parse_request(pdu: bytes) -> Proposal | Rejection:
    """Read an A-ASSOCIATE-RQ. Raises ProtocolError when it cannot be read."""
    try:
        request = A_ASSOCIATE_RQ()
        request.decode(pdu)
        if not request.protocol_version & 1:
            return VERSION_NOT_SUPPORTED
        if request.application_context_name != APPLICATION_CONTEXT:
            return CONTEXT_NOT_SUPPORTED
        user = items.user_information(request.variable_items)
        contexts = tuple(
            ProposedContext(
                int(item.context_id or 0),
                str(item.abstract_syntax or ""),
                tuple(str(uid) for uid in item.transfer_syntax if uid),
            )
            for item in request.presentation_context
        )
        roles = {str(uid): (bool(item.scu), bool(item.scp)) for uid, item in user.role_selection.items()}
        extensions = {str(item.uid): bytes(item.app_info or b"") for item in user.ext_neg}
        return Proposal(
            str(request.called_ae_title).strip(),
            str(request.calling_ae_title).strip(),
            contexts,
            int(user.maximum_length or 0),
            roles,
            extensions,
            items.identity_of(user),
            items.operations_of(user),
            {str(item.sop_class_uid): str(item.service_class_uid) for item in user.common_ext_neg},
        )
    except Exception as err:  # noqa: BLE001  # pynetdicom's decoders raise whatever the garbage makes them raise
        raise ProtocolError(f"A-ASSOCIATE-RQ cannot be read: {type(err).__name__}") from None


def accept(
    proposal: Proposal,
    max_pdu: int,
    services: Mapping[str, bool] = _NONE,
    *,
    refused: Collection[int] = (),
    may_store: bool = True,
    is_user_confirmed: bool = False,
) -> tuple[Accepted, bytes]:
    """Decide on every proposed context; returns what may be used, and the A-ASSOCIATE-AC.

    services: SOP classes that are served besides; true where the requestor may be the SCP. refused: IDs of contexts for
    what the requestor may not do; may_store: whether it may send instances. is_user_confirmed: answer that it is who it
    says.
    """
    contexts: dict[int, Context] = {}
    results: list[PresentationContext] = []
    for proposed in proposal.contexts:
        is_refused = proposed.context_id in refused
        chosen = _USER_REJECTION if is_refused else _choose(proposed, proposal.service_classes, services)
        if isinstance(chosen, str):
            asked_to = proposal.roles.get(proposed.abstract_syntax, (True, False))[1]
            may_send = asked_to and _may_send(proposed.abstract_syntax, services)
            contexts[proposed.context_id] = Context(proposed.context_id, proposed.abstract_syntax, chosen, may_send)
        results.append(_result(proposed, chosen))
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title = proposal.calling
    primitive.called_ae_title = proposal.called
    primitive.presentation_context_definition_results_list = results
    accepted = {context.abstract_syntax for context in contexts.values()}
    extensions = {
        uid: _granted(requested, _EXTENSIONS[MODELS[uid].field])
        for uid, requested in proposal.extensions.items()
        if uid in accepted and uid in MODELS
    }
    primitive.user_information = [
        *items.own_information(max_pdu),
        *(
            items.role(uid, scu and (may_store or not is_storage(uid)), scp and _may_send(uid, services))
            for uid, (scu, scp) in proposal.roles.items()
            if uid in accepted
        ),
        *(items.extension(uid, granted) for uid, granted in extensions.items()),
        # Whatever is asked for: one operation at a time.
        *([items.one_operation()] if proposal.operations else []),
        *([items.confirmation()] if is_user_confirmed else []),
    ]
    return Accepted(contexts, proposal.max_pdu, proposal.called, extensions), A_ASSOCIATE_AC(primitive).encode()


def reject(rejection: Rejection) -> bytes:
    """An A-ASSOCIATE-RJ."""
    pdu = A_ASSOCIATE_RJ()
    pdu.result, pdu.source, pdu.reason_diagnostic = rejection.result, rejection.source, rejection.reason
    return bytes(pdu.encode())


def _may_send(uid: str, services: Mapping[str, bool]) -> bool:
    """Whether a requestor may have the SCP role: for storage classes, to receive what C-GET brings, or by service."""
    return services[uid] if uid in services else is_storage(uid)


def _choose(proposed: ProposedContext, service_classes: Mapping[str, str], services: Mapping[str, bool]) -> str | int:
    """The transfer syntax to use, or why not: 3 abstract, 4 transfer syntaxes not supported (PS3.8 Table 9-18)."""
    offered = proposed.transfer_syntaxes
    if proposed.abstract_syntax in services:
        return next((uid for uid in offered if uid in QUERY_SYNTAXES), 4)
    # A class that we do not know counts as storage, unless the peer itself says that it is something else.
    service_class = service_classes.get(proposed.abstract_syntax, _STORAGE_SERVICE_CLASS)
    if is_storage(proposed.abstract_syntax) and service_class == _STORAGE_SERVICE_CLASS:
        # The sender's order is kept. Syntaxes that nobody knows are stored too, but only when nothing else is offered.
        known = [uid for uid in offered if uid in syntaxes.BY_UID]
        return known[0] if known else offered[0] if offered else 4
    if proposed.abstract_syntax == VERIFICATION or proposed.abstract_syntax in MODELS:
        return next((uid for uid in offered if uid in QUERY_SYNTAXES), 4)
    return 3


def _result(proposed: ProposedContext, chosen: str | int) -> PresentationContext:
    context = PresentationContext()
    context.context_id = proposed.context_id
    context.result = 0 if isinstance(chosen, str) else chosen
    # Of a refused context the transfer syntax means nothing, but some must be there.
    context.transfer_syntax = [UID(chosen if isinstance(chosen, str) else syntaxes.IMPLICIT_VR_LITTLE_ENDIAN)]
    return context


def is_fuzzy(accepted: Mapping[str, bytes], sop_class_uid: str) -> bool:
    """Whether fuzzy semantic matching of person names was negotiated (PS3.4 C.2.2.2.1, C.5.1.1)."""
    return accepted.get(sop_class_uid, b"")[_FUZZY : _FUZZY + 1] == b"\1"


def _granted(requested: bytes, able: bytes) -> bytes:
    """As long as what was requested, and nothing that we do not know."""
    return bytes(asked & can for asked, can in zip(requested, able.ljust(len(requested), b"\0"), strict=False))


# -- as requestor ------------------------------------------------------------------------------------------------------


def request(proposal: Proposal) -> bytes:
    """An A-ASSOCIATE-RQ; ``proposal.max_pdu`` is our own here."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title = proposal.calling
    primitive.called_ae_title = proposal.called
    contexts = []
    for proposed in proposal.contexts:
        context = PresentationContext()
        context.context_id = proposed.context_id
        context.abstract_syntax = UID(proposed.abstract_syntax)
        context.transfer_syntax = [UID(uid) for uid in proposed.transfer_syntaxes]
        contexts.append(context)
    primitive.presentation_context_definition_list = contexts
    primitive.user_information = [
        *items.own_information(proposal.max_pdu),
        *(items.role(uid, scu, scp) for uid, (scu, scp) in proposal.roles.items()),
        *([items.identity(proposal.user)] if proposal.user else []),
    ]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def parse_accept(pdu: bytes, contexts: Sequence[ProposedContext]) -> Accepted:
    """Read an A-ASSOCIATE-AC that answers ``contexts``. Raises ProtocolError when it cannot be read."""
    proposed = {context.context_id: context for context in contexts}
    try:
        answer = A_ASSOCIATE_AC()
        answer.decode(pdu)
        accepted = {
            int(item.context_id): Context(
                int(item.context_id),
                proposed[int(item.context_id)].abstract_syntax,
                str(item.transfer_syntax),
                may_send=True,
            )
            for item in answer.presentation_context
            if item.result == 0 and item.context_id in proposed and item.transfer_syntax
        }
        return Accepted(accepted, int(items.user_information(answer.variable_items).maximum_length or 0))
    except Exception as err:  # noqa: BLE001  # pynetdicom's decoders raise whatever the garbage makes them raise
        raise ProtocolError(f"A-ASSOCIATE-AC cannot be read: {type(err).__name__}") from None
