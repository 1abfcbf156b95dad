"""The server itself: limits, start and stop, and peers that mean no good. It serves on in every case."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from statistics import median
from struct import pack

import pytest

from pacs.dicom.uids import new_uid
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from pacs.dimse.server import DimseServer
from pacs.dimse.wire import Closed, PduType, Timeouts
from pacs.errors import Invalid
from tests.builders import ct, data_set_of
from tests.server import dcmtk
from tests.unit.dimse.archive import dimse_archive
from tests.unit.dimse.peer import CT, EXPLICIT, IMPLICIT, VERIFICATION, TestPeer, connected, p_data

ECHO = Command(field=Field.C_ECHO, sop_class_uid=VERIFICATION, message_id=1)


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dimse")
    with dimse_archive(folder, max_associations=4, timeouts=Timeouts(associating_s=1.0, message_s=5.0)) as archive:
        yield archive


def is_serving(pacs):
    return dcmtk("echoscu", "127.0.0.1", str(pacs.port)).returncode == 0


def ends(connection, within_s=60.0):
    """Everything that the server still says before it closes."""
    connection.settimeout(within_s)
    found = b""
    try:
        while piece := connection.recv(4096):
            found += piece
    except ConnectionResetError:
        pass
    return found


def test_nobody_can_shut_it_down_from_afar(pacs):
    """DCMTK's termscu proposes a SOP class by which its own servers are told to end."""
    run = dcmtk("termscu", "-v", "127.0.0.1", str(pacs.port))
    assert "Releasing Association" in run.stdout, "an SCP that ends so aborts the association"
    assert is_serving(pacs)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS client
        b"\x00" * 100,
        b"\xff" * 100,
        b"\x01\x00\xff\xff\xff\xff" + bytes(100),  # A-ASSOCIATE-RQ of 4 GB
        b"\x01\x00\x00\x00\x00\x04\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\x00\x64" + bytes(100),
        b"\x04\x00\x00\x00\x00\x0a" + bytes(10),  # data before an association
        b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00",
    ],
)
def test_garbage_before_an_association_is_aborted_with_one_line_in_the_log(pacs, caplog, sent):
    caplog.set_level(logging.INFO)
    with socket.create_connection(("127.0.0.1", pacs.port)) as connection:
        address = f"127.0.0.1:{connection.getsockname()[1]}"
        connection.sendall(sent)
        assert ends(connection)[:1] == b"\x07"
    records = [r for r in caplog.records if r.name.startswith("pynetdicom") or address in r.getMessage()]
    assert len(records) == 1
    assert records[0].levelno == logging.WARNING
    assert records[0].exc_info is None
    assert is_serving(pacs)


def test_random_garbage_never_takes_the_server_down(pacs):
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", pacs.port)) as connection:
            connection.sendall(os.urandom(300))
            ends(connection)
    assert is_serving(pacs)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x04\x00\xff\xff\xff\xff" + bytes(1000),
        b"\x07\x00\xff\xff\xff\xff",
        b"\x09\x00\x00\x00\x00\x04",
        p_data(99, 3, ECHO.encode()),
        p_data(1, 3, os.urandom(100)),
        p_data(1, 2, b"data"),
        p_data(1, 3, Command(field=0x8030, responded_id=1).encode()),  # a response that nobody waits for
    ],
)
def test_garbage_within_an_association_is_aborted(pacs, caplog, sent):
    with connected(pacs.port, (VERIFICATION, [IMPLICIT])) as peer:
        peer.wire.send(sent)
        answer = ends(peer.socket)
    assert answer[:1] in (b"\x07", b"")
    assert not any(record.exc_info for record in caplog.records)
    assert is_serving(pacs)


def test_a_connection_that_never_associates_is_closed(pacs):
    with socket.create_connection(("127.0.0.1", pacs.port)) as connection:
        began = time.monotonic()
        ends(connection)
        assert 0.5 < time.monotonic() - began < 4


def test_a_slow_loris_does_not_get_more_time_by_sending_single_bytes(pacs):
    with socket.create_connection(("127.0.0.1", pacs.port)) as connection:
        began = time.monotonic()
        connection.sendall(b"\x01\x00\x00\x00\x01\x00")
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 10:
                connection.sendall(b"\x00")
                time.sleep(0.05)
        assert time.monotonic() - began < 4


