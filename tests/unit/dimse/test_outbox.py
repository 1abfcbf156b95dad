"""Requests of ours on an association that the peer opened: in order, and never lost without a word."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pacs.dimse.association import Association, Message, Stopping
from pacs.dimse.command import RESPONSE, Command, Field
from pacs.dimse.negotiation import Accepted, Context
from pacs.dimse.outbox import Answer, Outbox, Request, event_report
from pacs.dimse.status import Status
from pacs.dimse.wire import Closed, Wire
from pacs.errors import PeerFailed
from tests.unit.dimse.peer import CT, EXPLICIT, VERIFICATION

COMMITMENT = "1.2.840.10008.1.20.1"
CONTEXTS = {1: Context(1, VERIFICATION, EXPLICIT), 3: Context(3, CT, EXPLICIT), 5: Context(5, COMMITMENT, EXPLICIT)}
ECHO = Command(Field.C_ECHO, VERIFICATION, message_id=5)
TRANSACTION = {"00081195": {"vr": "UI", "Value": ["1.2.3"]}}


def report(event_type: int = 1) -> Request:
    return event_report(COMMITMENT, "1.2.840.10008.1.20.1.1", event_type, TRANSACTION)


@dataclass
class Ends:
    ours: Association
    theirs: Association
    connection: socket.socket
    servers: list[Server] = field(default_factory=list)

    def serve(self) -> Server:
        server = Server(self.ours)
        self.servers.append(server)
        return server

    def release(self) -> None:
        self.connection.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")

    def abort(self) -> None:
        self.connection.sendall(b"\x07\0\0\0\0\x04\0\0\0\0")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=archive", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


@pytest.fixture(params=["plain", "tls"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    if request.param == "tls":
        ours, theirs = _secured(ours, theirs, *request.getfixturevalue("certificate"))
    accepted = Accepted(CONTEXTS, 16384)
    association = Association(Wire(ours, 5), accepted, 131072)
    association._outbox = Outbox(quiet_s=0)
    ends = Ends(association, Association(Wire(theirs, 5), accepted, 131072), theirs)
    yield ends
    theirs.close()
    for server in ends.servers:
        server.join(60)
        assert not server.is_alive()
    association.close()


def _secured(ours: socket.socket, theirs: socket.socket, key: Path, certificate: Path) -> list[socket.socket]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=certificate)
    client.check_hostname = False
    secured: list[socket.socket] = []
    thread = threading.Thread(target=lambda: secured.append(server.wrap_socket(ours, server_side=True)))
    thread.start()
    theirs = client.wrap_socket(theirs)
    thread.join()
    return [*secured, theirs]


class Server(threading.Thread):
    """Our end, as the session serves it: every request is answered with Success."""

    def __init__(self, association: Association) -> None:
        super().__init__(daemon=True)
        self.association = association
        self.outbox = association.outbox()
        self.served: list[int] = []
        self.ended: object = None
        self.start()

    def run(self) -> None:
        try:
            while (message := self.association.receive()) is not None:
                message.drain()
                self.served.append(message.command.field)
                message.respond(Status(0))
            self.ended = "released"
        except (Closed, Stopping) as error:
            self.ended = error
        finally:
            self.association.close_outbox()


def received(ends: Ends) -> Message:
    message = ends.theirs.receive(5)
    assert message is not None
    return message


def failure(future: Future[Answer]) -> PeerFailed:
    error = future.exception(5)
    assert isinstance(error, PeerFailed)
    return error


def test_a_request_goes_out_while_the_peer_is_idle(ends: Ends) -> None:
    server = ends.serve()
    time.sleep(0.1)  # it waits for the peer by now
    future = server.outbox.post(report())
    message = received(ends)
    assert message.command == Command(
        Field.N_EVENT_REPORT,
        COMMITMENT,
        message_id=1,
        data_set_type=1,
        sop_uid="1.2.840.10008.1.20.1.1",
        event_type=1,
    )
    assert message.data_set() == b"\x08\0\x95\x11UI\x06\x001.2.3\0"
    message.respond(Status(0), {"00100020": {"vr": "LO", "Value": ["P"]}})
    assert future.result(60) == Answer(0, "1.2.840.10008.1.20.1.1", {"00100020": {"vr": "LO", "Value": ["P"]}})


def test_posts_of_many_threads_are_asked_one_after_the_other(ends: Ends) -> None:
    server = ends.serve()
    futures: list[Future[Answer]] = []
    threads = [threading.Thread(target=lambda: futures.append(server.outbox.post(report()))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(20):
        message = received(ends)
        message.drain()
        if number < 3:  # nothing comes before the answer
            assert not ends.theirs.is_readable(0.05)
        assert message.command.message_id == number + 1
        message.respond(Status(0))
    assert [future.result(60).status for future in futures] == [0] * 20


def test_a_peer_that_asks_before_it_answers_is_served(ends: Ends) -> None:
    server = ends.serve()
    first, second = server.outbox.post(report(1)), server.outbox.post(report(2))
    message = received(ends)
    message.drain()
    for number in range(3):
        ends.theirs.send(1, Command(Field.C_ECHO, VERIFICATION, message_id=number))
        assert received(ends).command.responded_id == number
    assert not first.done()
    message.respond(Status(0))
    message = received(ends)
    message.drain()
    assert message.command.event_type == 2
    assert first.result(60).status == 0
    message.respond(Status(0))
    assert second.result(60).status == 0


def test_it_waits_for_the_end_of_the_peers_request(ends: Ends) -> None:
    outbox = ends.ours.outbox()
    ends.theirs.send(1, ECHO)
    message = ends.ours.receive()
    assert message is not None
    outbox.post(report())
    message.respond(Status(0))
    ends.serve()
    assert received(ends).command.field == Field.C_ECHO | RESPONSE
    message = received(ends)
    message.drain()
    assert message.command.field == Field.N_EVENT_REPORT


def test_a_request_that_has_arrived_does_not_hold_it_up(ends: Ends) -> None:
    outbox = ends.ours.outbox()
    outbox.post(report())
    ends.theirs.send(1, ECHO)
    time.sleep(0.05)
    message = ends.ours.receive()
    assert message is not None
    assert message.command == ECHO
    event = received(ends)
    assert event.command.field == Field.N_EVENT_REPORT


def test_nothing_comes_between_the_requests_of_a_busy_peer(ends: Ends) -> None:
    ends.ours._outbox = Outbox(quiet_s=1.0)
    server = ends.serve()
    future = server.outbox.post(report())
    for number in range(20):
        ends.theirs.send(1, Command(Field.C_ECHO, VERIFICATION, message_id=number))
        assert received(ends).command.field == Field.C_ECHO | RESPONSE
    assert not future.running()
    message = received(ends)
    message.drain()
    assert message.command.field == Field.N_EVENT_REPORT
    message.respond(Status(0))
    assert future.result(60).status == 0


@pytest.mark.parametrize("ending", ["release", "abort"])
def test_nothing_is_sent_to_a_peer_that_is_on_its_way_out(ends: Ends, ending: str) -> None:
    future = ends.ours.outbox().post(report())
    getattr(ends, ending)()
    time.sleep(0.05)
    server = ends.serve()
    server.join(60)
    assert "ended" in str(failure(future))
    assert server.ended == "released" if ending == "release" else isinstance(server.ended, Closed)
    ends.ours.kill()
    with pytest.raises(Closed):
        ends.theirs.receive()


@pytest.mark.parametrize("ending", ["release", "abort", "close"])
def test_a_peer_that_leaves_instead_of_answering_fails_it_and_what_follows(ends: Ends, ending: str) -> None:
    server = ends.serve()
    futures = [server.outbox.post(report()), server.outbox.post(report())]
    received(ends).drain()
    ends.connection.shutdown(socket.SHUT_RDWR) if ending == "close" else getattr(ends, ending)()
    assert [failure(future).status for future in futures] == [None, None]
    server.join(60)
    assert "ended" in str(failure(server.outbox.post(report())))


def test_a_peer_that_leaves_in_the_middle_of_its_answer_fails_it(ends: Ends) -> None:
    server = ends.serve()
    future = server.outbox.post(report())
    message = received(ends)
    message.drain()
    answer = message.response(Status(0), data_set_type=1)
    ends.theirs.send_encoded(ends.theirs.encode(5, answer, b"x" * 100)[:2])
    ends.abort()
    assert "ended" in str(failure(future))


def test_an_answer_that_cannot_be_read_is_a_failure_and_not_the_end(ends: Ends) -> None:
    server = ends.serve()
    future = server.outbox.post(report())
    message = received(ends)
    message.drain()
    ends.theirs.send(5, message.response(Status(0), data_set_type=1), b"nonsense")
    assert "cannot be read" in str(failure(future))
    ends.theirs.send(1, ECHO)
    assert received(ends).command.field == Field.C_ECHO | RESPONSE


def test_a_refusal_has_its_status(ends: Ends) -> None:
    server = ends.serve()
    future = server.outbox.post(report())
    message = received(ends)
    message.drain()
    message.respond(Status(0x0113, "what event?"))
    assert failure(future).status == 0x0113
    assert "answered 0113H what event?" in str(failure(future))


def test_what_was_cancelled_in_time_is_not_sent(ends: Ends) -> None:
    outbox = ends.ours.outbox()
    first, second = outbox.post(report(1)), outbox.post(report(2))
    assert first.cancel()
    ends.serve()
    message = received(ends)
    message.drain()
    assert message.command.event_type == 2
    assert not second.cancel()
    message.respond(Status(0))
    assert second.result(60).status == 0


def test_a_peer_that_never_answers_is_asked_nothing_more_and_served_on(ends: Ends) -> None:
    ends.ours._outbox = Outbox(answer_s=0.2, quiet_s=0)
    server = ends.serve()
    futures = [server.outbox.post(report()), server.outbox.post(report())]
    message = received(ends)
    message.drain()
    assert [str(failure(future)) for future in futures] == ["no answer in time"] * 2
    assert str(failure(server.outbox.post(report()))) == "no answer in time"
    message.respond(Status(0))  # too late: it means nothing, and breaks nothing
    ends.theirs.send(1, ECHO)
    assert received(ends).command.field == Field.C_ECHO | RESPONSE


def test_what_cannot_be_sent_fails_alone(ends: Ends) -> None:
    server = ends.serve()
    unknown = server.outbox.post(event_report("1.2.3", "1.2.4", 1))
    broken = server.outbox.post(event_report(COMMITMENT, "1.2.4", 1, {"00081195": {"vr": "US", "Value": ["one"]}}))
    assert "does not offer" in str(failure(unknown))
    assert broken.exception(5) is not None
    future = server.outbox.post(report())
    message = received(ends)
    message.drain()
    message.respond(Status(0))
    assert future.result(60).status == 0


def _posted_and_sent(ends: Ends) -> tuple[Future[Answer], Message]:
    """A report that the peer has and has not answered, while our thread is the test's."""
    future = ends.ours.outbox().post(report())
    ends.theirs.send(1, ECHO)
    message = ends.ours.receive()
    assert message is not None
    message.respond(Status(0))
    event = received(ends)
    event.drain()
    assert received(ends).command.field == Field.C_ECHO | RESPONSE
    return future, event


