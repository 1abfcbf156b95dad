"""Requests of our own to a peer that opened the association: the N-EVENT-REPORT of a service's SCP (PS3.7 10.1.1)."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pacs.dicom.encode import encode_data_set
from pacs.dicom.header import parse_data_set
from pacs.dicom.model import Attributes
from pacs.dimse.command import HAS_DATA_SET, RESPONSE, Command, Field
from pacs.dimse.status import is_failure
from pacs.dimse.wire import Closed, PduType, Wire
from pacs.errors import PacsError, PeerFailed

if TYPE_CHECKING:
    from pacs.dimse.association import Association, Message

ANSWER_S = 60.0
QUIET_S = 0.5
_PEER = "the peer"  # for messages: who it is, its service knows
_LAST_PDUS = (PduType.RELEASE_RQ, PduType.ABORT)


@dataclass(frozen=True, slots=True)
class Request:
    """A DIMSE-N request but for its Message ID. context: the abstract syntax of the context that it goes on.

    attributes: the data set, None for none.
    """

    context: str
    command: Command
    attributes: Attributes | None = None

    def encode(self, association: Association, message_id: int, peer: str) -> tuple[Command, list[bytes | memoryview]]:
        """For ``Association.send_encoded``. Raises PeerFailed when the peer has not accepted such a context."""
        for context in association.contexts.values():
            if context.abstract_syntax == self.context:
                break
        else:
            raise PeerFailed(f"{peer} does not offer this service (SOP class {self.context})")
        command, data = replace(self.command, message_id=message_id), b""
        if self.attributes is not None:
            data = encode_data_set(self.attributes, context.transfer_syntax)
            command = replace(command, data_set_type=HAS_DATA_SET)
        return command, association.encode(context.context_id, command, data)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer answered: Success or a Warning. sop_uid: of the instance that it made, where it chose the UID."""

    status: int
    sop_uid: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def event_report(
    sop_class: str, sop_uid: str, event_type: int, attributes: Attributes | None = None, context: str | None = None
) -> Request:
    """N-EVENT-REPORT-RQ (PS3.7 10.3.1.1). context: its abstract syntax, where that is not the SOP class (PS3.4 CC)."""
    command = Command(Field.N_EVENT_REPORT, sop_class, sop_uid=sop_uid, event_type=event_type)
    return Request(context or sop_class, command, attributes)


def read_answer(message: Message, peer: str) -> Answer:
    """Read a response to its end. Raises PeerFailed, with the status, when it is a failure or makes no sense."""
    command = message.command
    try:
        attributes = parse_data_set(message.data_set(), message.context.transfer_syntax) if command.has_data_set else {}
    except PacsError as error:
        raise PeerFailed(f"{peer} answered what cannot be read: {error}") from error
    if command.status is None:
        raise PeerFailed(f"{peer} answered without a status")
    if is_failure(command.status):
        raise PeerFailed(
            f"{peer} answered {command.status:04X}H {command.error_comment or ''}".rstrip(), command.status
        )
    return Answer(command.status, command.sop_uid, attributes)


