"""An established association: DIMSE messages in and out (PS3.7 6.3, PS3.8 9.3), the same for SCP and SCU.

One thread does all: it reads a request, serves it, answers. pynetdicom's own ``Association`` needs two threads that
poll each other and queues without bounds: half of its time is sleep, and it holds what it sends in memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any

from pacs.dicom.encode import encode_data_set
from pacs.dicom.model import Attributes
from pacs.dimse.command import HAS_DATA_SET, RESPONSE, Command, Field, is_normalized
from pacs.dimse.negotiation import Accepted, Context
from pacs.dimse.outbox import Outbox
from pacs.dimse.status import Status
from pacs.dimse.wire import AbortReason, Closed, PduType, ProtocolError, Wire
from pacs.errors import TooLarge
from pacs.watching import Transfer

IDENTIFIER_LIMIT = 4 * 1024 * 1024
_COMMAND_LIMIT = 64 * 1024
# A peer that counts the six bytes of header in or out is forgiven; one that sends gigabytes is not.
_PDU_SLACK = 64 * 1024
_UNLIMITED_PDU = 16 * 1024 * 1024
_LARGEST_SENT_PDU = 256 * 1024
_COMMAND, _LAST = 1, 2  # bits of the message control header, PS3.8 E.2


class Stopping(Exception):
    """The server shuts down, and this association was between two requests."""


@dataclass(slots=True)
class Message:
    """One DIMSE message. Its data set, if any, must be read before anything else is read from the association."""

    command: Command
    context: Context
    association: Association
    _fragments: Iterator[memoryview] | None = None

    def fragments(self) -> Iterator[memoryview]:
        """The data set as it arrives, once; each view is valid until the next is asked for."""
        if self._fragments is None:
            has_data_set = self.command.has_data_set
            self._fragments = self.association.data_set_fragments(self.context) if has_data_set else iter(())
        return self._fragments

    def data_set(self, limit: int = IDENTIFIER_LIMIT) -> bytes:
        """The whole data set. Raises TooLarge past the limit, after reading it to its end."""
        found = bytearray()
        size = 0
        for view in self.fragments():
            size += len(view)
            if size <= limit:
                found += view
        if size > limit:
            raise TooLarge(f"the data set is larger than {limit} bytes")
        return bytes(found)

    def respond(self, status: Status, attributes: Attributes | None = None, **elements: Any) -> None:
        """Answer. attributes: the data set, None for none; elements: further ones of ``Command``."""
        data = b""
        if attributes is not None:
            data = encode_data_set(attributes, self.context.transfer_syntax)
            elements["data_set_type"] = HAS_DATA_SET
        self.association.send(self.context.context_id, self.response(status, **elements), data)

    def response(self, status: Status, **elements: Any) -> Command:
        """The command set of an answer to this request (PS3.7 9.3, 10.3).

        DIMSE-N: its SOP instance, event and action type are the request's, unless elements say otherwise.
        """
        command = self.command
        if is_normalized(command.field):
            same = {
                "sop_uid": command.instance_uid,
                "event_type": command.event_type,
                "action_type": command.action_type,
                "attribute_list": status.attributes or None,
            }
            elements = {**same, **elements}
        elif status.attributes:
            elements["offending"] = status.attributes
        self.association.last_status = status.code
        return Command(
            field=command.field | RESPONSE,
            sop_class_uid=command.class_uid,
            responded_id=command.message_id,
            status=status.code,
            error_comment=status.comment,
            error_id=status.error_id,
            **elements,
        )

    def drain(self) -> None:
        """Read what is left of the data set, so that the next message can be read."""
        for _ in self.fragments():
            pass


class Association:
    """Messages over one connection. Used by one thread; ``finish`` and ``kill`` may come from any other.

    Other threads send requests of their own through its ``outbox``.

    max_pdu: the largest P-DATA-TF that we promised to take, 0 for any. received_bytes: of P-DATA-TF so far.
    last_status: of the last response that was made, -1 for none. last_transfers: of its sub-operations.
    """

    def __init__(self, wire: Wire, accepted: Accepted, max_pdu: int) -> None:
        self.contexts = accepted.contexts
        self.extensions = accepted.extensions
        self.called = accepted.called
        self.received_bytes = 0
        self.last_status = -1
        self.last_transfers: tuple[Transfer, ...] = ()
        self._wire = wire
        self._pdu_limit = max_pdu + _PDU_SLACK if max_pdu else _UNLIMITED_PDU
        peer_limit = min(accepted.max_pdu or _LARGEST_SENT_PDU, _LARGEST_SENT_PDU)
        # Fragments of even length (PS3.8 E.1), each in its own PDU.
        self._fragment_bytes = max((peer_limit - 6) & ~1, 2)
        self._pdu_left = 0
        self._fragments_left = False
        self._release_requested = False
        self._cancelled: set[int] = set()
        self._lock = threading.Lock()
        self._idle = False
        self._stopping = False
        self._outbox: Outbox | None = None

    @property
    def sent_bytes(self) -> int:
        """Of everything so far."""
        return self._wire.sent_bytes

    def outbox(self) -> Outbox:
        """Where any thread may post requests to this peer, from now on; they go out while it rests."""
        if self._outbox is None:
            self._outbox = Outbox()
        return self._outbox

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(self, idle_s: float | None = None) -> Message | None:
        """The next request; None when the peer releases the association.

        Raises Closed, ProtocolError, and Stopping once ``finish`` was called.
        """
        self._cancelled.clear()
        quiet_since = time.monotonic() if self._outbox is not None else 0.0
        while True:
            if self._release_requested:
                return None
            self._wait(idle_s, quiet_since)
            message = self._next_message()
            if message is None:
                return None
            # A cancel here cancels what has ended already: nothing to do (PS3.7 9.3.2.3).
            if message.command.field != Field.C_CANCEL and not self._answers_posted(message):
                return message

    def response(self, message_id: int) -> Message:
        """The response to a request of ours; a C-CANCEL that comes before it is remembered."""
        while True:
            message = self._next_message()
            if message is None:
                raise Closed("released by the peer in the middle of a request")
            command = message.command
            if command.field == Field.C_CANCEL:
                self._remember_cancel(command)
            elif self._answers_posted(message):
                pass
            elif command.field & RESPONSE and command.responded_id == message_id:
                return message
            else:
                raise ProtocolError("another message than the response that was due", AbortReason.UNEXPECTED_PDU)

    def is_readable(self, within_s: float) -> bool:
        """Whether something comes within that time. Raises Closed."""
        return self._wire.wait_or_wake(None, within_s)

    def is_cancelled(self, message_id: int) -> bool:
        """Whether the peer wants this operation to end. Takes in what has arrived, without waiting for more."""
        while not self._release_requested and self._wire.is_readable():
            message = self._next_message()
            if message is None:
                break
            if message.command.field == Field.C_CANCEL:
                self._remember_cancel(message.command)
            elif not self._answers_posted(message):
                raise ProtocolError("a request in the middle of another", AbortReason.UNEXPECTED_PDU)
        return message_id in self._cancelled or self._release_requested

    def _wait(self, idle_s: float | None, quiet_since: float) -> None:
        with self._lock:
            if self._stopping:
                raise Stopping
            self._idle = True
        try:
            if self._outbox is None:
                self._wire.wait(idle_s)
            else:
                self._outbox.rest(self, self._wire, idle_s, quiet_since)
        except Closed:
            if self._stopping:
                raise Stopping from None
            raise
        finally:
            with self._lock:
                self._idle = False

    def _answers_posted(self, message: Message) -> bool:
        return self._outbox is not None and self._outbox.take(message)

    def _remember_cancel(self, command: Command) -> None:
        # Bounded: a peer could send cancels for ever.
        if command.responded_id is not None and len(self._cancelled) < 100:
            self._cancelled.add(command.responded_id)

    def _next_message(self) -> Message | None:
        if self._fragments_left:
            raise RuntimeError("the data set of the message before has not been read")
        data = bytearray()
        context_id = control = 0
        while not control & _LAST:
            found = self._next_fragment()
            if found is None:
                if data:
                    raise ProtocolError("released in the middle of a message", AbortReason.UNEXPECTED_PDU)
                self._release_requested = True
                return None
            length, context_id, control = found
            if not control & _COMMAND:
                raise ProtocolError("a data set without a command", AbortReason.UNEXPECTED_PDU)
            if len(data) + length > _COMMAND_LIMIT:
                raise ProtocolError("the command set is too large")
            for view in self._wire.stream(length):
                data += view
        command = Command.decode(data)
        context = self.contexts.get(context_id)
        if context is None:
            raise ProtocolError(f"presentation context {context_id} was not accepted")
        self._fragments_left = command.has_data_set
        return Message(command, context, self)

    def data_set_fragments(self, context: Context) -> Iterator[memoryview]:
        """The data set of the message that was read last: ``Message.fragments`` is what to use."""
        control = 0
        while not control & _LAST:
            found = self._next_fragment()
            if found is None:
                raise ProtocolError("released in the middle of a data set", AbortReason.UNEXPECTED_PDU)
            length, fragment_context_id, control = found
            if control & _COMMAND or fragment_context_id != context.context_id:
                raise ProtocolError("a fragment of another message in the middle of one")
            yield from self._wire.stream(length)
        self._fragments_left = False

    def _next_fragment(self) -> tuple[int, int, int] | None:
        """Length, context and control header of the next fragment; its bytes are to be read next. None: release."""
        while self._pdu_left == 0:
            kind, length = self._wire.header()
            if kind == PduType.P_DATA:
                if length > self._pdu_limit:
                    raise ProtocolError(f"P-DATA-TF of {length} bytes")
                self._pdu_left = length
                self.received_bytes += length
            elif kind == PduType.ABORT:
                raise Closed("aborted by the peer")
            elif kind == PduType.RELEASE_RQ:
                self._wire.payload(length)
                return None
            else:
                raise ProtocolError(f"PDU of type {kind} in an association", AbortReason.UNEXPECTED_PDU)
        if self._pdu_left < 6:
            raise ProtocolError("a P-DATA-TF that ends in the middle of a fragment")
        length, context_id, control = self._wire.pdv_header()
        if length < 0 or length + 6 > self._pdu_left:
            raise ProtocolError("a fragment longer than its P-DATA-TF")
        self._pdu_left -= length + 6
        return length, context_id, control

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, context_id: int, command: Command, data_set: bytes = b"") -> None:
        """A whole message at once."""
        self._wire.send(b"".join(self.encode(context_id, command, data_set)))

    def encode(self, context_id: int, command: Command, data_set: bytes = b"") -> list[bytes | memoryview]:
        """A whole message as bytes, for ``send_encoded``: many small ones go out faster together."""
        parts = self._pdus(context_id, _COMMAND, command.encode(), is_last=True)
        if command.has_data_set:
            parts += self._pdus(context_id, 0, data_set, is_last=True)
        return parts

    def send_encoded(self, parts: Iterable[bytes | memoryview]) -> None:
        self._wire.send(b"".join(parts))

    def send_stream(self, context_id: int, command: Command, chunks: Iterable[bytes]) -> None:
        """A message whose data set comes in pieces; no more than one piece is held."""
        parts = self._pdus(context_id, _COMMAND, command.encode(), is_last=True)
        pending = b""
        for chunk in _even(chunks):
            if pending:
                self._wire.send(*parts, *self._pdus(context_id, 0, pending, is_last=False))
                parts = []
            pending = chunk
        self._wire.send(*parts, *self._pdus(context_id, 0, pending, is_last=True))

    def _pdus(self, context_id: int, control: int, data: bytes, *, is_last: bool) -> list[bytes | memoryview]:
        view = memoryview(data)
        parts: list[bytes | memoryview] = []
        for start in range(0, len(view) or 1, self._fragment_bytes):
            fragment = view[start : start + self._fragment_bytes]
            ends = is_last and start + self._fragment_bytes >= len(view)
            size = len(fragment)
            parts.append(
                _P_DATA_HEADER.pack(PduType.P_DATA, 0, size + 6, size + 2, context_id, control | (_LAST if ends else 0))
            )
            parts.append(fragment)
        return parts

    # -- ending ----------------------------------------------------------------------------------------------------

    def set_timeout(self, timeout_s: float) -> None:
        """How long the peer may keep us waiting in the middle of something, from now on."""
        self._wire.set_timeout(timeout_s)

    def release(self) -> None:
        """As requestor: end the association in good order (PS3.8 7.2)."""
        self._wire.send(_RELEASE.pack(PduType.RELEASE_RQ, 0, 4, 0))
        while True:
            kind, length = self._wire.header()
            if kind in (PduType.RELEASE_RP, PduType.ABORT):
                return
            if length > self._pdu_limit:
                raise ProtocolError(f"PDU of {length} bytes")
            for _ in self._wire.stream(length):
                pass
            if kind == PduType.RELEASE_RQ:  # both at once: answer, and go on waiting (PS3.8 7.2.2.7)
                self.confirm_release()

    def confirm_release(self) -> None:
        """Answer the peer's A-RELEASE-RQ."""
        self._wire.send(_RELEASE.pack(PduType.RELEASE_RP, 0, 4, 0))

    def abort(self, reason: AbortReason | None = None) -> None:
        """reason None: we want to stop; else the peer broke the protocol."""
        if reason is None:
            self._wire.abort(0, AbortReason.NOT_SPECIFIED)
        else:
            self._wire.abort(2, reason)

    def close(self, linger_s: float = 0.0) -> None:
        """Close the connection; linger_s: how long the peer may take to do so first."""
        self.close_outbox()
        self._wire.close(linger_s)

    def close_outbox(self) -> None:
        """No request is taken any more; those not answered have failed."""
        if self._outbox is not None:
            self._outbox.close()

    def finish(self) -> None:
        """Let the operation under way end, and take no other: ``receive`` raises Stopping."""
        with self._lock:
            self._stopping = True
            if self._idle:
                self._wire.shut_reading()

    def kill(self) -> None:
        """Cut the connection, whatever is under way."""
        with self._lock:
            self._stopping = True
        self._wire.shut()


def _even(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of even length, with a NUL after them when they are odd.

    Fragments are even (PS3.8 E.1); DCMTK aborts the association over one that is not. Files of deflated data sets
    without their padding (PS3.5 A.5) are met in the field.
    """
    odd = b""
    for chunk in chunks:
        if odd:
            chunk, odd = odd + chunk, b""
        if len(chunk) % 2:
            chunk, odd = chunk[:-1], chunk[-1:]
        if chunk:
            yield chunk
    if odd:
        yield odd + b"\0"


_P_DATA_HEADER = Struct(">BBLLBB")
_RELEASE = Struct(">BBLL")
