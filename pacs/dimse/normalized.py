"""DIMSE-N as SCU (PS3.7 10): several operations and notifications over one association to a peer."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from pacs.dicom.model import Attributes, Caller
from pacs.dimse.association import Association, Message
from pacs.dimse.command import RESPONSE, Command, Field
from pacs.dimse.outbox import Answer, Request, event_report, read_answer
from pacs.dimse.service import Services, serve_request
from pacs.dimse.wire import AbortReason, Closed, ProtocolError
from pacs.errors import PeerFailed


class NormalizedUser:
    """Made by ``Requests.normalized``. Each method asks, and returns the peer's answer: Success or a Warning.

    All raise PeerFailed: with the peer's status when it refuses, after which the association can be used on; without
    when there can be no answer. context: the abstract syntax to ask on, where it is not the SOP class (PS3.4 CC:
    UPS Push is asked for on the contexts of UPS Pull, Watch and Query too).
    """

    def __init__(self, association: Association, peer: Caller, services: Services, answer_s: float) -> None:
        self._association = association
        self._peer = peer
        self._services = services
        self._answer_s = answer_s
        self._message_id = 0
        self._ended = ""  # why

    def create(
        self, sop_class: str, sop_uid: str | None, attributes: Attributes | None, context: str | None = None
    ) -> Answer:
        """N-CREATE. sop_uid None: the peer chooses, and its answer says which."""
        command = Command(Field.N_CREATE, sop_class, sop_uid=sop_uid)
        return self._ask(Request(context or sop_class, command, attributes))

    def set(self, sop_class: str, sop_uid: str, attributes: Attributes, context: str | None = None) -> Answer:
        """N-SET: attributes are those to be changed."""
        return self._ask(_request(Field.N_SET, sop_class, sop_uid, context, attributes))

    def get(self, sop_class: str, sop_uid: str, tags: Sequence[str] = (), context: str | None = None) -> Answer:
        """N-GET. tags: of the attributes wanted, "00100020"; none for all."""
        request = _request(Field.N_GET, sop_class, sop_uid, context, attribute_list=tuple(tags) or None)
        return self._ask(request)

    def action(
        self,
        sop_class: str,
        sop_uid: str,
        action_type: int,
        attributes: Attributes | None = None,
        context: str | None = None,
    ) -> Answer:
        """N-ACTION."""
        return self._ask(_request(Field.N_ACTION, sop_class, sop_uid, context, attributes, action_type=action_type))

    def delete(self, sop_class: str, sop_uid: str, context: str | None = None) -> Answer:
        """N-DELETE."""
        return self._ask(_request(Field.N_DELETE, sop_class, sop_uid, context))

    def report(
        self,
        sop_class: str,
        sop_uid: str,
        event_type: int,
        attributes: Attributes | None = None,
        context: str | None = None,
    ) -> Answer:
        """N-EVENT-REPORT, as the SCP of the service: the association's roles have to say so (PS3.7 D.3.3.4)."""
        return self._ask(event_report(sop_class, sop_uid, event_type, attributes, context))

    def listen(self, within_s: float) -> bool:
        """Serve one request of the peer's, an N-EVENT-REPORT for example; False when none comes within that time.

        Raises PeerFailed when the peer ends the association.
        """
        with self._usable() as association:
            if not association.is_readable(within_s):
                return False
            self._serve(self._receive(association))
            return True

    def _ask(self, request: Request) -> Answer:
        with self._usable() as association:
            self._message_id = self._message_id % 0xFFFF + 1
            command, parts = request.encode(association, self._message_id, self._peer.name)
            association.send_encoded(parts)
            expected = (command.field | RESPONSE, command.message_id)
            while True:
                message = self._receive(association)
                if (message.command.field, message.command.responded_id) == expected:
                    return read_answer(message, self._peer.name)
                self._serve(message)  # it asked something before it had read our request

    @contextmanager
    def _usable(self) -> Generator[Association, None, None]:
        if self._ended:
            raise PeerFailed(self._ended)
        try:
            yield self._association
        except (Closed, ProtocolError) as error:
            self._ended = f"{self._peer.name}: {error}"
            if isinstance(error, ProtocolError):
                self._association.abort(error.reason)
            self._association.kill()
            raise PeerFailed(self._ended) from error

    def _receive(self, association: Association) -> Message:
        message = association.receive(self._answer_s)
        if message is None:
            association.confirm_release()
            raise Closed("released by the peer")
        return message

    def _serve(self, message: Message) -> None:
        if message.command.field & RESPONSE:
            raise ProtocolError("another message than the response that was due", AbortReason.UNEXPECTED_PDU)
        serve_request(message, self._peer, self._services.serve)


def _request(
    field: Field,
    sop_class: str,
    sop_uid: str,
    context: str | None,
    attributes: Attributes | None = None,
    *,
    attribute_list: tuple[str, ...] | None = None,
    action_type: int | None = None,
) -> Request:
    """Of those that name the Requested SOP Class and Instance (PS3.7 10.3.2 to 10.3.4, 10.3.6)."""
    command = Command(
        field,
        requested_sop_class_uid=sop_class,
        requested_sop_uid=sop_uid,
        attribute_list=attribute_list,
        action_type=action_type,
    )
    return Request(context or sop_class, command, attributes)