class Outbox:
    """Requests on their way to one peer, in order, each after the answer to the one before (PS3.7 D.3.3.3).

    ``post`` may be called by any thread; all else belongs to the association's. answer_s: how long an answer may
    take; after that the peer is sent nothing more, and may go on with requests of its own. quiet_s: how long the peer
    must have asked for nothing: DCMTK and pynetdicom abort when a request comes instead of the response that they wait
    for, and what they were about to store would be lost with the association.
    """

    def __init__(self, answer_s: float = ANSWER_S, quiet_s: float = QUIET_S) -> None:
        self._answer_s = answer_s
        self._quiet_s = quiet_s
        self._hold_s: float | None = None  # what is left of quiet_s before the next can be sent
        self._lock = threading.Lock()
        self._posted: deque[tuple[Request, Future[Answer]]] = deque()
        self._closed: str | None = None  # why
        self._asked: Command | None = None  # what the peer has yet to answer
        self._answer: Future[Answer] | None = None
        self._due = 0.0
        self._message_id = 0
        # The association's thread waits for its peer and for this at once.
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        self._is_signalled = False
        self._has_descriptors = True

    def post(self, request: Request) -> Future[Answer]:
        """Send once the peer rests between two requests. The future is its answer, or raises PeerFailed.

        PeerFailed with a status: the peer refuses. Without: the association is over, or there was no answer in time;
        the peer may have received the request all the same. A future that could be cancelled was never sent. What is
        called when it is done is called in the association's thread, and must be quick.
        """
        future: Future[Answer] = Future()
        with self._lock:
            closed = self._closed
            if closed is None:
                self._posted.append((request, future))
                if not self._is_signalled:
                    self._is_signalled = True
                    os.write(self._wake_writer, b"\0")
        if closed is not None:
            future.set_exception(PeerFailed(closed))
        return future

    # -- for the association's thread ------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when something was posted."""
        return self._wake_reader

    def rest(self, association: Association, wire: Wire, idle_s: float | None, quiet_since: float) -> None:
        """Send what is posted, until something has come from the peer. Raises Closed, also when idle_s are over.

        quiet_since: when the peer's last request had been served, of ``time.monotonic``.
        """
        began = time.monotonic()
        while True:
            # A peer that has asked for its release takes no request any more, and some abort over one.
            if self._attend(time.monotonic() - quiet_since) and wire.arrived_kind() not in _LAST_PDUS:
                self._send_next(association)
            left_s = None if idle_s is None else max(0.0, idle_s - (time.monotonic() - began))
            if wire.wait_or_wake(self, self._patience_s(left_s)):
                return
            if left_s == 0:
                raise Closed("idle for too long")

    def take(self, message: Message) -> bool:
        """Whether this was the answer to a request of ours; then it has been read. Raises what associations raise."""
        asked, command = self._asked, message.command
        if asked is None or (command.field, command.responded_id) != (asked.field | RESPONSE, asked.message_id):
            return False
        result: Answer | PeerFailed
        try:
            result = read_answer(message, _PEER)
        except PeerFailed as error:
            result = error
        future, self._asked, self._answer = self._answer, None, None
        if future is None:  # it was given up: this comes too late
            pass
        elif isinstance(result, PeerFailed):
            future.set_exception(result)
        else:
            future.set_result(result)
        return True

    def close(self) -> None:
        """Whatever has no answer has failed. Idempotent."""
        self._give_up("the association has ended")
        with self._lock:
            if self._has_descriptors:
                self._has_descriptors = False
                os.close(self._wake_reader)
                os.close(self._wake_writer)

    def _attend(self, quiet_s: float) -> bool:
        """Take note of what was posted; whether ``_send_next`` has something to send now.

        quiet_s: for how long the peer has had no request under way.
        """
        overdue = self._answer is not None and time.monotonic() >= self._due
        with self._lock:
            if self._is_signalled:
                self._is_signalled = False
                os.read(self._wake_reader, 1)
            has_next = bool(self._posted) and self._asked is None
        if overdue:
            self._give_up("no answer in time")
        if not has_next or overdue:
            self._hold_s = None
            return False
        self._hold_s = max(0.0, self._quiet_s - quiet_s)
        return self._hold_s == 0

    def _patience_s(self, limit_s: float | None) -> float | None:
        """How long to wait for the peer at most before ``_attend`` is due, and no longer than limit_s."""
        due_s = None if self._answer is None else max(0.0, self._due - time.monotonic())
        return min((each for each in (limit_s, due_s, self._hold_s) if each is not None), default=None)

    def _send_next(self, association: Association) -> None:
        """Send the next request. Raises Closed."""
        self._hold_s = None
        while self._asked is None:
            with self._lock:
                if not self._posted:
                    return
                request, future = self._posted.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            self._message_id = self._message_id % 0xFFFF + 1
            try:
                command, parts = request.encode(association, self._message_id, _PEER)
            except Exception as error:  # noqa: BLE001  # one request that makes no sense is no reason to lose the association
                future.set_exception(error)
                continue
            self._asked, self._answer, self._due = command, future, time.monotonic() + self._answer_s
            association.send_encoded(parts)

    def _give_up(self, reason: str) -> None:
        with self._lock:
            self._closed = self._closed or reason
            left = [future for _, future in self._posted if future.set_running_or_notify_cancel()]
            self._posted.clear()
        if self._answer is not None:
            left.insert(0, self._answer)
            self._answer = None  # ``_asked`` stays: the answer may still come, and means nothing then
        for future in left:
            future.set_exception(PeerFailed(reason))
