"""Command sets of DIMSE-N, byte for byte those that pynetdicom writes, read and written."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pynetdicom import dimse_messages, dimse_primitives
from pynetdicom.dsutils import encode

from pacs.dimse.association import Association, Message
from pacs.dimse.command import HAS_DATA_SET, RESPONSE, Command, Field
from pacs.dimse.negotiation import Accepted, Context
from pacs.dimse.status import Status
from pacs.dimse.wire import ProtocolError
from tests.unit.dimse.peer import CT, EXPLICIT

UPS = "1.2.840.10008.5.1.4.34.6.1"
UID = "1.2.3.45"
AFFECTED = {"AffectedSOPClassUID": UPS, "AffectedSOPInstanceUID": UID}
REQUESTED = {"RequestedSOPClassUID": UPS, "RequestedSOPInstanceUID": UID}
OUR_AFFECTED = {"sop_class_uid": UPS, "sop_uid": UID}
OUR_REQUESTED = {"requested_sop_class_uid": UPS, "requested_sop_uid": UID}
TAGS = {"AttributeIdentifierList": [0x00100010, 0x7FE00010]}
OUR_TAGS = {"attribute_list": ("00100010", "7FE00010")}
DATA = BytesIO(b"ab")

REQUESTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "N_EVENT_REPORT",
        {**AFFECTED, "EventTypeID": 3, "EventInformation": DATA},
        {**OUR_AFFECTED, "event_type": 3, "data_set_type": HAS_DATA_SET},
    ),
    ("N_GET", {**REQUESTED, **TAGS}, {**OUR_REQUESTED, **OUR_TAGS}),
    ("N_GET", REQUESTED, OUR_REQUESTED),
    ("N_SET", {**REQUESTED, "ModificationList": DATA}, {**OUR_REQUESTED, "data_set_type": HAS_DATA_SET}),
    (
        "N_ACTION",
        {**REQUESTED, "ActionTypeID": 65535, "ActionInformation": DATA},
        {**OUR_REQUESTED, "action_type": 65535, "data_set_type": HAS_DATA_SET},
    ),
    ("N_CREATE", {**AFFECTED, "AttributeList": DATA}, {**OUR_AFFECTED, "data_set_type": HAS_DATA_SET}),
    ("N_CREATE", {"AffectedSOPClassUID": UPS}, {"sop_class_uid": UPS}),
    ("N_DELETE", REQUESTED, OUR_REQUESTED),
]
RESPONSES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("N_EVENT_REPORT", {"EventTypeID": 3}, {"event_type": 3}),
    ("N_GET", {"AttributeList": DATA}, {"data_set_type": HAS_DATA_SET}),
    ("N_GET", TAGS, OUR_TAGS),
    ("N_SET", {**TAGS, "ErrorComment": "may no longer be updated"}, {**OUR_TAGS}),
    ("N_ACTION", {"ActionTypeID": 4}, {"action_type": 4}),
    ("N_CREATE", {}, {}),
    ("N_DELETE", {"ErrorID": 0xA710}, {"error_id": 0xA710}),
]


def theirs(kind: str, suffix: str, values: dict[str, Any]) -> bytes:
    primitive = getattr(dimse_primitives, kind)()
    for keyword, value in values.items():
        setattr(primitive, keyword, value)
    message = getattr(dimse_messages, f"{kind}_{suffix}")()
    message.primitive_to_message(primitive)
    return bytes(encode(message.command_set, True, True) or b"")


@pytest.mark.parametrize(("kind", "values", "elements"), REQUESTS)
def test_a_request_is_what_pynetdicom_writes(kind: str, values: dict[str, Any], elements: dict[str, Any]) -> None:
    command = Command(Field[kind], message_id=7, **elements)
    assert command.encode() == theirs(kind, "RQ", {"MessageID": 7, **values})
    assert Command.decode(command.encode()) == command
    assert (command.class_uid, command.instance_uid) == (UPS, UID if len(values) > 1 else None)


@pytest.mark.parametrize(("kind", "values", "elements"), RESPONSES)
def test_a_response_is_what_pynetdicom_writes(kind: str, values: dict[str, Any], elements: dict[str, Any]) -> None:
    comment = values.get("ErrorComment")
    command = Command(
        Field[kind] | RESPONSE, responded_id=7, status=0x0110, error_comment=comment, **OUR_AFFECTED, **elements
    )
    common = {"MessageIDBeingRespondedTo": 7, "Status": 0x0110, **AFFECTED}
    assert command.encode() == theirs(kind, "RSP", {**common, **values})
    assert Command.decode(command.encode()) == command


@pytest.mark.parametrize(("kind", "values", "elements"), REQUESTS)
def test_an_answer_says_what_it_is_about(kind: str, values: dict[str, Any], elements: dict[str, Any]) -> None:
    asked = Command(Field[kind], message_id=9, **elements)
    context = Context(1, UPS, EXPLICIT)
    association: Association = Association(None, Accepted({1: context}, 0), 0)  # type: ignore[arg-type]
    message = Message(asked, context, association)
    answer = message.response(Status(0x0107, "no", ("00100010",), 5))
    assert answer == Command(
        Field[kind] | RESPONSE,
        UPS,
        responded_id=9,
        status=0x0107,
        error_comment="no",
        error_id=5,
        sop_uid=asked.instance_uid,
        event_type=asked.event_type,
        action_type=asked.action_type,
        attribute_list=("00100010",),
    )
    assert message.response(Status(0), sop_uid="1.9").sop_uid == "1.9"


def test_what_a_dimse_c_answer_is_about_is_its_offending_element() -> None:
    context = Context(1, CT, EXPLICIT)
    association: Association = Association(None, Accepted({1: context}, 0), 0)  # type: ignore[arg-type]
    message = Message(Command(Field.C_FIND, CT, message_id=1), context, association)
    answer = Command.decode(message.response(Status(0xA900, attributes=("00100010", "00080052"))).encode())
    assert answer.offending == ("00100010", "00080052")
    assert answer.attribute_list is None


def test_half_a_tag_is_a_protocol_error() -> None:
    field = Command(Field.N_GET).encode()[12:]
    with pytest.raises(ProtocolError):
        Command.decode(field + b"\0\0\x05\x10\x06\0\0\0\x10\0\x10\0\x10\0")
