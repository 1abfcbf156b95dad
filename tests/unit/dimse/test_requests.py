"""What is made of a peer's answers to C-MOVE and C-GET, those that say little among them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pacs.dicom.model import Level
from pacs.dimse import negotiation
from pacs.dimse.association import Association, Message
from pacs.dimse.negotiation import Proposal
from pacs.dimse.peers import Peer
from pacs.dimse.requests import Progress, Requests
from pacs.dimse.status import PENDING, SUB_OPERATIONS_FAILED, SUCCESS, Status
from pacs.dimse.wire import PduType, Timeouts, Wire
from pacs.errors import PeerFailed

KEYS = {"0020000D": {"vr": "UI", "Value": ["1.2"]}}


@contextmanager
def peer(answer: Callable[[Message], None]) -> Iterator[Requests]:
    """A peer that takes one association and gives these answers to its one request."""

    def serve() -> None:
        connection, _ = listener.accept()
        wire = Wire(connection, 10)
        _, length = wire.header()
        pdu = bytes((PduType.ASSOCIATE_RQ, 0)) + length.to_bytes(4, "big") + wire.payload(length)
        proposal = negotiation.parse_request(pdu)
        assert isinstance(proposal, Proposal)
        accepted, reply = negotiation.accept(proposal, 16384)
        wire.send(reply)
        association = Association(wire, accepted, 16384)
        message = association.receive()
        assert message is not None
        message.drain()
        answer(message)
        assert association.receive() is None  # released, not aborted
        association.confirm_release()
        association.close(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Requests(Peer("PEER", "127.0.0.1", listener.getsockname()[1]), "US", Timeouts(5, 5))
        thread.join(60)


def moved(*answers: tuple[int, dict[str, Any]]) -> list[Progress]:
    def answer(message: Message) -> None:
        for status, elements in answers:
            message.respond(Status(status), **elements)

    with peer(answer) as requests:
        return list(requests.move("US", Level.STUDY, KEYS))


def test_what_the_last_answer_leaves_out_stays_as_it_was() -> None:
    steps = moved(
        (PENDING, {"remaining": 2, "completed": 1, "failed": 0, "warnings": 0}),
        (PENDING, {"remaining": 0, "completed": 2, "failed": 0, "warnings": 1}),
        (SUCCESS, {}),
    )
    assert steps == [Progress(2, 1, 0, 0), Progress(0, 2, 0, 1), Progress(None, 2, 0, 1)]


@pytest.mark.parametrize(("elements", "failed"), [({}, 1), ({"completed": 3}, 1), ({"failed": 4}, 4)])
def test_a_failure_without_a_number_is_no_success(elements: dict[str, Any], failed: int) -> None:
    assert moved((SUB_OPERATIONS_FAILED, elements))[-1].failed == failed


def test_warnings_alone_are_no_failure() -> None:
    assert moved((SUB_OPERATIONS_FAILED, {"completed": 1, "warnings": 2}))[-1] == Progress(None, 1, 0, 2)


def test_a_refusal_says_its_status_and_comment() -> None:
    def answer(message: Message) -> None:
        message.respond(Status(0xA801, "who is that?"))

    with peer(answer) as requests, pytest.raises(PeerFailed, match=r"PEER answered A801H who is that\?"):
        list(requests.move("NOBODY", Level.STUDY, KEYS))
