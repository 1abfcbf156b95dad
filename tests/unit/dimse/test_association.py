"""Messages over a connection, as peers send them in the field: fragmented, packed, oversized, interrupted."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from struct import pack

import pytest

from pacs.dimse.association import Association, Stopping
from pacs.dimse.command import HAS_DATA_SET, RESPONSE, Command, Field
from pacs.dimse.negotiation import Accepted, Context
from pacs.dimse.status import Status
from pacs.dimse.wire import AbortReason, Closed, ProtocolError, Wire
from pacs.errors import TooLarge
from tests.unit.dimse.peer import CT, EXPLICIT, VERIFICATION, p_data

CONTEXTS = {1: Context(1, VERIFICATION, EXPLICIT), 3: Context(3, CT, EXPLICIT)}
ECHO = Command(field=Field.C_ECHO, message_id=5)
STORE = Command(field=Field.C_STORE, message_id=6, sop_class_uid=CT, data_set_type=HAS_DATA_SET)
CANCEL_6 = Command(field=Field.C_CANCEL, responded_id=6)
RELEASE = pack(">BBLL", 5, 0, 4, 0)
ABORT = pack(">BBLL", 7, 0, 4, 0)


@pytest.fixture
def ends():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    theirs.settimeout(10)
    yield Association(Wire(ours, 5), Accepted(CONTEXTS, 16384), 131072), theirs
    ours.close()
    theirs.close()


def test_a_message_in_one_byte_fragments_is_read(ends):
    association, peer = ends
    data = STORE.encode()
    for position in range(len(data)):
        peer.sendall(p_data(3, 3 if position == len(data) - 1 else 1, data[position : position + 1]))
    peer.sendall(p_data(3, 0, b"abc") + p_data(3, 0, b"") + p_data(3, 2, b"def"))
    message = association.receive()
    assert message.command == STORE
    assert b"".join(bytes(view) for view in message.fragments()) == b"abcdef"


def test_command_and_data_in_one_pdu_are_told_apart(ends):
    association, peer = ends
    command = STORE.encode()
    first = pack(">LBB", len(command) + 2, 3, 3) + command
    second = pack(">LBB", 5, 3, 2) + b"xyz"
    peer.sendall(pack(">BBL", 4, 0, len(first) + len(second)) + first + second)
    assert association.receive().data_set() == b"xyz"


def test_what_is_written_bytewise_is_read(ends):
    association, peer = ends

    def dribble():
        for byte in p_data(1, 3, ECHO.encode()):
            peer.sendall(bytes((byte,)))

    thread = threading.Thread(target=dribble)
    thread.start()
    assert association.receive().command == ECHO
    thread.join()


def test_a_large_data_set_passes_through_the_buffer_unharmed(ends):
    association, peer = ends
    pieces = [bytes((i % 251,)) * (131060 - i) for i in range(40)]

    def send():
        peer.sendall(p_data(3, 3, STORE.encode()))
        for piece in pieces:
            peer.sendall(p_data(3, 0, piece))
        peer.sendall(p_data(3, 2, b""))

    thread = threading.Thread(target=send)
    thread.start()
    assert b"".join(bytes(view) for view in association.receive().fragments()) == b"".join(pieces)
    thread.join()


def test_a_handler_that_gave_up_can_drain_the_rest(ends):
    association, peer = ends
    peer.sendall(p_data(3, 3, STORE.encode()) + p_data(3, 0, b"x" * 1000) + p_data(3, 2, b"y" * 1000))
    peer.sendall(p_data(1, 3, ECHO.encode()))
    message = association.receive()
    next(message.fragments())
    message.drain()
    assert association.receive().command == ECHO


def test_a_data_set_over_the_limit_is_refused_after_it_was_read(ends):
    association, peer = ends
    peer.sendall(p_data(3, 3, STORE.encode()) + p_data(3, 2, b"x" * 1000) + p_data(1, 3, ECHO.encode()))
    with pytest.raises(TooLarge):
        association.receive().data_set(limit=999)
    assert association.receive().command == ECHO


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", AbortReason.UNRECOGNIZED_PDU),
        (b"\x04\0\xff\xff\xff\xff", AbortReason.INVALID_VALUE),  # P-DATA of 4 GB
        (b"\x05\0\xff\xff\xff\xff", AbortReason.INVALID_VALUE),  # A-RELEASE-RQ of 4 GB
        (b"\x01\0\0\0\0\4\0\0\0\0", AbortReason.UNEXPECTED_PDU),  # another A-ASSOCIATE-RQ
        (b"\x04\0\0\0\0\5\0\0\0\0\0", AbortReason.INVALID_VALUE),  # too short for a fragment
        (pack(">BBLLBB", 4, 0, 6, 1000, 1, 3), AbortReason.INVALID_VALUE),  # a fragment longer than its PDU
        (pack(">BBLLBB", 4, 0, 6, 1, 1, 3), AbortReason.INVALID_VALUE),  # a fragment shorter than its header
        (p_data(5, 3, ECHO.encode()), AbortReason.INVALID_VALUE),  # a context that was not accepted
        (p_data(1, 3, b"nonsense"), AbortReason.INVALID_VALUE),
        (p_data(1, 2, b"data"), AbortReason.UNEXPECTED_PDU),  # data without a command
        (p_data(1, 1, b"\0" * 60000) * 2, AbortReason.INVALID_VALUE),  # a command without an end
        (p_data(1, 1, ECHO.encode()[:4]) + RELEASE, AbortReason.UNEXPECTED_PDU),
    ],
)
def test_a_broken_protocol_is_told_with_its_reason(ends, sent, reason):
    association, peer = ends
    peer.sendall(sent)
    with pytest.raises(ProtocolError) as caught:
        association.receive()
    assert caught.value.reason == reason


def test_a_data_set_on_another_context_is_a_protocol_error(ends):
    association, peer = ends
    peer.sendall(p_data(3, 3, STORE.encode()) + p_data(1, 2, b"x"))
    with pytest.raises(ProtocolError):
        association.receive().drain()


@pytest.mark.parametrize("sent", [b"", b"\x04\0", p_data(3, 3, STORE.encode()) + p_data(3, 2, b"x" * 100)[:50]])
def test_a_peer_that_vanishes_anywhere_is_noticed(ends, sent):
    association, peer = ends
    peer.sendall(sent)
    peer.close()
    with pytest.raises(Closed):
        association.receive().drain()


def test_a_silent_peer_in_the_middle_of_a_pdu_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    association = Association(Wire(ours, 0.2), Accepted(CONTEXTS, 0), 131072)
    theirs.sendall(b"\x04\0\0")
    began = time.monotonic()
    with pytest.raises(Closed, match="in time"):
        association.receive()
    assert time.monotonic() - began < 2
    ours.close()
    theirs.close()


def test_between_requests_the_peer_may_be_silent_for_longer_than_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    association = Association(Wire(ours, 0.1), Accepted(CONTEXTS, 0), 131072)
    threading.Timer(0.5, theirs.sendall, (p_data(1, 3, ECHO.encode()),)).start()
    assert association.receive().command == ECHO
    with pytest.raises(Closed, match="idle"):
        association.receive(idle_s=0.2)
    ours.close()
    theirs.close()


def test_an_abort_ends_it(ends):
    association, peer = ends
    peer.sendall(ABORT)
    with pytest.raises(Closed, match="aborted by the peer"):
        association.receive()


def test_a_cancel_in_the_middle_of_an_operation_is_seen(ends):
    association, peer = ends
    assert not association.is_cancelled(6)
    peer.sendall(p_data(3, 3, CANCEL_6.encode()))
    time.sleep(0.05)
    assert not association.is_cancelled(5)
    assert association.is_cancelled(6)


def test_a_cancel_that_comes_too_late_cancels_nothing(ends):
    association, peer = ends
    peer.sendall(p_data(3, 3, CANCEL_6.encode()) + p_data(1, 3, ECHO.encode()))
    assert association.receive().command == ECHO
    assert not association.is_cancelled(6)


def test_a_cancel_before_the_response_of_a_sub_operation_is_remembered(ends):
    association, peer = ends
    response = Command(field=Field.C_STORE | RESPONSE, responded_id=1, status=0)
    peer.sendall(p_data(3, 3, CANCEL_6.encode()) + p_data(3, 3, response.encode()))
    assert association.response(1).command == response
    assert association.is_cancelled(6)


def test_a_release_in_the_middle_of_an_operation_ends_it_and_is_answered_after_it(ends):
    association, peer = ends
    peer.sendall(RELEASE)
    time.sleep(0.05)
    assert association.is_cancelled(6)
    assert association.receive() is None
    association.confirm_release()
    assert peer.recv(100) == pack(">BBLL", 6, 0, 4, 0)


def test_a_second_request_in_the_middle_of_one_is_a_protocol_error(ends):
    association, peer = ends
    peer.sendall(p_data(1, 3, ECHO.encode()))
    time.sleep(0.05)
    with pytest.raises(ProtocolError):
        association.is_cancelled(6)


def test_no_pdu_is_longer_than_the_peer_takes_and_fragments_are_even(ends):
    association, peer = ends
    chunks = [b"a" * 100_001, b"", b"b" * 3, b"c" * 20_000]
    thread = threading.Thread(target=association.send_stream, args=(3, STORE, chunks))
    thread.start()
    reader = Association(Wire(peer, 5), Accepted(CONTEXTS, 0), 16384)
    message = reader.receive()
    found = []
    while True:
        length, _, control = reader._next_fragment()
        assert length + 6 <= 16384
        assert length % 2 == 0
        found.append(b"".join(bytes(view) for view in reader._wire.stream(length)))
        if control & 2:
            break
    thread.join()
    assert message.command == STORE
    assert b"".join(found) == b"".join(chunks)


def test_an_odd_data_set_is_padded(ends):
    association, peer = ends
    association.send_stream(3, STORE, [b"abc", b"de", b"", b"fg"])
    reader = Association(Wire(peer, 5), Accepted(CONTEXTS, 0), 16384)
    assert reader.receive().data_set() == b"abcdefg\0"


def test_an_empty_data_set_is_still_ended(ends):
    association, peer = ends
    association.send_stream(3, STORE, [])
    reader = Association(Wire(peer, 5), Accepted(CONTEXTS, 0), 16384)
    assert reader.receive().data_set() == b""


def test_a_peer_that_does_not_read_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    association = Association(Wire(ours, 0.2), Accepted(CONTEXTS, 0), 131072)
    with pytest.raises(Closed, match="does not read"):
        association.send_stream(3, STORE, (bytes(1 << 20) for _ in range(100)))
    ours.close()
    theirs.close()


def test_sending_holds_no_more_than_a_piece_at_a_time(ends):
    association, peer = ends
    taken = []

    def chunks():
        for number in range(200):
            taken.append(number)
            yield bytes(1 << 20)

    def send():
        with contextlib.suppress(Closed):
            association.send_stream(3, STORE, chunks())

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    time.sleep(0.5)  # nobody reads: what the sockets hold is all that is taken
    assert len(taken) < 20
    peer.close()
    thread.join(60)


def test_finish_wakes_an_association_that_waits(ends):
    association, peer = ends
    threading.Timer(0.1, association.finish).start()
    with pytest.raises(Stopping):
        association.receive()
    association.abort()
    assert peer.recv(100) == pack(">BBLBBBB", 7, 0, 4, 0, 0, 0, 0)


def test_finish_lets_the_request_under_way_end(ends):
    association, peer = ends
    peer.sendall(p_data(3, 3, STORE.encode()))
    message = association.receive()
    association.finish()
    peer.sendall(p_data(3, 2, b"whole"))
    assert message.data_set() == b"whole"
    message.respond(Status(0))
    assert Command.decode(peer.recv(1000)[12:]).status == 0
    with pytest.raises(Stopping):
        association.receive()
