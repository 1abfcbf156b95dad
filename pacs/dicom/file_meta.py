"""File meta information: preamble, "DICM" and group 0002 (PS3.10 7.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pacs.dicom.buffer import Buffer
from pacs.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"})
_MAX_ELEMENTS = 256
_MAX_VALUE = 1 << 20  # of one element of group 0002; more is garbage


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the archive needs of group 0002. Text without padding; "" where an element is absent."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    source_ae_title: str = ""


def encode(meta: FileMeta) -> bytes:
    """Preamble of 128 zero bytes, "DICM" and a complete group 0002, ready to be followed by the data set."""
    elements = [
        struct.pack("<HH2sHL", 2, 0x0001, b"OB", 0, 2) + b"\0\1",
        _element(0x0002, b"UI", meta.sop_class_uid),
        _element(0x0003, b"UI", meta.sop_uid),
        _element(0x0010, b"UI", meta.transfer_syntax_uid),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
    ]
    if meta.source_ae_title:
        elements.append(_element(0x0016, b"AE", meta.source_ae_title))
    body = b"".join(elements)
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body


def read(buffer: Buffer) -> tuple[FileMeta | None, int]:
    """File meta information at the start of a file, and where the data set begins.

    Goes by the elements themselves, not by the group length, which real files have wrong or leave out. (None, 0) when
    there is no group 0002 at all; without elements but with "DICM", (None, 132). Never raises.
    """
    size = len(buffer)
    start = 0
    if size >= 132 and buffer[128:132] == b"DICM":
        start = 132
    elif buffer[:4] == b"DICM":
        start = 4
    found: dict[int, str] = {}
    position = start
    implicit = buffer[start + 4 : start + 6] != b"UL" and not buffer[start + 4 : start + 6].isalpha()
    for _ in range(_MAX_ELEMENTS):
        if position + 8 > size or buffer[position : position + 2] != b"\2\0":
            break
        element = int.from_bytes(buffer[position + 2 : position + 4], "little")
        vr = buffer[position + 4 : position + 6]
        if implicit:
            length, value = int.from_bytes(buffer[position + 4 : position + 8], "little"), position + 8
        elif vr in _LONG_VRS:
            length, value = int.from_bytes(buffer[position + 8 : position + 12], "little"), position + 12
        else:
            length, value = int.from_bytes(buffer[position + 6 : position + 8], "little"), position + 8
        if length > _MAX_VALUE or value + length > size:
            break
        if element in (0x0002, 0x0003, 0x0010, 0x0016):
            found[element] = bytes(buffer[value : value + length]).decode("latin-1").strip("\0 ")
        position = value + length
    if position == start:
        return None, start
    return (
        FileMeta(found.get(0x0002, ""), found.get(0x0003, ""), found.get(0x0010, ""), found.get(0x0016, "")),
        position,
    )


def _element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value
