"""Command sets, checked against pydicom's reading and writing of the same."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pynetdicom.dsutils import encode

from pacs.dimse.command import HAS_DATA_SET, RESPONSE, Command, Field
from pacs.dimse.wire import ProtocolError


def test_pydicom_reads_what_is_written():
    command = Command(
        field=Field.C_STORE,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        message_id=7,
        priority=0,
        data_set_type=HAS_DATA_SET,
        sop_uid="1.2.3.45",
        originator="MOVER",
        originator_message_id=9,
    )
    read = read_dataset(BytesIO(command.encode()), True, True)
    assert read.CommandField == 1
    assert read.AffectedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert read.AffectedSOPInstanceUID == "1.2.3.45"
    assert read.MessageID == 7
    assert read.CommandDataSetType == 1
    assert read.MoveOriginatorApplicationEntityTitle == "MOVER"
    assert read.MoveOriginatorMessageID == 9
    assert read.CommandGroupLength == len(command.encode()) - 12


def test_what_pynetdicom_writes_is_read():
    written = Dataset()
    written.CommandGroupLength = 0
    written.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.2.2.2"
    written.CommandField = 0x0021
    written.MessageID = 65535
    written.MoveDestination = "STORESCP"
    written.Priority = 1
    written.CommandDataSetType = 0x0001
    command = Command.decode(encode(written, True, True))
    assert command == Command(
        field=Field.C_MOVE,
        sop_class_uid="1.2.840.10008.5.1.4.1.2.2.2",
        message_id=65535,
        destination="STORESCP",
        priority=1,
        data_set_type=1,
    )


def test_counters_past_65535_saturate():
    command = Command(field=Field.C_MOVE | RESPONSE, remaining=1_000_000, completed=65_536, failed=0)
    read = Command.decode(command.encode())
    assert (read.remaining, read.completed, read.failed) == (65_535, 65_535, 0)


def test_an_error_comment_of_other_letters_stays_readable():
    read = Command.decode(Command(field=Field.C_ECHO, error_comment="Größe").encode())
    assert read.error_comment == "Gr??e"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x01\xff\xff\xff\xff\x01\x00",  # a length beyond the end
        b"\x00\x00\x00\x01\x01\x00\x00\x00\x01",  # a Command Field of one byte
        b"\x00\x00\x02\x00\x02\x00\x00\x001\x00",  # no Command Field
        b"\x08\x00\x18\x00\x02\x00\x00\x001\x00",  # not of group 0000
    ],
)
def test_nonsense_is_a_protocol_error(data):
    with pytest.raises(ProtocolError):
        Command.decode(data)


def test_unknown_elements_are_passed_over():
    unknown = b"\x00\x00\x34\x12\x04\x00\x00\x00abcd"
    assert Command.decode(unknown + Command(field=Field.C_ECHO, message_id=1).encode()).message_id == 1
