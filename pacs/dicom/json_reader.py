"""Metadata that a client made, in the DICOM JSON Model (PS3.18 F.2), checked before anything relies on them."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from pacs.dicom.charset import DEFAULT
from pacs.dicom.dictionary import AMBIGUOUS, public_vr
from pacs.dicom.json_model import BULK_VRS, value_types
from pacs.errors import Invalid, InvalidValue, TooLarge, Unreadable

MAX_DEPTH = 320  # of sequences, as in files
# Every value, member and container has one of these before or after it; about 1 GB as Python objects.
MAX_MARKS = 4_000_000
_MARKS = (b",", b"[", b"{", b":")

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_VRS = frozenset(vr for vr in value_types(DEFAULT, False) if isinstance(vr, str))
_SEVERAL = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "SH", "TM", "UC", "UI"})
_RANGES = {
    "SS": (-(1 << 15), (1 << 15) - 1),
    "US": (0, (1 << 16) - 1),
    "SL": (-(1 << 31), (1 << 31) - 1),
    "UL": (0, (1 << 32) - 1),
    "SV": (-(1 << 63), (1 << 63) - 1),
    "UV": (0, (1 << 64) - 1),
}
_LARGEST_FLOAT = 3.4028235677973366e38
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})


@dataclass(frozen=True, slots=True)
class Metadata:
    """One instance's metadata, tags in upper case and ascending order.

    transfer_syntax_uid: what group 0002 among them says, "" when nothing. discarded: attributes left out, which have
    no place in a data set.
    """

    attributes: dict[str, Any]
    transfer_syntax_uid: str = ""
    discarded: tuple[str, ...] = field(default=())


def read_json(document: bytes) -> list[Any]:
    """The data sets of a JSON array, or the one that stands by itself, not checked yet.

    Raises Invalid for what is no JSON, TooLarge for more values than anything real has.
    """
    if marks_in(document) > MAX_MARKS:
        raise TooLarge("The metadata have too many values")
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The metadata are not JSON: {str(error)[:100]}", "body") from error
    return found if isinstance(found, list) else [found]


def marks_in(document: bytes) -> int:
    """An upper bound, found without parsing, for how many values and containers there are."""
    return sum(document.count(mark) for mark in _MARKS)


def checked(data_set: Any) -> Metadata:
    """Metadata that can be written as a data set. Raises Unreadable, or InvalidValue naming the attribute."""
    if not isinstance(data_set, Mapping):
        raise Unreadable("The metadata of an instance are not an object")
    discarded: list[str] = []
    top: dict[str, Any] = {}
    left: list[tuple[Any, dict[str, Any], int]] = [(data_set, top, 0)]
    while left:  # instead of recursion
        source, made, depth = left.pop()
        if depth > MAX_DEPTH:
            raise Unreadable(f"Sequences are nested more than {MAX_DEPTH} deep")
        elements = {_tag(key): element for key, element in source.items()}
        for tag in sorted(elements):
            if tag.startswith(("0000", "0002", "FFFE")) or tag.endswith("0000"):
                if not tag.startswith("0002") or depth:
                    discarded.append(f"({tag[:4]},{tag[4:]})")
                continue
            element, items = _element(tag, elements[tag])
            made[tag] = element
            for item in items:
                inner: dict[str, Any] = {}
                element.setdefault("Value", []).append(inner)
                left.append((item, inner, depth + 1))
    return Metadata(top, _transfer_syntax(data_set), tuple(discarded))


def _tag(key: Any) -> str:
    if not isinstance(key, str) or not _TAG.fullmatch(key):
        raise Unreadable(f"{str(key)[:20]!r} is no tag")
    return key.upper()


def _element(tag: str, element: Any) -> tuple[dict[str, Any], list[Any]]:
    """(element as it is kept, items of a sequence)."""
    if not isinstance(element, Mapping):
        raise _wrong(tag, "is not an object")
    vr = element.get("vr") or public_vr(int(tag, 16))
    if vr not in _VRS or vr in AMBIGUOUS:
        raise _wrong(tag, "has no VR that there is")
    present = [name for name in ("Value", "InlineBinary", "BulkDataURI") if element.get(name) is not None]
    if len(present) > 1:
        raise _wrong(tag, f"has {present[0]} and {present[1]}")
    if not present:
        return {"vr": vr}, []
    (name,) = present
    value = element[name]
    if name == "BulkDataURI":
        if not isinstance(value, str) or not value or vr == "SQ":
            raise _wrong(tag, "has a BulkDataURI that is none")
        return {"vr": vr, "BulkDataURI": value}, []
    if name == "InlineBinary":
        return _inline(tag, vr, value), []
    if not isinstance(value, list) or vr in BULK_VRS:
        raise _wrong(tag, "has a Value that is no list" if vr not in BULK_VRS else f"({vr}) cannot have a Value")
    if vr == "SQ":
        items = [{} if item is None else item for item in value]
        if not all(isinstance(item, Mapping) for item in items):
            raise _wrong(tag, "has an item that is no object")
        return {"vr": vr}, items
    values = [None if one is None or one == "" else _one(tag, vr, one) for one in value]
    return ({"vr": vr, "Value": values} if any(one is not None for one in values) else {"vr": vr}), []


def _inline(tag: str, vr: str, value: Any) -> dict[str, Any]:
    if vr not in BULK_VRS or not isinstance(value, str):
        raise _wrong(tag, f"({vr}) cannot have InlineBinary")
    packed = "".join(value.split())
    try:
        base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong(tag, "has InlineBinary that is no Base64") from error
    return {"vr": vr, "InlineBinary": packed} if packed else {"vr": vr}


def _one(tag: str, vr: str, value: Any) -> Any:
    """One value that ``encode`` can write."""
    if vr == "PN":
        return _name(tag, value)
    if isinstance(value, bool | list | Mapping):
        raise _wrong(tag, f"({vr}) has a value that cannot be one")
    if vr in _RANGES:
        return _integer(tag, vr, value)
    if vr in ("FL", "FD"):
        return _float(tag, vr, value)
    if vr in ("IS", "DS"):
        if isinstance(value, float) and not math.isfinite(value):
            raise _wrong(tag, f"({vr}) has a value that cannot be one")
        if not isinstance(value, str):
            return value
    text = value if isinstance(value, str) else str(value)
    if vr == "AT" and not _TAG.fullmatch(text):
        raise _wrong(tag, "(AT) has a value that is no tag")
    if "\\" in text and vr in _SEVERAL:
        raise _wrong(tag, f"({vr}) has a backslash within a value")
    return text


def _name(tag: str, value: Any) -> Any:
    groups = {"Alphabetic": value} if isinstance(value, str) else value
    if not isinstance(groups, Mapping):
        raise _wrong(tag, "(PN) has a value that is no name")
    found = {group: groups[group] for group in _GROUPS if groups.get(group)}
    if any(not isinstance(text, str) or "\\" in text for text in found.values()):
        raise _wrong(tag, "(PN) has a value that is no name")
    if isinstance(value, Mapping) and any("=" in text for text in found.values()):
        raise _wrong(tag, "(PN) has a component group with an equals sign")
    return found or None


def _integer(tag: str, vr: str, value: Any) -> int:
    low, high = _RANGES[vr]
    try:
        number = int(value)
    except (ValueError, OverflowError) as error:
        raise _wrong(tag, f"({vr}) has a value that is no integer") from error
    if (number != value and not isinstance(value, str)) or not low <= number <= high:
        raise _wrong(tag, f"({vr}) has a value that is out of its range")
    return number


def _float(tag: str, vr: str, value: Any) -> float | str:
    if value in _NOT_FINITE:
        return str(value)
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise _wrong(tag, f"({vr}) has a value that is no number") from error
    if not math.isfinite(number) or (vr == "FL" and abs(number) >= _LARGEST_FLOAT):
        raise _wrong(tag, f"({vr}) has a value that is out of its range")
    return number


def _transfer_syntax(data_set: Mapping[str, Any]) -> str:
    element = data_set.get("00020010")
    values = element.get("Value") if isinstance(element, Mapping) else None
    first = values[0] if isinstance(values, list) and values else ""
    return first.strip(" \0") if isinstance(first, str) else ""


def _wrong(tag: str, what: str) -> InvalidValue:
    return InvalidValue(f"({tag[:4]},{tag[4:]}) {what}")
