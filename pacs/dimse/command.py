"""Command sets of DIMSE messages (PS3.7 6.3 and Annex E): always Implicit VR Little Endian, always small."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter
from struct import Struct
from typing import Any

from pacs.dimse.wire import ProtocolError


class Field(IntEnum):
    """Command Field (0000,0100) of requests, PS3.7 E.1."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


RESPONSE = 0x8000  # a response's Command Field is its request's with this bit set
NO_DATA_SET = 0x0101  # Command Data Set Type (0000,0800) of a message without one
HAS_DATA_SET = 0x0001


def is_normalized(field: int) -> bool:
    """Whether this is the Command Field of a DIMSE-N request."""
    return Field.N_EVENT_REPORT <= field <= Field.N_DELETE


@dataclass(frozen=True, slots=True)
class Command:
    """One command set. None: the element is absent. Numbers over 65,535 are written as 65,535.

    sop_class_uid and sop_uid are the Affected ones, what begins with requested_ are the Requested ones. Elements of
    VR AT hold tags as DICOM JSON writes them: "00100020".
    """

    field: int
    sop_class_uid: str | None = None
    requested_sop_class_uid: str | None = None
    message_id: int | None = None
    responded_id: int | None = None
    destination: str | None = None
    priority: int | None = None
    data_set_type: int = NO_DATA_SET
    status: int | None = None
    offending: tuple[str, ...] | None = None
    error_comment: str | None = None
    error_id: int | None = None
    sop_uid: str | None = None
    requested_sop_uid: str | None = None
    event_type: int | None = None
    attribute_list: tuple[str, ...] | None = None
    action_type: int | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warnings: int | None = None
    originator: str | None = None
    originator_message_id: int | None = None

    @property
    def has_data_set(self) -> bool:
        return self.data_set_type != NO_DATA_SET

    @property
    def class_uid(self) -> str | None:
        """The SOP class that a message is about: Affected or Requested, whichever its kind has (PS3.7 9.3, 10.3)."""
        return self.sop_class_uid or self.requested_sop_class_uid

    @property
    def instance_uid(self) -> str | None:
        """The SOP instance that a message is about: Affected or Requested, whichever its kind has."""
        return self.sop_uid or self.requested_sop_uid

    def encode(self) -> bytes:
        """The command set with its group length, elements in ascending order."""
        body = bytearray()
        for (element, (_, vr)), value in zip(_ELEMENTS.items(), _values(self), strict=True):
            if value is not None:
                data = _encoded(vr, value)
                body += _HEADER.pack(0, element, len(data)) + data
        return _HEADER.pack(0, 0, 4) + _UL.pack(len(body)) + bytes(body)

    @classmethod
    def decode(cls, data: bytes | bytearray) -> Command:
        """Raises ProtocolError when it is not a command set with a Command Field."""
        values: dict[str, Any] = {}
        offset = 0
        while offset + 8 <= len(data):
            group, element, length = _HEADER.unpack_from(data, offset)
            offset += 8
            if group != 0 or length > len(data) - offset:
                raise ProtocolError("the command set is broken")
            if element in _ELEMENTS and length:
                attribute, vr = _ELEMENTS[element]
                values[attribute] = _decoded(vr, data[offset : offset + length])
            offset += length
        if offset != len(data) or "field" not in values:
            raise ProtocolError("the command set is broken")
        return cls(**values)


def _encoded(vr: str, value: int | str | tuple[str, ...]) -> bytes:
    if isinstance(value, int):
        return _US.pack(min(value, 0xFFFF))
    if isinstance(value, tuple):
        return b"".join(_TAG.pack(int(tag[:4], 16), int(tag[4:], 16)) for tag in value)
    data = value.encode("ascii", "replace")
    if len(data) % 2:
        data += b"\0" if vr == "UI" else b" "
    return data


def _decoded(vr: str, data: bytes | bytearray) -> int | str | tuple[str, ...]:
    if vr == "US":
        if len(data) < 2:
            raise ProtocolError("the command set is broken")
        return int(_US.unpack_from(data)[0])
    if vr == "AT":
        if len(data) % 4:
            raise ProtocolError("the command set is broken")
        return tuple(f"{group:04X}{element:04X}" for group, element in _TAG.iter_unpack(data))
    # Several values where one belongs: the first, as DCMTK does. Padding may be NUL or space, whatever the VR.
    return data.decode("latin-1").split("\\")[0].strip(" \0")


_HEADER = Struct("<HHL")
_UL = Struct("<L")
_US = Struct("<H")
_TAG = Struct("<HH")

_ELEMENTS = {
    0x0002: ("sop_class_uid", "UI"),
    0x0003: ("requested_sop_class_uid", "UI"),
    0x0100: ("field", "US"),
    0x0110: ("message_id", "US"),
    0x0120: ("responded_id", "US"),
    0x0600: ("destination", "AE"),
    0x0700: ("priority", "US"),
    0x0800: ("data_set_type", "US"),
    0x0900: ("status", "US"),
    0x0901: ("offending", "AT"),
    0x0902: ("error_comment", "LO"),
    0x0903: ("error_id", "US"),
    0x1000: ("sop_uid", "UI"),
    0x1001: ("requested_sop_uid", "UI"),
    0x1002: ("event_type", "US"),
    0x1005: ("attribute_list", "AT"),
    0x1008: ("action_type", "US"),
    0x1020: ("remaining", "US"),
    0x1021: ("completed", "US"),
    0x1022: ("failed", "US"),
    0x1023: ("warnings", "US"),
    0x1030: ("originator", "AE"),
    0x1031: ("originator_message_id", "US"),
}
_values = attrgetter(*(attribute for attribute, _ in _ELEMENTS.values()))
