"""DICOM JSON → bytes of a data set, for C-FIND answers and whatever else the archive writes itself."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from struct import Struct, pack
from typing import Any

from pacs.dicom import charset
from pacs.dicom.json_model import LONG_VRS, WORD_TYPES
from pacs.dicom.model import Attributes
from pacs.dicom.transfer_syntax import find

SPECIFIC_CHARACTER_SET = "00080005"


def encode_data_set(attributes: Attributes, transfer_syntax_uid: str, *, character_set: str = charset.UTF_8) -> bytes:
    """Write attributes in explicit or implicit VR, either byte order; items and sequences with defined length.

    (0008,0005) says ``character_set`` wherever it has a value, and is added when any text is not ASCII. Elements that
    have a BulkDataURI are left out: their bytes are not here. Encapsulated syntaxes write as Explicit VR Little Endian;
    a deflated one is the caller's to deflate.
    """
    syntax = find(transfer_syntax_uid)
    writer = _Writer(syntax.implicit, syntax.big_endian, character_set)
    encoded = writer.all_of(attributes)
    if writer.wide and not attributes.get(SPECIFIC_CHARACTER_SET, {}).get("Value"):
        declared = {**attributes, SPECIFIC_CHARACTER_SET: {"vr": "CS", "Value": [character_set]}}
        return writer.all_of(declared)
    return encoded


@dataclass(frozen=True, slots=True)
class BulkValue:
    """Where the value of an attribute with a BulkDataURI goes. depth: 0 for the data set itself."""

    tag: str
    vr: str
    uri: str
    depth: int


def encode_around_bulk(attributes: Attributes) -> list[bytes | BulkValue]:
    """A data set in Explicit VR Little Endian, UTF-8, in pieces: a BulkValue is where a whole element is to be put.

    Sequences that hold bulk data have undefined length, as nobody has to know its size beforehand.
    """
    writer = _Writer(False, False, charset.UTF_8)
    writer.all_of(attributes)
    if writer.wide and not attributes.get(SPECIFIC_CHARACTER_SET, {}).get("Value"):
        attributes = {**attributes, SPECIFIC_CHARACTER_SET: {"vr": "CS", "Value": [charset.UTF_8]}}
    around = _around_bulk(attributes)
    pieces: list[bytes | BulkValue] = []
    # Elements still to be written, the next one last; bytes stand for themselves.
    left: list[bytes | tuple[str, Mapping[str, Any], int]] = _reversed(attributes, 0)
    while left:
        step = left.pop()
        if isinstance(step, bytes):
            pieces.append(step)
            continue
        tag, element, depth = step
        if "BulkDataURI" in element:
            pieces.append(BulkValue(tag, element["vr"], element["BulkDataURI"], depth))
        elif id(element) not in around:
            pieces.append(writer.element(tag, element))
        else:
            pieces.append(pack("<HH2sHL", int(tag[:4], 16), int(tag[4:], 16), b"SQ", 0, 0xFFFFFFFF))
            left.append(_SEQUENCE_END)
            for item in reversed(element["Value"]):
                left.append(_ITEM_END)
                left += _reversed(item or {}, depth + 1)
                left.append(_ITEM)
    return pieces


def _reversed(attributes: Attributes, depth: int) -> list[bytes | tuple[str, Mapping[str, Any], int]]:
    return [(tag, attributes[tag], depth) for tag in sorted(attributes, reverse=True)]


def _around_bulk(attributes: Attributes) -> set[int]:
    """id() of the sequence elements that hold an attribute with a BulkDataURI at any depth."""
    found: set[int] = set()
    data_sets: list[tuple[Attributes, int]] = [(attributes, 0)]
    for data_set, _ in data_sets:  # grows meanwhile: items come after what holds them
        for element in data_set.values():
            if element["vr"] == "SQ":
                data_sets += ((item, id(element)) for item in element.get("Value", ()) if item)
    for data_set, owner in reversed(data_sets):
        if any("BulkDataURI" in element or id(element) in found for element in data_set.values()):
            found.add(owner)
    return found


_ITEM = pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
_ITEM_END = pack("<HHL", 0xFFFE, 0xE00D, 0)
_SEQUENCE_END = pack("<HHL", 0xFFFE, 0xE0DD, 0)


class _Writer:
    """One data set's encoding. wide: whether any text so far was not ASCII."""

    def __init__(self, implicit: bool, big_endian: bool, character_set: str) -> None:
        order = ">" if big_endian else "<"
        self.implicit = implicit
        self.big_endian = big_endian
        self.order = order
        self.character_set = character_set
        self.wide = False
        self.items: dict[int, bytes] = {}  # by id() of the data set, all of which live as long as the writer
        self.implicit_header = Struct(order + "HHL").pack
        self.short_header = Struct(order + "HH2sH").pack
        self.long_header = Struct(order + "HH2sHL").pack

    def all_of(self, attributes: Attributes) -> bytes:
        """A data set with its items, innermost first, so that no depth of nesting needs recursion."""
        data_sets = [attributes]
        for data_set in data_sets:  # grows meanwhile: items come after what holds them
            for element in data_set.values():
                if element["vr"] == "SQ":
                    data_sets += filter(None, element.get("Value", ()))
        for data_set in reversed(data_sets):
            self.items[id(data_set)] = self.data_set(data_set)
        return self.items[id(attributes)]

    def data_set(self, attributes: Attributes) -> bytes:
        parts = []
        for tag in sorted(attributes):
            element = attributes[tag]
            if "BulkDataURI" not in element:
                parts.append(self.element(tag, element))
        return b"".join(parts)

    def element(self, tag: str, element: Mapping[str, Any]) -> bytes:
        vr = element["vr"]
        if tag == SPECIFIC_CHARACTER_SET and element.get("Value"):
            value = _even(self.character_set.encode("ascii"), b" ")
        else:
            value = self.value(vr, element)
        group, number = int(tag[:4], 16), int(tag[4:], 16)
        if self.implicit:
            return self.implicit_header(group, number, len(value)) + value
        if vr in LONG_VRS:
            return self.long_header(group, number, vr.encode("ascii"), 0, len(value)) + value
        if len(value) > 0xFFFE:
            return self.long_header(group, number, b"UN", 0, len(value)) + value  # PS3.5 6.2.2 note 3
        return self.short_header(group, number, vr.encode("ascii"), len(value)) + value

    def value(self, vr: str, element: Mapping[str, Any]) -> bytes:
        values = element.get("Value")
        if vr == "SQ":
            return b"".join(self.item(item) for item in values or ())
        if not values:
            binary = element.get("InlineBinary")
            return _even(self.binary(vr, binary), b"\0") if binary else b""
        if vr in _NUMBERS:
            return self.numbers(_NUMBERS[vr], vr, values)
        if vr == "AT":
            return b"".join(pack(self.order + "HH", int(v[:4], 16), int(v[4:8], 16)) for v in values if v)
        text = "\\".join(_TEXTS.get(vr, _plain)(value) if value is not None else "" for value in values)
        if text.isascii():
            return _even(text.encode("ascii"), b"\0" if vr == "UI" else b" ")
        self.wide = True
        return _even(charset.encode(text, self.character_set), b" ")

    def item(self, attributes: Attributes) -> bytes:
        content = self.items[id(attributes)] if attributes else b""
        return self.implicit_header(0xFFFE, 0xE000, len(content)) + content

    def numbers(self, code: str, vr: str, values: Iterable[Any]) -> bytes:
        parse: Callable[[Any], Any] = float if vr in ("FL", "FD") else int
        numbers = [parse(value) for value in values if value is not None]
        return pack(f"{self.order}{len(numbers)}{code}", *numbers)

    def binary(self, vr: str, text: str) -> bytes:
        raw = base64.b64decode(text)
        if not self.big_endian or vr not in WORD_TYPES:
            return raw
        words = array(WORD_TYPES[vr])
        words.frombytes(raw[: len(raw) - len(raw) % words.itemsize])
        words.byteswap()
        return words.tobytes()


_NUMBERS = {"FD": "d", "FL": "f", "SL": "l", "SS": "h", "SV": "q", "UL": "L", "US": "H", "UV": "Q"}


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding if len(value) % 2 else value


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _decimal(value: Any) -> str:
    """At most 16 characters (PS3.5 Table 6.2-1), as exact as they allow."""
    text = str(value)
    if len(text) <= 16 or isinstance(value, str):
        return text
    number = float(value)
    for digits in range(15, 0, -1):
        text = f"{number:.{digits}g}"
        if len(text) <= 16:
            return text
    return text


def _name(value: Any) -> str:
    if isinstance(value, str):
        return value
    groups = "=".join(value.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic"))
    return groups.rstrip("=")


_TEXTS: dict[str, Callable[[Any], str]] = {"DS": _decimal, "PN": _name}
