"""C-MOVE and C-GET of single instances and frames (PS3.4 Y), and C-GET without bulk data (PS3.4 Z)."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from pacs.dicom.header import parse_data_set
from pacs.dicom.matchers import Matcher, TagPath, UidList
from pacs.dicom.model import Attributes, Caller, StoredInstance
from pacs.dicom.non_patient import NonPatientModel
from pacs.dimse.association import Message
from pacs.dimse.client import DataSets, Originator, Outcome, StoreUser, associate, end, proposals
from pacs.dimse.command import Field
from pacs.dimse.peer import Peer
from pacs.dimse.retrieve import run
from pacs.dimse.sender import Sender
from pacs.dimse.service import Service
from pacs.dimse.status import UNKNOWN_DESTINATION, Status, comment
from pacs.dimse.status import Refused as RefusedStatus
from pacs.dimse.wire import Closed, ProtocolError, Timeouts
from pacs.errors import Invalid
from pacs.services.composite import (
    CALCULATED_LIST,
    SIMPLE_LIST,
    TIME_RANGE,
    Extracted,
    Parts,
    Refusal,
    Refused,
    sendable,
)
from pacs.services.retrieve import Content, Retrieve

log = logging.getLogger(__name__)

INSTANCE_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.4.2"
INSTANCE_ROOT_GET = "1.2.840.10008.5.1.4.1.2.4.3"
WITHOUT_BULK_DATA_GET = "1.2.840.10008.5.1.4.1.2.5.3"
_LEVEL, _SOP_CLASS_UID, _SOP_UID = "00080052", "00080016", "00080018"
_FRAME_KEYS = (SIMPLE_LIST, CALCULATED_LIST, TIME_RANGE)
# PS3.4 Y.4.1.1.4
_STATUSES = {
    Refusal.NONE_FOUND: 0xAA00,
    Refusal.NO_INSTANCE: 0xAA01,
    Refusal.NOT_EXTRACTED: 0xAA02,
    Refusal.NOT_TIMED: 0xAA03,
    Refusal.INVALID: 0xAA04,
}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a request means: instances, and where their data sets come from."""

    instances: Sequence[StoredInstance]
    data_sets: DataSets


@dataclass(frozen=True, slots=True)
class _Frames:
    """The data set of the one instance that was made of frames."""

    parts: Parts
    extracted: Extracted

    def data_set(
        self, instance: StoredInstance, transfer_syntax_uid: str | None = None, *, at_once: bool = False
    ) -> Content:
        return self.parts.extracted_data_set(self.extracted, transfer_syntax_uid)


@dataclass(frozen=True, slots=True)
class _WithoutBulkData:
    parts: Parts

    def data_set(
        self, instance: StoredInstance, transfer_syntax_uid: str | None = None, *, at_once: bool = False
    ) -> Content:
        return self.parts.without_bulk_data(instance, transfer_syntax_uid or instance.transfer_syntax_uid)


