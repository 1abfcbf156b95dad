"""Attribute matching of PS3.4 C.2.2.2, once, for C-FIND, QIDO-RS and every index engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pacs.dicom import criteria
from pacs.dicom.attributes import BY_TAG
from pacs.dicom.dictionary import AMBIGUOUS, public_vr
from pacs.dicom.matchers import (
    CombinedRange,
    Empty,
    Matcher,
    Range,
    Sequence,
    Single,
    TagPath,
    UidList,
    Universal,
    ValueList,
    Wildcard,
    Words,
)
from pacs.dicom.model import Attributes
from pacs.dicom.normal import Kind, kind_of, normal_values

__all__ = [
    "CombinedRange",
    "Empty",
    "Matcher",
    "Range",
    "Sequence",
    "Single",
    "TagPath",
    "UidList",
    "Universal",
    "ValueList",
    "Wildcard",
    "Words",
    "element_at",
    "is_universal",
    "items_of",
    "kind_at",
    "matches",
    "matches_all",
    "private_tags",
    "timezone_of",
    "values_at",
]


def matches(matcher: Matcher, path: TagPath, attributes: Attributes) -> bool:
    """Whether a data set meets one key: the reference that every index engine agrees with.

    attributes: the whole data set in DICOM JSON. A path into a sequence means: some one item of it matches.
    """
    return _meets(matcher, path, attributes, timezone_of(attributes))


def matches_all(keys: Mapping[TagPath, Matcher], attributes: Attributes) -> bool:
    """Whether a data set meets every key."""
    timezone = timezone_of(attributes)
    return all(_meets(matcher, path, attributes, timezone) for path, matcher in keys.items())


def is_universal(matcher: Matcher) -> bool:
    """Whether everything matches, absent attributes too: zero length, or ``*`` alone (C.2.2.2.4, note)."""
    match matcher:
        case Universal():
            return True
        case Wildcard(pattern):
            return pattern.strip(" ") != "" and pattern.strip(" ").strip("*") == ""
        case Range("", "") | CombinedRange(_, Range("", ""), Range("", "")):
            return True
        case ValueList(any_of):
            return any(map(is_universal, any_of))
        case Sequence(keys):
            return all(map(is_universal, keys.values()))
        case _:
            return False


def values_at(attributes: Attributes, path: TagPath) -> list[Any]:
    """All DICOM JSON values at a path, of all items of the sequences on the way; those without value left out."""
    element = element_at(attributes, path[0])
    if element is None:
        return []
    if len(path) > 1:
        return [value for item in items_of(element) for value in values_at(item, path[1:])]
    return [value for value in element.get("Value") or () if value is not None]


def element_at(attributes: Attributes, tag: str) -> Mapping[str, Any] | None:
    """The element of one tag, "GGGGEEEE" or "GGGG00EE@CREATOR"; None when the data set has none."""
    if "@" not in tag:
        return attributes.get(tag)
    return next((attributes[found] for found in private_tags(attributes, tag) if found in attributes), None)


def private_tags(attributes: Attributes, tag: str) -> Iterator[str]:
    """Where "GGGG00EE@CREATOR" may be in this data set: one tag per block that the creator reserved (PS3.5 7.8.1)."""
    place, _, creator = tag.partition("@")
    group, element = place[:4], place[6:]
    reserving = group + "00"
    for block in _BLOCKS:
        reserved = attributes.get(reserving + block)
        if reserved and any(str(value).strip(" \0") == creator for value in reserved.get("Value") or ()):
            yield group + block + element


_BLOCKS = tuple(f"{number:02X}" for number in range(0x10, 0x100))


def items_of(element: Mapping[str, Any] | None) -> list[Attributes]:
    """Items of a sequence element; an item without attributes is an empty mapping."""
    if element is None or element.get("vr") != "SQ":
        return []
    return [item or {} for item in element.get("Value") or ()]


def timezone_of(attributes: Attributes) -> str:
    """Timezone Offset From UTC of a data set, "" when there is none."""
    values = attributes.get("00080201", {}).get("Value")
    return str(values[0]).strip() if values and values[0] else ""


def kind_at(tag: str, element: Mapping[str, Any] | None) -> Kind:
    """How an element's values compare: by the standard's VR, else (none, or a choice) by the stored one."""
    known = BY_TAG.get(tag)
    if known:
        return kind_of(known.vr)
    vr = None if "@" in tag else public_vr(int(tag, 16))
    if (vr is None or vr in AMBIGUOUS) and element is not None:
        vr = str(element.get("vr"))
    return kind_of(vr or "UN")


def _meets(matcher: Matcher, path: TagPath, attributes: Attributes, timezone: str) -> bool:
    if is_universal(matcher):
        return True
    element = element_at(attributes, path[0])
    if len(path) > 1:
        if isinstance(matcher, CombinedRange):
            matcher = CombinedRange(matcher.time_path[1:], matcher.date, matcher.time)
        return any(_meets(matcher, path[1:], item, timezone) for item in items_of(element))
    match matcher:
        case Empty():
            return normal_values(element, kind_at(path[0], element)) is None
        case ValueList(any_of):
            return any(_meets(one, path, attributes, timezone) for one in any_of)
        case Sequence(keys):
            return any(
                all(_meets(inner, at, item, timezone) for at, inner in keys.items()) for item in items_of(element)
            )
        case CombinedRange(time_path, date, time):
            times = normal_values(element_at(attributes, time_path[0]), Kind.TIME) or ()
            asked = criteria.criterion(date, Kind.DATE), criteria.criterion(time, Kind.TIME)
            days = normal_values(element, Kind.DATE) or ()
            return any(criteria.meets_combined(*asked, day, at) for day in days for at in times)
        case _:
            kind = kind_at(path[0], element)
            wanted = criteria.criterion(matcher, kind)
            return any(criteria.meets(wanted, value) for value in normal_values(element, kind, timezone) or ())