def test_its_answer_may_come_in_the_middle_of_sub_operations(ends: Ends) -> None:
    future, event = _posted_and_sent(ends)
    store = Command(Field.C_STORE, CT, message_id=event.command.message_id)
    ends.ours.send(3, store)
    event.respond(Status(0))
    ends.theirs.send(3, Command(Field.C_STORE | RESPONSE, CT, responded_id=store.message_id, status=0))
    assert ends.ours.response(store.message_id or 0).command.field == Field.C_STORE | RESPONSE
    assert future.result(0).status == 0


def test_its_answer_is_no_cancel(ends: Ends) -> None:
    future, event = _posted_and_sent(ends)
    event.respond(Status(0))
    time.sleep(0.05)
    assert not ends.ours.is_cancelled(5)
    assert future.result(0).status == 0


def test_finish_wakes_it_and_fails_what_is_left(ends: Ends) -> None:
    server = ends.serve()
    future = server.outbox.post(report())
    received(ends).drain()
    time.sleep(0.1)
    ends.ours.finish()
    server.join(60)
    assert isinstance(server.ended, Stopping)
    assert failure(future).status is None


def test_an_idle_peer_is_still_given_up(ends: Ends) -> None:
    outbox = ends.ours.outbox()
    ended: list[Any] = []

    def wait() -> None:
        try:
            ends.ours.receive(0.3)
        except Closed as error:
            ended.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    outbox.post(event_report("1.2.3", "1.2.4", 1))  # wakes it, and sends nothing
    thread.join(60)
    assert ended == ["idle for too long"]


def test_descriptors_are_given_back(ends: Ends) -> None:
    outbox = ends.ours.outbox()
    assert ends.ours.outbox() is outbox
    descriptor = outbox.fileno()
    ends.ours.close_outbox()
    ends.ours.close_outbox()
    again = Outbox()
    assert again.fileno() == descriptor
    again.close()
