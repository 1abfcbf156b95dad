"""C-MOVE and C-GET SCP (PS3.4 C.4.2, C.4.3): every match is sent by a C-STORE sub-operation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing

from pacs.dicom.encode import encode_data_set
from pacs.dicom.model import Caller, StoredInstance
from pacs.dimse.association import Message
from pacs.dimse.client import READ_AHEAD, Originator, Outcome, StoreUser
from pacs.dimse.command import HAS_DATA_SET
from pacs.dimse.identifier import read_identifier, unique_keys
from pacs.dimse.peer import Sending
from pacs.dimse.sender import Sender
from pacs.dimse.status import (
    CANCELLED,
    NO_SUB_OPERATION_DONE,
    PENDING,
    SUB_OPERATIONS_FAILED,
    SUCCESS,
    UNKNOWN_DESTINATION,
    Status,
    comment,
)
from pacs.services.retrieve import Retrieve
from pacs.watching import Transfer

log = logging.getLogger(__name__)

_FAILURES_LOGGED = 20  # of one request: a peer that is down fails every instance of a study alike
_UID_LIST_BYTES = 65_534  # the longest value of an element with a 16 bit length


def serve_move(message: Message, retrieve: Retrieve, sender: Sender, caller: Caller) -> None:
    """Send to the Move Destination, on associations of our own. Raises PacsError before the first sub-operation."""
    command = message.command
    identifier = read_identifier(message)
    keys = unique_keys(identifier)
    destination = command.destination or ""
    peer = sender.find(destination)
    if peer is None:
        log.warning("move refused from=%s to=%s reason=unknown destination", caller.name, destination)
        message.respond(Status(UNKNOWN_DESTINATION, comment(f"unknown move destination {destination}")))
        return
    instances = retrieve.select(keys, caller)
    originator = Originator(caller.name, command.message_id or 0)
    with closing(sender.send(peer, instances, command.priority or 0, originator)) as outcomes:
        progress = run(message, instances, outcomes)
    progress.log("moved", caller, destination)


def serve_get(message: Message, retrieve: Retrieve, caller: Caller, sending: Sending) -> None:
    """Send back on the same association. sending: how the caller wants it. Raises PacsError before the first."""
    keys = unique_keys(read_identifier(message))
    instances = retrieve.select(keys, caller)
    user = StoreUser(message.association, retrieve, message.command.priority or 0, sending=sending)
    outcomes = (
        user.attempt(instance, instances[position + 1 : position + 1 + READ_AHEAD])
        for position, instance in enumerate(instances)
    )
    progress = run(message, instances, outcomes)
    progress.log("got", caller, caller.name)


def run(message: Message, instances: Sequence[StoredInstance], outcomes: Iterator[Outcome]) -> Progress:
    """Sub-operation after sub-operation, until the last or a C-CANCEL; answers after each, and at the end."""
    progress = Progress(message, len(instances))
    message_id = message.command.message_id or 0
    while progress.remaining:
        if message.association.is_cancelled(message_id):
            progress.is_cancelled = True
            break
        progress.add(next(outcomes))
        progress.respond(Status(PENDING))
    progress.respond_finally()
    return progress


class Progress:
    """Counts of one request's sub-operations. They saturate at 65,535 on the wire (PS3.7 9.3.4.2: US)."""

    def __init__(self, message: Message, total: int) -> None:
        self._message = message
        self.remaining = total
        self.completed = 0
        self.warnings = 0
        self.failed: list[StoredInstance] = []
        self.reason = ""
        self.is_cancelled = False
        self._studies: dict[str, list[int]] = {}  # sent, failed

    def add(self, outcome: Outcome) -> None:
        self.remaining -= 1
        is_sent = outcome.is_success or outcome.is_warning
        self._studies.setdefault(outcome.instance.target.study_uid, [0, 0])[not is_sent] += 1
        if outcome.is_success:
            self.completed += 1
        elif outcome.is_warning:
            self.warnings += 1
        else:
            self.failed.append(outcome.instance)
            self.reason = self.reason or outcome.reason
            if len(self.failed) <= _FAILURES_LOGGED:
                log.warning("sub-operation failed sop=%s reason=%s", outcome.instance.target.sop_uid, outcome.reason)

    def respond(self, status: Status) -> None:
        self._message.respond(
            status,
            remaining=self.remaining,
            completed=self.completed,
            failed=len(self.failed),
            warnings=self.warnings,
        )

    def respond_finally(self) -> None:
        message = self._message
        message.association.last_transfers = tuple(Transfer(uid, *counts) for uid, counts in self._studies.items())
        status = self._final_status()
        data_set = _failed_list(self.failed, message.context.transfer_syntax) if self.failed else b""
        response = message.response(
            status,
            # Number of Remaining Sub-operations belongs to Pending and Cancel only (PS3.4 C.4.2.1.6).
            remaining=self.remaining if self.is_cancelled else None,
            completed=self.completed,
            failed=len(self.failed),
            warnings=self.warnings,
            **({"data_set_type": HAS_DATA_SET} if data_set else {}),
        )
        message.association.send(message.context.context_id, response, data_set)

    def log(self, verb: str, caller: Caller, destination: str) -> None:
        log.info(
            "%s from=%s to=%s completed=%d failed=%d warnings=%d remaining=%d cancelled=%s",
            verb,
            caller.name,
            destination,
            self.completed,
            len(self.failed),
            self.warnings,
            self.remaining,
            self.is_cancelled,
        )

    def _final_status(self) -> Status:
        if self.is_cancelled:
            return Status(CANCELLED)
        if not self.failed:
            return Status(SUB_OPERATIONS_FAILED if self.warnings else SUCCESS)
        code = SUB_OPERATIONS_FAILED if self.completed or self.warnings else NO_SUB_OPERATION_DONE
        return Status(code, comment(self.reason))


def _failed_list(failed: Sequence[StoredInstance], transfer_syntax_uid: str) -> bytes:
    """Failed SOP Instance UID List (0008,0058), cut where its element is full."""
    uids: list[str] = []
    size = 0
    for instance in failed:
        uid = instance.target.sop_uid or ""
        size += len(uid) + 1
        if size > _UID_LIST_BYTES:
            break
        uids.append(uid)
    return encode_data_set({"00080058": {"vr": "UI", "Value": uids}}, transfer_syntax_uid)
