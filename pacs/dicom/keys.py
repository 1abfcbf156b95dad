"""Query keys: from a C-FIND identifier or QIDO parameters to matchers (PS3.4 C.2.2, PS3.18 8.3.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pacs.dicom import dates, matchers, normal, person_name
from pacs.dicom.attributes import BY_KEYWORD, BY_TAG, DATE_TIME_PAIRS
from pacs.dicom.dictionary import AMBIGUOUS, public_vr, pydicom_dictionary
from pacs.dicom.matchers import (
    CombinedRange,
    Empty,
    Matcher,
    Range,
    Single,
    TagPath,
    UidList,
    Universal,
    ValueList,
    Wildcard,
    Words,
)
from pacs.dicom.matching import is_universal
from pacs.dicom.model import Attributes
from pacs.dicom.normal import Kind
from pacs.errors import Invalid

# Not matched against (PS3.4 C.4.1.1.3): character set, level, retrieve AE and URI, availability, timezone.
CONTROLS = frozenset({"00080005", "00080052", "00080053", "00080054", "00080056", "00080201"})

_WILDCARDS = re.compile(r"[*?]")
# VRs that wild card matching is defined for (PS3.4 C.2.2.2.4); UN: a private attribute whose VR the key does not tell.
_WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"})
_UID = re.compile(r"[0-9.]{1,128}", re.ASCII)
_PRIVATE = re.compile(r"([0-9A-Fa-f]{3}[13579BDFbdf])([0-9A-Fa-f]{4})@(.+)")
_MAX_LENGTH = 4096
_MAX_DEPTH = 32


@dataclass(frozen=True)
class Keys:
    """matchers: keys that ask for something. tags: all top-level attributes of the identifier, ascending.

    The tags are what the answer carries. Private ones are "GGGG00EE@CREATOR" when the identifier names the creator.
    """

    matchers: dict[TagPath, Matcher]
    tags: tuple[str, ...]


def from_identifier(attributes: Attributes, *, fuzzy: bool = False) -> Keys:
    """Keys of a C-FIND, C-MOVE or C-GET identifier in DICOM JSON. Raises Invalid naming a key that is malformed."""
    return _from_data_set(attributes, fuzzy, 0)


def _from_data_set(attributes: Attributes, fuzzy: bool, depth: int) -> Keys:
    found: dict[TagPath, Matcher] = {}
    tags: list[str] = []
    for tag in sorted(attributes):
        if tag in CONTROLS or tag.endswith("0000") or tag < "00080000" or _is_creator(tag):
            continue
        name = _with_creator(tag, attributes)
        tags.append(name)
        matcher = _from_element(name, attributes[tag], fuzzy, depth)
        if not is_universal(matcher):
            found[(name,)] = matcher
    return Keys(combine(found), tuple(tags))


def from_parameter(name: str, values: Sequence[str], *, fuzzy: bool = False) -> tuple[TagPath, Matcher]:
    """One QIDO key, a parameter that is repeated with all its values. Raises Invalid whose subject is ``name``."""
    path = resolve(name)
    vr = vr_of(path)
    # A comma parts UIDs (PS3.18 8.3.4.1), and codes, which cannot hold one: OHIF asks for ModalitiesInStudy=CT,US. It
    # is an ordinary character of every other VR.
    is_list = vr in ("UI", "CS")
    texts = [part for value in values for part in (re.split(r"[,\\]", value) if is_list else [value])]
    return path, _any_of([_from_text(text, vr, name, fuzzy) for text in texts if not is_list or text.strip()])


def resolve(name: str) -> TagPath:
    """The path of a keyword, "GGGGEEEE" of either case, or several joined by "." (sequences first).

    A private tag may carry its creator ("00091002@CREATOR"); else ``combine`` looks for the creator's own key.
    Raises Invalid whose subject is ``name`` when there is no such attribute.
    """
    private = _PRIVATE.fullmatch(name)
    if private:
        group, element, creator = private.groups()
        return (f"{group}00{element[2:]}@{creator}".replace(group, group.upper(), 1),)
    path = tuple(_tag(part, name) for part in name.split("."))
    for tag in path[:-1]:
        if vr_of((tag,)) not in ("SQ", "UN"):
            raise Invalid(f"{name} leads through an attribute that is no sequence", name)
    return path


def vr_of(path: TagPath) -> str:
    """VR of the attribute at a path by the data dictionary; UN for private ones."""
    tag = path[-1]
    if tag in BY_TAG:
        return BY_TAG[tag].vr
    vr = None if "@" in tag else public_vr(int(tag, 16))
    if vr in AMBIGUOUS:
        return "US" if vr in ("US or SS", "US or OW", "US or SS or OW") else "OB"
    return vr or "UN"


def combine(keys: Mapping[TagPath, Matcher]) -> dict[TagPath, Matcher]:
    """Keys that belong together made one; idempotent.

    A date range and its time range become a CombinedRange (PS3.4 C.2.2.2.5.1), keys into one sequence a Sequence whose
    item meets all of them (C.2.2.2.6), a private tag and its creator's key "GGGG00EE@CREATOR".
    """
    merged = _nested(_without_creators(keys))
    for date, time in DATE_TIME_PAIRS.items():
        days, times = merged.get((date,)), merged.get((time,))
        if isinstance(days, Range) and isinstance(times, Range):
            merged[(date,)] = CombinedRange((time,), days, times)
            del merged[(time,)]
    return merged


def _nested(keys: Mapping[TagPath, Matcher]) -> dict[TagPath, Matcher]:
    merged: dict[TagPath, Matcher] = {}
    inner: dict[str, dict[TagPath, Matcher]] = {}
    for path, matcher in keys.items():
        if len(path) > 1:
            inner.setdefault(path[0], {})[path[1:]] = matcher
        elif isinstance(matcher, matchers.Sequence):
            inner.setdefault(path[0], {}).update(matcher.keys)
        else:
            merged[path] = matcher
    for tag, asked in inner.items():
        merged[(tag,)] = matchers.Sequence(combine(asked))
    return merged


def _without_creators(keys: Mapping[TagPath, Matcher]) -> dict[TagPath, Matcher]:
    creators = {
        path[0]: matcher.value.strip()
        for path, matcher in keys.items()
        if len(path) == 1 and _is_creator(path[0]) and isinstance(matcher, Single)
    }
    found: dict[TagPath, Matcher] = {}
    used: set[str] = set()
    for path, matcher in keys.items():
        tag = path[0]
        reserving = f"{tag[:4]}00{tag[4:6]}"
        if _is_private(tag) and reserving in creators and tag != reserving:
            used.add(reserving)
            path = (f"{tag[:4]}00{tag[6:]}@{creators[reserving]}", *path[1:])
        found[path] = matcher
    return {path: matcher for path, matcher in found.items() if path[0] not in used}


def _from_element(name: str, element: Mapping[str, Any], fuzzy: bool, depth: int) -> Matcher:
    vr = vr_of((name,))
    if vr == "UN":
        vr = str(element.get("vr", "UN"))
    if vr == "SQ" or element.get("vr") == "SQ":
        items = [item for item in element.get("Value") or () if item]
        if depth >= _MAX_DEPTH:
            raise Invalid(f"sequences are nested more than {_MAX_DEPTH} deep", name)
        asked = _from_data_set(items[0], fuzzy, depth + 1).matchers if items else {}
        return matchers.Sequence(asked) if asked else Universal()
    texts = [_text_of(value) for value in element.get("Value") or () if value is not None]
    return _any_of([_from_text(text, vr, name, fuzzy) for text in texts if text.strip(" \0")])


def _text_of(value: Any) -> str:
    return person_name.to_text(value) if isinstance(value, Mapping) else str(value)


def _any_of(found: list[Matcher]) -> Matcher:
    if not found or any(isinstance(matcher, Universal) for matcher in found):
        return Universal()
    if len(found) == 1:
        return found[0]
    if all(isinstance(matcher, UidList) for matcher in found):
        return UidList(tuple(value for matcher in found if isinstance(matcher, UidList) for value in matcher.values))
    return ValueList(tuple(found))


def _from_text(text: str, vr: str, name: str, fuzzy: bool) -> Matcher:
    """One value of a key. Raises Invalid when it cannot be one of the VR."""
    if len(text) > _MAX_LENGTH:
        raise Invalid(f"the value of {name} is too long to search by", name)
    key = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8").strip(" ")
    if not key.strip("*"):
        return Universal()
    if key == '""':
        return Empty()
    if vr == "UI":
        if not _UID.fullmatch(key):
            raise Invalid(f"{name} is not a UID", name)
        return UidList((key,))
    if vr in _SPANS:
        return _span(key, vr, name)
    kind = normal.kind_of(vr)
    if kind is Kind.OPAQUE:
        raise Invalid(f"{name} cannot be searched by value", name)
    if kind in (Kind.NUMBER, Kind.FLOAT) and normal.number(key) is None:
        raise Invalid(f"{name} is not a number", name)
    has_wildcard = _WILDCARDS.search(key) is not None
    if has_wildcard and vr not in _WILDCARD_VRS:
        raise Invalid(f"{name} ({vr}) takes no wildcards", name)
    if vr == "PN":
        return _name(key, has_wildcard, fuzzy)
    return Wildcard(key) if has_wildcard else Single(key)


def _name(key: str, has_wildcard: bool, fuzzy: bool) -> Matcher:
    if fuzzy:
        words = person_name.words(_WILDCARDS.sub(" ", key))
        return Words(words) if words else Universal()
    if not any(person_name.groups(key)):
        return Universal()
    return Wildcard(key) if has_wildcard else Single(key)


def _span(key: str, vr: str, name: str) -> Matcher:
    ends = dates.split_range(key, vr)
    for end in ends or (key,):
        if end and not _SPANS[vr](end):
            raise Invalid(f"{name} is not {_SPAN_NAMES[vr]}, or a range of two", name)
    return Range(*ends) if ends else Single(key)


def _is_date(text: str) -> bool:
    number = dates.date_number(text)
    return number is not None and dates.is_calendar_date(number)


_SPANS: Mapping[str, Callable[[str], bool]] = {
    "DA": _is_date,
    "TM": lambda text: dates.time_span(text) is not None,
    "DT": lambda text: dates.date_time_span(text) is not None,
}
_SPAN_NAMES = {"DA": "a date (YYYYMMDD)", "TM": "a time (HHMMSS)", "DT": "a date and time (YYYYMMDDHHMMSS)"}


def _tag(part: str, name: str) -> str:
    if part in BY_KEYWORD:
        return BY_KEYWORD[part].tag
    if re.fullmatch(r"[0-9A-Fa-f]{8}", part):
        tag = part.upper()
        if _is_private(tag) or public_vr(int(tag, 16)) is not None:
            return tag
    else:
        number = pydicom_dictionary().tag_for_keyword(part) if part else None
        if number is not None:
            return f"{number:08X}"
    raise Invalid(f"there is no attribute {part[:64]}", name)


def _is_private(tag: str) -> bool:
    return "@" not in tag and tag[3] in "13579BDF"


def _is_creator(tag: str) -> bool:
    return _is_private(tag) and tag[4:6] == "00" and tag[6:] >= "10"


def _with_creator(tag: str, attributes: Attributes) -> str:
    if not _is_private(tag):
        return tag
    values: Iterable[Any] = attributes.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value") or ()
    creator = next((str(value).strip(" \0") for value in values if value), "")
    return f"{tag[:4]}00{tag[6:]}@{creator}" if creator else tag
