"""Values of data elements as DICOM JSON (PS3.18 F.2): bytes of one element in, ``{"vr": …, "Value": […]}`` out.

Where a value cannot be what its VR says (a DS of "abc", an IS of "1-5" in a query), the text stays: nothing raises.
"""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Callable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

import orjson

from pacs.dicom.charset import Charset, Decode

# An attribute set in the DICOM JSON Model (PS3.18 Annex F.2): "GGGGEEEE" (upper case) →
# {"vr": "CS", "Value": [...]} or {"vr": "OB", "InlineBinary": "..."} or {"vr": "OW", "BulkDataURI": "7FE00010"}.
# A BulkDataURI in the archive is the tag path relative to ``…/instances/{sop}/bulkdata/``; web makes it absolute.
Attributes = Mapping[str, Any]

Element = dict[str, Any]
Convert = Callable[[bytes], Element]


class ValueType(NamedTuple):
    """How to read one VR. long: 32-bit length in explicit VR. convert None: bulk data or a sequence, not a value."""

    vr: str
    long: bool
    convert: Convert | None


@lru_cache(maxsize=64)
def value_types(charset: Charset, big_endian: bool) -> Mapping[str | bytes, ValueType]:
    """Every VR of PS3.5 6.2 by its name, and by the two bytes of it in a file."""
    types: dict[str | bytes, ValueType] = {}
    for vr, convert in _converters(charset, big_endian).items():
        types[vr] = types[vr.encode()] = ValueType(vr, vr in LONG_VRS, convert)
    return types


def dumps(attributes: Attributes) -> bytes:
    """UTF-8 JSON of a data set with sequences of any depth; orjson alone stops at ORJSON_MAX_DEPTH."""
    try:
        return orjson.dumps(attributes)
    except orjson.JSONEncodeError:
        pass
    data_sets = [attributes]
    for data_set in data_sets:  # grows meanwhile: items come after what holds them
        for element in data_set.values():
            if element["vr"] == "SQ":
                data_sets += element.get("Value", ())
    done: dict[int, orjson.Fragment] = {}
    for data_set in reversed(data_sets):
        shallow = {
            tag: {"vr": "SQ", "Value": [done[id(item)] for item in element["Value"]]}
            if element["vr"] == "SQ" and "Value" in element
            else element
            for tag, element in data_set.items()
        }
        done[id(data_set)] = orjson.Fragment(orjson.dumps(shallow))
    return orjson.dumps(done[id(attributes)])


ORJSON_MAX_DEPTH = 80  # sequences within sequences that orjson writes
LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
WORD_TYPES = {"OW": "H", "OF": "I", "OL": "I", "OD": "Q", "OV": "Q"}


def inline(vr: str, raw: bytes, big_endian: bool) -> Element:
    """InlineBinary of a bulk value; words in little endian order whatever the file's (F.2.7)."""
    if not raw:
        return {"vr": vr}
    if big_endian and vr in WORD_TYPES:
        words = array(WORD_TYPES[vr])
        whole = len(raw) - len(raw) % words.itemsize
        words.frombytes(raw[:whole])
        words.byteswap()
        raw = words.tobytes() + raw[whole:]
    return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode("ascii")}


def person_name(text: str) -> dict[str, str] | None:
    """One PN value, component groups by name (F.2.2); None when it is empty."""
    if "=" not in text:
        return {"Alphabetic": text} if text else None
    groups = zip(_GROUPS, text.split("="), strict=False)
    return {name: group for name, group in groups if group} or None


_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def _converters(charset: Charset, big_endian: bool) -> dict[str, Convert | None]:
    order = ">" if big_endian else "<"
    converters: dict[str, Convert | None] = dict.fromkeys((*BULK_VRS, "SQ"))
    for vr in ("AE", "AS", "CS", "DA", "DT", "TM", "UI"):
        converters[vr] = _strings(vr, _latin_1)
    for vr in ("LO", "SH"):
        converters[vr] = _strings(vr, charset.text)
    for vr in ("LT", "ST", "UT"):
        converters[vr] = _one_text(vr, charset.text)
    converters["UC"] = _unlimited(charset.text)
    converters["UR"] = _one_text("UR", _latin_1)
    converters["PN"] = _names(charset.name)
    converters["IS"] = _numbers("IS", integer)
    converters["DS"] = _numbers("DS", decimal)
    for vr, code in (("SL", "l"), ("SS", "h"), ("SV", "q"), ("UL", "L"), ("US", "H"), ("UV", "Q")):
        converters[vr] = _binary_integers(vr, order, code)
    for vr, code in (("FL", "f"), ("FD", "d")):
        converters[vr] = _floats(vr, order, code)
    converters["AT"] = _tags(order)
    return converters


