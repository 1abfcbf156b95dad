"""A DICOM peer in a test's hand: it can do what no well-behaved client does."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from struct import pack

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pynetdicom.dsutils import encode

from pacs.dimse import negotiation
from pacs.dimse.association import Association
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from pacs.dimse.negotiation import Accepted, Proposal, ProposedContext
from pacs.dimse.wire import PduType, Wire

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


class TestPeer:
    """One connection. contexts: (SOP class, transfer syntaxes …); context IDs are 1, 3, 5 … in their order."""

    __test__ = False

    def __init__(
        self,
        port: int,
        *contexts: tuple[str, Sequence[str]],
        calling: str = "PEER",
        called: str = "ARCHIVE",
        max_pdu: int = 131072,
        as_scp: Sequence[str] = (),
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.wire = Wire(self.socket, 20)
        proposed = tuple(
            ProposedContext(2 * position + 1, sop_class, tuple(syntaxes))
            for position, (sop_class, syntaxes) in enumerate(contexts)
        )
        roles = dict.fromkeys(as_scp, (True, True))
        self.wire.send(negotiation.request(Proposal(called, calling, proposed, max_pdu, roles)))
        kind, length = self.wire.header()
        self.answer = bytes((kind, 0)) + length.to_bytes(4, "big") + self.wire.payload(length)
        if kind == PduType.ASSOCIATE_AC:
            self.accepted: Accepted = negotiation.parse_accept(self.answer, proposed)
            self.association = Association(self.wire, self.accepted, max_pdu)

    @property
    def is_accepted(self) -> bool:
        return self.answer[0] == PduType.ASSOCIATE_AC

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def connected(port: int, *contexts: tuple[str, Sequence[str]], **kwargs: object) -> Iterator[TestPeer]:
    peer = TestPeer(port, *contexts, **kwargs)  # type: ignore[arg-type]
    try:
        yield peer
    finally:
        peer.close()


def p_data(context_id: int, control: int, data: bytes) -> bytes:
    """One P-DATA-TF with one fragment; control: 1 command, 2 last."""
    return pack(">BBLLBB", 4, 0, len(data) + 6, len(data) + 2, context_id, control) + data


def identifier(is_implicit: bool = False, **keys: object) -> bytes:
    """An identifier as pydicom writes it. keys: by keyword; None: universal; a list of dicts: items of a sequence."""
    return bytes(encode(_dataset(keys), is_implicit, True) or b"")


def _dataset(keys: Mapping[str, object]) -> Dataset:
    data_set = Dataset()
    for keyword, value in keys.items():
        if isinstance(value, list) and (not value or isinstance(value[0], dict)):
            setattr(data_set, keyword, [_dataset(item) for item in value])
        else:
            setattr(data_set, keyword, "" if value is None else value)
    return data_set


def find(peer: TestPeer, data: bytes, message_id: int = 1, context_id: int = 1) -> tuple[list[Dataset], Command]:
    """Ask, and read all answers with pydicom; the last command is the final one."""
    context = peer.association.contexts[context_id]
    command = Command(
        field=Field.C_FIND,
        sop_class_uid=context.abstract_syntax,
        message_id=message_id,
        priority=0,
        data_set_type=HAS_DATA_SET,
    )
    peer.association.send(context_id, command, data)
    answers = []
    while True:
        message = peer.association.response(message_id)
        if not message.command.has_data_set:
            return answers, message.command
        assert message.command.status in (0xFF00, 0xFF01)
        answers.append(read_dataset(BytesIO(message.data_set()), context.transfer_syntax == IMPLICIT, True))
