"""References to SOP instances in data sets (PS3.3 Table 10-11), as storage commitment has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pacs.dicom.model import Attributes
from pacs.errors import Invalid

REFERENCED_SOPS = "00081199"
FAILED_SOPS = "00081198"
REFERENCED_STUDIES = "00081110"
FAILED_STUDIES = "0008119B"
_REFERENCED_SERIES = "00081115"
_INSTANCES_BY_CLASS = "00081112"
_REFERENCED_INSTANCES = "0008114A"
_CLASS, _INSTANCE = "00081150", "00081155"
_STUDY_UID, _SERIES_UID = "0020000D", "0020000E"
_FAILURE_REASON = "00081197"

Element = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reference:
    """One SOP instance. study_uid, series_uid: "" where the reference does not say."""

    sop_class_uid: str
    sop_uid: str
    study_uid: str = ""
    series_uid: str = ""


def references(attributes: Attributes, tag: str = REFERENCED_SOPS) -> list[Reference]:
    """Those of a sequence, in order; none when it is absent. Raises Invalid for one without its UIDs."""
    return [Reference(_uid(item, _CLASS), _uid(item, _INSTANCE)) for item in _items(attributes, tag)]


def references_by_study(attributes: Attributes) -> list[Reference]:
    """Those of Referenced Study Sequence (PS3.18 Table J.1-1), in order. Raises Invalid as ``references`` does."""
    return [
        Reference(_uid(group, _CLASS), _uid(item, _INSTANCE), _uid(study, _STUDY_UID), _uid(series, _SERIES_UID))
        for study in _items(attributes, REFERENCED_STUDIES)
        for series in _items(study, _REFERENCED_SERIES)
        for group in _items(series, _INSTANCES_BY_CLASS)
        for item in _items(group, _REFERENCED_INSTANCES)
    ]


def failures(attributes: Attributes) -> dict[str, int]:
    """SOP Instance UID → Failure Reason of Failed SOP Sequence; 0110H where none is given."""
    return {
        _uid(item, _INSTANCE): next((int(value) for value in _values(item, _FAILURE_REASON)), 0x0110)
        for item in _items(attributes, FAILED_SOPS)
    }


def sequence(found: Iterable[Reference]) -> Element:
    return _sq([_item(reference) for reference in found])


def failed_sequence(found: Iterable[tuple[Reference, int]]) -> Element:
    """Failed SOP Sequence of references and Failure Reasons."""
    return _sq([{**_item(reference), _FAILURE_REASON: {"vr": "US", "Value": [why]}} for reference, why in found])


def study_sequence(found: Iterable[tuple[Reference, int | None]]) -> Element:
    """By study, series and SOP class, in the order in which each is met first (PS3.18 Table J.2-1).

    found: with the Failure Reason for Failed Study Sequence, None for Referenced Study Sequence.
    """
    tree: dict[str, dict[str, dict[str, list[Element]]]] = {}
    for each, why in found:
        item = {_INSTANCE: _ui(each.sop_uid)}
        if why is not None:
            item[_FAILURE_REASON] = {"vr": "US", "Value": [why]}
        by_class = tree.setdefault(each.study_uid, {}).setdefault(each.series_uid, {})
        by_class.setdefault(each.sop_class_uid, []).append(item)
    studies = []
    for study_uid, by_series in tree.items():
        series = []
        for series_uid, by_class in by_series.items():
            groups = [{_REFERENCED_INSTANCES: _sq(items), _CLASS: _ui(uid)} for uid, items in by_class.items()]
            series.append({_INSTANCES_BY_CLASS: _sq(groups), _SERIES_UID: _ui(series_uid)})
        studies.append({_REFERENCED_SERIES: _sq(series), _STUDY_UID: _ui(study_uid)})
    return _sq(studies)


def _item(reference: Reference) -> Element:
    return {_CLASS: _ui(reference.sop_class_uid), _INSTANCE: _ui(reference.sop_uid)}


def _sq(items: list[Element]) -> Element:
    return {"vr": "SQ", "Value": items}


def _ui(uid: str) -> Element:
    return {"vr": "UI", "Value": [uid]}


def _items(attributes: Attributes, tag: str) -> Iterator[Attributes]:
    for item in _values(attributes, tag):
        if not isinstance(item, Mapping):
            raise Invalid(f"({tag[:4]},{tag[4:]}) is not a sequence", tag)
        yield item


def _values(attributes: Attributes, tag: str) -> list[Any]:
    element = attributes.get(tag, {})
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values if isinstance(values, list) else []


def _uid(item: Attributes, tag: str) -> str:
    value = next(iter(_values(item, tag)), None)
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"a reference has no UID in ({tag[:4]},{tag[4:]})", tag)
    return value.strip(" \0")
