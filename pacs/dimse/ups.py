"""Unified Procedure Step SCP: Push, Watch, Pull, Event and Query (PS3.4 CC), over ``pacs.services.ups``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from pacs.dicom import keys
from pacs.dicom.encode import encode_data_set
from pacs.dicom.model import Attributes, Caller
from pacs.dicom.uids import is_possible, new_uid
from pacs.dimse.association import Message
from pacs.dimse.command import Field
from pacs.dimse.find import answered, send_answers
from pacs.dimse.peers import Peers
from pacs.dimse.requests import Requests
from pacs.dimse.service import Service, read_attributes
from pacs.dimse.status import (
    CAVEATS,
    NO_SUCH_ACTION_TYPE,
    REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    Refused,
    Status,
)
from pacs.dimse.wire import Timeouts
from pacs.errors import NotFound
from pacs.services import ups_attributes as names
from pacs.services.ups import ProcedureSteps
from pacs.services.ups_attributes import UPS_PUSH, value_of
from pacs.services.ups_events import Connect, Reporting
from pacs.services.ups_outcomes import AttributeMissing, AttributeWrong, Caveat, UnknownReceiver
from pacs.services.ups_step import Event

log = logging.getLogger(__name__)

UPS_WATCH = "1.2.840.10008.5.1.4.34.6.2"
UPS_PULL = "1.2.840.10008.5.1.4.34.6.3"
UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"
UPS_QUERY = "1.2.840.10008.5.1.4.34.6.5"
UPS_CLASSES = (UPS_PUSH, UPS_WATCH, UPS_PULL, UPS_EVENT, UPS_QUERY)

_RECEIVING_AE, _DELETION_LOCK = "00741234", "00741230"
_MAX_BYTES = 4 << 20


def ups_service(steps: ProcedureSteps, peers: Peers) -> Service:
    """peers: who may be subscribed over DIMSE: those that events can be sent to."""
    service = _UpsService(steps, peers)
    # CC.3.1: a step may be worked on over the contexts of all classes that have operations on steps.
    on_steps, on_queries = (UPS_PUSH, UPS_PULL, UPS_WATCH), (UPS_PULL, UPS_WATCH, UPS_QUERY)
    return Service(
        "ups",
        frozenset(UPS_CLASSES),
        {
            Field.N_CREATE: _only(service.create, on_steps),
            Field.N_SET: _only(service.set, on_steps),
            Field.N_GET: _only(service.get, on_steps),
            Field.N_ACTION: _only(service.action, on_steps),
            Field.C_FIND: _only(service.find, on_queries),
        },
    )


def _only(serve: Callable[[Message, Caller], None], sop_classes: Sequence[str]) -> Callable[[Message, Caller], None]:
    def checked(message: Message, caller: Caller) -> None:
        if message.context.abstract_syntax not in sop_classes:
            raise Refused(Status(UNRECOGNIZED_OPERATION, "the SOP class has no such operation"))
        serve(message, caller)

    return checked


class _UpsService:
    def __init__(self, steps: ProcedureSteps, peers: Peers) -> None:
        self._steps = steps
        self._peers = peers

    def create(self, message: Message, caller: Caller) -> None:
        attributes = read_attributes(message, _MAX_BYTES)
        sop_uid = message.command.instance_uid or new_uid()
        if not is_possible(sop_uid):
            raise AttributeWrong("the Affected SOP Instance UID is no UID", (names.SOP_UID,))
        caveat = self._steps.create(sop_uid, attributes, caller)
        message.respond(_status(caveat), sop_uid=sop_uid)

    def set(self, message: Message, caller: Caller) -> None:
        attributes = read_attributes(message, _MAX_BYTES)
        transaction = value_of(attributes, names.TRANSACTION_UID)
        caveat = self._steps.update(_instance(message), attributes, transaction, caller)
        message.respond(_status(caveat))

    def get(self, message: Message, caller: Caller) -> None:
        """CC.2.7: all attributes, or those that are listed; never the Transaction UID."""
        found = self._steps.retrieve(_instance(message), caller)
        wanted = message.command.attribute_list or tuple(found)
        chosen = {tag: found[tag] for tag in sorted(wanted) if tag in found}
        is_refused = names.TRANSACTION_UID in wanted
        message.respond(Status(REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED if is_refused else SUCCESS), chosen)

    def action(self, message: Message, caller: Caller) -> None:
        attributes = read_attributes(message, _MAX_BYTES)
        sop_uid = _instance(message)
        caveat = None
        match message.command.action_type:
            case 1:
                state, transaction = value_of(attributes, names.STATE), value_of(attributes, names.TRANSACTION_UID)
                caveat = self._steps.change_state(sop_uid, state, transaction, caller)
            case 2:
                caveat = self._steps.request_cancel(sop_uid, caller.name, attributes, caller)
            case 3:
                self._subscribe(sop_uid, attributes, caller)
            case 4:
                self._steps.subscriptions.unsubscribe(sop_uid, _receiver(attributes), caller)
            case 5:
                self._steps.subscriptions.suspend(sop_uid, _receiver(attributes), caller)
            case other:
                raise Refused(Status(NO_SUCH_ACTION_TYPE, f"there is no action of type {other}"))
        message.respond(_status(caveat))

    def _subscribe(self, sop_uid: str, attributes: Attributes, caller: Caller) -> None:
        receiver = _receiver(attributes)
        if self._peers.find(receiver) is None:
            raise UnknownReceiver(f"AE {receiver} is not known here")
        asked = {tag: key for tag, key in attributes.items() if tag not in (_RECEIVING_AE, _DELETION_LOCK)}
        has_lock = value_of(attributes, _DELETION_LOCK).upper() == "TRUE"
        self._steps.subscriptions.subscribe(sop_uid, receiver, "dimse", caller, has_lock=has_lock, asked=asked)

    def find(self, message: Message, caller: Caller) -> None:
        """CC.2.8."""
        asked = read_attributes(message)
        found = self._steps.search(keys.from_identifier(asked).matchers, caller)
        sent, final = send_answers(message, _answers(found, asked, message.context.transfer_syntax), asked)
        log.info("steps found from=%s answers=%d status=%04XH", caller.name, sent, final.code)


def reports_to(peers: Peers, calling: str, timeouts: Timeouts) -> Connect:
    """Opens associations for ``pacs.services.ups_events.EventReports``. calling: our AE title."""

    @contextmanager
    def connect(ae_title: str) -> Generator[Reporting, None, None]:
        peer = peers.find(ae_title)
        if peer is None:
            raise NotFound(f"AE {ae_title} is not known here")
        # We are the SCP, and open the association all the same (PS3.7 D.3.3.4).
        roles = {UPS_EVENT: (False, True)}
        with Requests(peer, calling, timeouts).normalized([UPS_EVENT], roles=roles) as user:

            def report(event: Event) -> None:
                user.report(UPS_PUSH, event.sop_uid, event.kind, event.attributes, context=UPS_EVENT)

            yield report

    return connect


def _answers(found: Iterator[Attributes], asked: Attributes, transfer_syntax: str) -> Iterator[bytes]:
    tags = [tag for tag in sorted(asked) if tag not in keys.CONTROLS and not tag.endswith("0000")]
    for attributes in found:
        yield encode_data_set({tag: answered(attributes.get(tag), asked[tag]) for tag in tags}, transfer_syntax)


def _instance(message: Message) -> str:
    return message.command.instance_uid or ""


def _receiver(attributes: Attributes) -> str:
    receiver = value_of(attributes, _RECEIVING_AE)
    if not receiver:
        raise AttributeMissing("the Receiving AE is missing", (_RECEIVING_AE,))
    return receiver


def _status(caveat: Caveat | None) -> Status:
    return Status(SUCCESS if caveat is None else CAVEATS[caveat])
