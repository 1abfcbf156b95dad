"""C-MOVE in tests: destinations, DCMTK's and one in our hand, and the request."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from io import BytesIO

from pydicom.filereader import read_dataset

from pacs.dimse import negotiation
from pacs.dimse.association import Association
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from pacs.dimse.status import Status
from pacs.dimse.wire import Wire
from tests.server import dcmtk_environment, free_port
from tests.unit.dimse.peer import EXPLICIT, STUDY_MOVE, connected, identifier


def add_peer(pacs, ae_title, port):
    with pacs.peers_path.open("a") as peers:
        peers.write(f"{ae_title}=127.0.0.1:{port}\n")


@contextlib.contextmanager
def storescp(pacs, folder, *options, ae_title=None):
    """DCMTK's storescp as a known peer; yields its AE title."""
    port = free_port()
    ae_title = ae_title or f"SCP{port}"
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        ["/usr/bin/storescp", "-aet", ae_title, "-od", str(folder), *options, str(port)],
        env=dcmtk_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        add_peer(pacs, ae_title, port)
        yield ae_title
    finally:
        process.terminate()
        process.wait()


class Destination:
    """A C-STORE SCP in our hand. takes: transfer syntaxes it accepts; statuses: its answers, the last one repeated.

    answers: statuses and seconds by SOP Instance UID, which win over those. at_once: serve associations side by side;
    else the next waits until the one before has ended. together: no answer to the first instance of an association
    before so many have one.
    """

    def __init__(
        self,
        pacs,
        ae_title,
        takes=None,
        statuses=(0,),
        delay_s=0.0,
        close_after=None,
        at_once=False,
        together=1,
        answers=None,
    ):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.takes, self.statuses, self.delay_s, self.close_after = takes, list(statuses), delay_s, close_after
        self.at_once, self.meeting = at_once, threading.Barrier(together)
        self.answers = answers or {}
        self.received = []
        self.associations = 0
        self.open = self.most_open = 0
        self.proposed = []
        self.connections = []
        self.ended = threading.Semaphore(0)
        self.is_open = True
        self.lock = threading.Lock()
        add_peer(pacs, ae_title, self.port)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def port(self):
        return self.listener.getsockname()[1]

    def _serve(self):
        while self.is_open:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            if self.at_once:
                threading.Thread(target=self._serve_whole, args=(connection,), daemon=True).start()
            else:
                self._serve_whole(connection)

    def _serve_whole(self, connection):
        with self.lock:
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        released = []
        with contextlib.suppress(Exception):
            released.append(self._serve_one(connection))
        # Before the other side can know that it has ended, and open the next.
        with self.lock:
            self.open -= 1
        with contextlib.suppress(Exception):
            for association in filter(None, released):
                association.confirm_release()
        connection.close()
        self.ended.release()

    def _serve_one(self, connection):
        wire = Wire(connection, 10)
        kind, length = wire.header()
        pdu = bytes((kind, 0)) + length.to_bytes(4, "big") + wire.payload(length)
        proposal = negotiation.parse_request(pdu)
        self.proposed.append(proposal)
        self.associations += 1
        if self.takes is not None:
            contexts = [c for c in proposal.contexts if c.transfer_syntaxes[0] in self.takes]
            proposal = negotiation.Proposal(proposal.called, proposal.calling, tuple(contexts), proposal.max_pdu)
        accepted, answer = negotiation.accept(proposal, 16384)
        wire.send(answer)
        association = Association(wire, accepted, 16384)
        is_first = True
        while (message := association.receive()) is not None:
            data = b"".join(bytes(view) for view in message.fragments())
            self.received.append((message.command, message.context.transfer_syntax, data))
            if is_first:
                self.meeting.wait(20)
                is_first = False
            status, delay_s = self.answers.get(message.command.sop_uid, (None, self.delay_s))
            time.sleep(delay_s)
            if self.close_after is not None and len(self.received) >= self.close_after:
                self.close_after = None
                return None
            if status is None:
                status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            message.respond(Status(status), sop_uid=message.command.sop_uid)
        return association

    def close(self):
        self.is_open = False
        self.listener.close()


def move(pacs, destination, data, model=STUDY_MOVE, message_id=1, cancel_after=None):
    """Returns all responses' commands, and the data set of the last."""
    with connected(pacs.port, (model, [EXPLICIT]), calling="MOVER") as peer:
        command = Command(
            field=Field.C_MOVE,
            sop_class_uid=model,
            message_id=message_id,
            priority=0,
            data_set_type=HAS_DATA_SET,
            destination=destination,
        )
        peer.association.send(1, command, data)
        found = []
        while True:
            message = peer.association.response(message_id)
            found.append(message.command)
            if message.command.status != 0xFF00:
                peer_data = message.data_set()
                peer.association.release()
                return found, read_dataset(BytesIO(peer_data), False, True)
            if cancel_after == len(found):
                peer.association.send(1, Command(field=Field.C_CANCEL, responded_id=message_id))


def study(uid):
    return identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=uid)