def _latin_1(raw: bytes) -> str:
    return raw.decode("latin-1")


def _strings(vr: str, decode: Decode) -> Convert:
    """Several values, blanks at either end without meaning (PS3.5 Table 6.2-1)."""

    def convert(raw: bytes) -> Element:
        text = decode(raw)
        if "\\" not in text:
            text = text.strip(" \0")
            return {"vr": vr, "Value": [text]} if text else {"vr": vr}
        values = [value.strip(" \0") or None for value in text.split("\\")]
        return {"vr": vr, "Value": values} if any(values) else {"vr": vr}

    return convert


def _unlimited(decode: Decode) -> Convert:
    def convert(raw: bytes) -> Element:
        values = [value.rstrip(" \0") or None for value in decode(raw).split("\\")]
        return {"vr": "UC", "Value": values} if any(values) else {"vr": "UC"}

    return convert


def _one_text(vr: str, decode: Decode) -> Convert:
    """One value in which a backslash is a character and leading blanks count."""

    def convert(raw: bytes) -> Element:
        text = decode(raw).rstrip(" \0")
        return {"vr": vr, "Value": [text]} if text else {"vr": vr}

    return convert


def _names(decode: Decode) -> Convert:
    def convert(raw: bytes) -> Element:
        text = decode(raw)
        if "\\" not in text:
            name = person_name(text.strip(" \0"))
            return {"vr": "PN", "Value": [name]} if name else {"vr": "PN"}
        names = [person_name(value.strip(" \0")) for value in text.split("\\")]
        return {"vr": "PN", "Value": names} if any(names) else {"vr": "PN"}

    return convert


def integer(text: str) -> int | str:
    """A number of IS; the text itself when it is none, or one that 64 bits do not hold."""
    try:
        number = int(text)
    except ValueError:
        exact = decimal(text)
        return exact if isinstance(exact, int) else text
    return number if -(1 << 63) <= number < 1 << 63 and "_" not in text else text


def decimal(text: str) -> float | int | str:
    """A number of DS, whole ones as int; the text itself when it is none, or has no finite value."""
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number) or "_" in text:
        return text
    whole = int(number)
    return whole if whole == number and abs(whole) < 1 << 53 else number


def _numbers(vr: str, parse: Callable[[str], float | str]) -> Convert:
    def convert(raw: bytes) -> Element:
        text = raw.decode("latin-1")
        if "\\" not in text:
            text = text.strip(" \0")
            return {"vr": vr, "Value": [parse(text)]} if text else {"vr": vr}
        values = [parse(value) if value else None for value in (v.strip(" \0") for v in text.split("\\"))]
        return {"vr": vr, "Value": values} if any(value is not None for value in values) else {"vr": vr}

    return convert


def _binary_integers(vr: str, order: str, code: str) -> Convert:
    one = Struct(order + code)
    size, unpack = one.size, one.unpack

    def convert(raw: bytes) -> Element:
        if len(raw) == size:
            return {"vr": vr, "Value": list(unpack(raw))}
        count = len(raw) // size
        if not count:
            return {"vr": vr}
        return {"vr": vr, "Value": list(Struct(f"{order}{count}{code}").unpack(raw[: count * size]))}

    return convert


def _floats(vr: str, order: str, code: str) -> Convert:
    size = Struct(order + code).size

    def convert(raw: bytes) -> Element:
        count = len(raw) // size
        if not count:
            return {"vr": vr}
        values = Struct(f"{order}{count}{code}").unpack(raw[: count * size])
        return {"vr": vr, "Value": [value if math.isfinite(value) else _NOT_FINITE[str(value)] for value in values]}

    return convert


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _tags(order: str) -> Convert:
    def convert(raw: bytes) -> Element:
        count = len(raw) // 4
        if not count:
            return {"vr": "AT"}
        numbers = Struct(f"{order}{2 * count}H").unpack(raw[: count * 4])
        return {"vr": "AT", "Value": [f"{numbers[i]:04X}{numbers[i + 1]:04X}" for i in range(0, 2 * count, 2)]}

    return convert