class CompositeRetrieve:
    """The three SOP classes as services. sender: of what is sent as it is stored."""

    def __init__(self, retrieve: Retrieve, parts: Parts, sender: Sender, ae_title: str, timeouts: Timeouts) -> None:
        self._retrieve = retrieve
        self._parts = parts
        self._sender = sender
        self._ae_title = ae_title
        self._timeouts = timeouts
        self.services = [
            Service("move", frozenset({INSTANCE_ROOT_MOVE}), {Field.C_MOVE: self.move}),
            Service("get", frozenset({INSTANCE_ROOT_GET, WITHOUT_BULK_DATA_GET}), {Field.C_GET: self.get}),
        ]

    def move(self, message: Message, caller: Caller) -> None:
        """C-MOVE at IMAGE or FRAME level (PS3.4 Y.4.1)."""
        identifier = _identifier(message)
        peer = self._destination(message)
        with self._wanted(identifier, caller) as wanted:
            self._send(message, caller, peer, wanted)

    def get(self, message: Message, caller: Caller) -> None:
        """C-GET at IMAGE or FRAME level (PS3.4 Y.4.2), or without bulk data (PS3.4 Z.4.2)."""
        identifier = _identifier(message)
        without = message.context.abstract_syntax == WITHOUT_BULK_DATA_GET
        with self._wanted(identifier, caller, without_bulk_data=without) as wanted:
            _send_back(message, caller, wanted)

    def move_non_patient(self, message: Message, caller: Caller, model: NonPatientModel) -> None:
        """C-MOVE of objects that belong to no patient (PS3.4 U.4.2 and its like)."""
        keys = _non_patient_keys(message, model)
        peer = self._destination(message)
        self._send(message, caller, peer, _Wanted(self._retrieve.select(keys, caller), self._retrieve))

    def get_non_patient(self, message: Message, caller: Caller, model: NonPatientModel) -> None:
        """C-GET of objects that belong to no patient (PS3.4 U.4.3 and its like)."""
        keys = _non_patient_keys(message, model)
        _send_back(message, caller, _Wanted(self._retrieve.select(keys, caller), self._retrieve))

    def _destination(self, message: Message) -> Peer:
        name = message.command.destination or ""
        peer = self._sender.find(name)
        if peer is None:
            raise RefusedStatus(Status(UNKNOWN_DESTINATION, comment(f"unknown move destination {name}")))
        return peer

    def _send(self, message: Message, caller: Caller, peer: Peer, wanted: _Wanted) -> None:
        command = message.command
        originator = Originator(caller.name, command.message_id or 0)
        if wanted.data_sets is self._retrieve:
            sending = self._sender.send(peer, wanted.instances, command.priority or 0, originator)
        else:
            sending = self._send_made(peer, wanted, command.priority or 0, originator)
        with closing(sending) as outcomes:
            run(message, wanted.instances, outcomes).log("moved", caller, peer.ae_title)

    def _send_made(
        self, peer: Peer, wanted: _Wanted, priority: int, originator: Originator
    ) -> Generator[Outcome, None, None]:
        """Instances that were made for this request, over an association of their own."""
        (contexts, _), *_ = proposals(wanted.instances, peer.sending.transfer_syntaxes)
        for instance in wanted.instances:
            try:
                association = associate(peer, self._ae_title, contexts, self._timeouts)
                try:
                    user = StoreUser(association, wanted.data_sets, priority, originator, peer.sending)
                    outcome = user.attempt(instance)
                finally:
                    end(association)
            except (Closed, ProtocolError) as error:
                outcome = Outcome(instance, None, str(error))
            yield outcome

    @contextmanager
    def _wanted(self, identifier: Attributes, caller: Caller, *, without_bulk_data: bool = False) -> Iterator[_Wanted]:
        """Raises RefusedStatus for frames that cannot be had."""
        found = self._retrieve.select({(_SOP_UID,): UidList(_sop_uids(identifier))}, caller)
        if without_bulk_data:
            yield _Wanted([sendable(each) for each in found], _WithoutBulkData(self._parts))
            return
        if _level(identifier) == "IMAGE":
            yield _Wanted(found, self._retrieve)
            return
        with ExitStack() as stack:
            if not found:
                raise _refused(Refusal.NONE_FOUND)
            keys = {tag: identifier[tag] for tag in _FRAME_KEYS if tag in identifier}
            try:
                extracted = stack.enter_context(self._parts.frames(found[0], keys))
            except Refused as error:
                raise _refused(error.refusal) from error
            yield _Wanted([extracted.instance], _Frames(self._parts, extracted))


def _send_back(message: Message, caller: Caller, wanted: _Wanted) -> None:
    user = StoreUser(message.association, wanted.data_sets, message.command.priority or 0)
    outcomes = (user.attempt(instance) for instance in wanted.instances)
    run(message, wanted.instances, outcomes).log("got", caller, caller.name)


def _non_patient_keys(message: Message, model: NonPatientModel) -> dict[TagPath, Matcher]:
    uids = _sop_uids(parse_data_set(message.data_set(), message.context.transfer_syntax))
    return {(_SOP_UID,): UidList(uids), (_SOP_CLASS_UID,): UidList(tuple(sorted(model.classes)))}


def _identifier(message: Message) -> Attributes:
    """Raises Invalid when level and unique key do not make sense (PS3.4 Y.4.1.1.3, Z.4.2.1.4)."""
    attributes = parse_data_set(message.data_set(), message.context.transfer_syntax)
    levels = ("IMAGE",) if message.context.abstract_syntax == WITHOUT_BULK_DATA_GET else ("IMAGE", "FRAME")
    level = _level(attributes)
    if level not in levels:
        raise Invalid(f"QueryRetrieveLevel {level or 'is missing, and'} must be {' or '.join(levels)}", _LEVEL)
    uids = _sop_uids(attributes)
    if level == "FRAME" and len(uids) > 1:
        raise Invalid("frames are retrieved of one instance at a time", _SOP_UID)
    return attributes


def _level(attributes: Attributes) -> str:
    values = attributes.get(_LEVEL, {}).get("Value") or [""]
    return str(values[0] or "").strip().upper()


def _sop_uids(attributes: Attributes) -> tuple[str, ...]:
    """Raises Invalid when there are none, or a pattern."""
    uids = tuple(str(uid) for uid in attributes.get(_SOP_UID, {}).get("Value") or () if uid)
    if not uids or any(set(uid) & set("*?") for uid in uids):
        raise Invalid("SOP Instance UID is missing, or a pattern", _SOP_UID)
    return uids


def _refused(refusal: Refusal) -> RefusedStatus:
    return RefusedStatus(Status(_STATUSES[refusal], comment(refusal.value)))
