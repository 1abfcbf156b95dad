"""Normal forms of stored values: what matching compares, in the reference and in every index's columns alike."""

from __future__ import annotations

import math
import re
import struct
import unicodedata
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from pacs.dicom import dates, person_name


class Kind(Enum):
    """How values of a VR compare."""

    TEXT = "text"
    UID = "uid"
    NAME = "name"
    NUMBER = "number"
    FLOAT = "float"  # 32 bits: a key such as 0.1 is rounded the same way
    DATE = "date"
    TIME = "time"
    DATE_TIME = "date time"
    OPAQUE = "opaque"  # bulk, or a sequence: only present or absent


# One value. TEXT, UID: text; NAME: folded groups; NUMBER, FLOAT: int where it is one; DATE: YYYYMMDD; TIME:
# HHMMSSffffff; DATE_TIME: local "YYYYMMDDHHMMSS.ffffff" and the offset, the data set's when the value has none.
Normal = str | int | float | person_name.Groups

_KINDS = {
    **dict.fromkeys(("AE", "AS", "AT", "CS", "LO", "LT", "SH", "ST", "UC", "UN", "UR", "UT"), Kind.TEXT),
    **dict.fromkeys(("DS", "FD", "IS", "SL", "SS", "SV", "UL", "US", "UV"), Kind.NUMBER),
    "DA": Kind.DATE,
    "DT": Kind.DATE_TIME,
    "FL": Kind.FLOAT,
    "PN": Kind.NAME,
    "TM": Kind.TIME,
    "UI": Kind.UID,
}
_INTEGER = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def kind_of(vr: str) -> Kind:
    return _KINDS.get(vr, Kind.OPAQUE)


def normal_values(element: Mapping[str, Any] | None, kind: Kind, timezone: str = "") -> list[Normal] | None:
    """Normal forms of all values of a DICOM JSON element.

    None: absent, or without a value. A value that cannot be one of its VR is left out, so an empty list means: present,
    but nothing matches it. timezone: the data set's Timezone Offset From UTC, for DT.
    """
    if element is None:
        return None
    values = element.get("Value")
    if values is None:
        return [] if "InlineBinary" in element or "BulkDataURI" in element else None
    is_present = False
    found: list[Normal] = []
    normal = _NORMAL.get(kind)
    for value in values:
        if value is None or value == "" or (value.__class__ is str and not value.strip(" \0")):
            continue
        one = date_time(value, timezone) if kind is Kind.DATE_TIME else normal(value) if normal else None
        if kind is Kind.NAME and one == ("", "", ""):
            continue
        is_present = True
        if one is not None:
            found.append(one)
    return found if is_present else None


def text(value: Any) -> str:
    """Without case and surrounding spaces."""
    plain = value if value.__class__ is str else str(value)
    if plain.isascii():
        return plain.replace("\0", "").strip(" ").lower()
    composed = unicodedata.normalize("NFC", plain.replace("\0", "").strip(" ")).casefold()
    return unicodedata.normalize("NFC", composed)


def uid(value: Any) -> str:
    return str(value).strip(" \0")


def number(value: Any) -> int | float | None:
    """An int where the value is one: "01", 1 and "1.0" agree. None when it is no number."""
    if value.__class__ is str:
        plain = value.strip(" \0")
        if _INTEGER.fullmatch(plain):
            value = int(plain)
        elif _DECIMAL.fullmatch(plain):
            value = float(plain)
        else:
            return None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        # Past 64 bits no index column keeps an integer.
        return value if -(2**63) <= value < 2**63 else float(value)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else float(value)


def single_float(value: Any) -> int | float | None:
    """As ``number``, at 32 bits of precision."""
    exact = number(value)
    if exact is None:
        return None
    try:
        return number(struct.unpack("<f", struct.pack("<f", exact))[0])
    except OverflowError:
        return exact


def date(value: Any) -> int | None:
    return dates.date_number(str(value))


def time(value: Any) -> int | None:
    span = dates.time_span(str(value))
    return span and span[0]


def date_time(value: Any, timezone: str = "") -> str | None:
    span = dates.date_time_span(str(value))
    if span is None:
        return None
    return span.low + (span.offset or (timezone if dates.is_offset(timezone) else ""))


_NORMAL: Mapping[Kind, Callable[[Any], Normal | None]] = {
    Kind.TEXT: text,
    Kind.UID: uid,
    Kind.NAME: person_name.groups,
    Kind.NUMBER: number,
    Kind.FLOAT: single_float,
    Kind.DATE: date,
    Kind.TIME: time,
    Kind.DATE_TIME: date_time,
}