def test_associations_over_the_limit_are_rejected_as_transient(pacs):
    peers = [TestPeer(pacs.port, (VERIFICATION, [IMPLICIT])) for _ in range(4)]
    try:
        assert all(peer.is_accepted for peer in peers)
        fifth = TestPeer(pacs.port, (VERIFICATION, [IMPLICIT]))
        assert fifth.answer == b"\x03\0\0\0\0\4\0\2\3\2"
        fifth.close()
        peers[0].association.release()
        peers[0].close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            again = TestPeer(pacs.port, (VERIFICATION, [IMPLICIT]))
            again.close()
            if again.is_accepted:
                break
        assert again.is_accepted
    finally:
        for peer in peers:
            peer.close()
    assert pacs.server.port


def test_waiting_connections_do_not_take_the_places_of_associations(pacs):
    waiting = [socket.create_connection(("127.0.0.1", pacs.port)) for _ in range(15)]
    assert is_serving(pacs)
    for connection in waiting:
        connection.close()


def test_tcp_nodelay_is_set_on_accepted_connections(pacs):
    with connected(pacs.port, (VERIFICATION, [IMPLICIT])) as peer:
        took = []
        for message_id in range(1, 21):
            began = time.monotonic()
            peer.association.send(1, Command(field=Field.C_ECHO, sop_class_uid=VERIFICATION, message_id=message_id))
            assert peer.association.response(message_id).command.status == 0
            took.append(time.monotonic() - began)
        assert median(took) < 0.02  # a delayed ACK costs 40 ms
        wires = list(pacs.server._connections.values())
        assert all(wire._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for wire in wires)


def test_another_called_ae_title_is_rejected_when_strict(tmp_path):
    with dimse_archive(tmp_path, strict_called=True) as pacs:
        assert dcmtk("echoscu", "-aec", "ARCHIVE", "127.0.0.1", str(pacs.port)).returncode == 0
        assert "Called AE Title Not Recognized" in dcmtk("echoscu", "-aec", "OTHER", "127.0.0.1", str(pacs.port)).stdout


def test_a_taken_port_is_named(pacs):
    second = DimseServer(
        pacs.store,
        None,
        pacs.retrieve,
        ae_title="SECOND",
        host="127.0.0.1",
        port=pacs.port,
        peers=None,
    )
    with pytest.raises(Invalid, match=str(pacs.port)):
        second.start()
    second.stop()


def test_stop_lets_what_is_under_way_end_and_takes_nothing_new(tmp_path):
    sop_uid, study_uid = new_uid(), new_uid()
    data = data_set_of(ct(study_uid, sop_uid=sop_uid))
    command = Command(field=Field.C_STORE, sop_class_uid=CT, message_id=1, data_set_type=HAS_DATA_SET, sop_uid=sop_uid)
    with (
        dimse_archive(tmp_path) as pacs,
        connected(pacs.port, (CT, [EXPLICIT])) as busy,
        connected(pacs.port, (CT, [EXPLICIT])) as idle,
    ):
        busy.wire.send(p_data(1, 3, command.encode()) + p_data(1, 0, data[:1000]))
        time.sleep(0.2)
        stopping = threading.Thread(target=pacs.server.stop, args=(10,))
        stopping.start()
        assert ends(idle.socket) == pack(">BBLBBBB", 7, 0, 4, 0, 0, 0, 0)
        with pytest.raises(OSError, match=r".*"):
            socket.create_connection(("127.0.0.1", pacs.port)).close()
        busy.wire.send(p_data(1, 2, data[1000:]))
        assert busy.association.response(1).command.status == 0
        assert busy.wire.header()[0] == PduType.ABORT
        stopping.join(60)
        assert not stopping.is_alive()
        assert pacs.holds(study_uid) == 1


def test_stop_cuts_off_what_does_not_end_in_time(tmp_path):
    with dimse_archive(tmp_path) as pacs, connected(pacs.port, (CT, [EXPLICIT])) as peer:
        command = Command(
            field=Field.C_STORE, sop_class_uid=CT, message_id=1, data_set_type=HAS_DATA_SET, sop_uid=new_uid()
        )
        peer.wire.send(p_data(1, 3, command.encode()) + p_data(1, 0, b"x" * 1000))
        time.sleep(0.2)
        began = time.monotonic()
        pacs.server.stop(0.5)
        assert time.monotonic() - began < 4
        with pytest.raises(Closed):
            peer.association.response(1)
        assert pacs.eventually_nothing_incoming()
