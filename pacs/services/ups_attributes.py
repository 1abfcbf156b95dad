"""Attributes of a Unified Procedure Step: PS3.4 Table CC.2.5-3 as data, and what it asks of N-CREATE and N-SET."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pacs.dicom.dates import date_time_span
from pacs.dicom.dictionary import public_vr
from pacs.dicom.model import Attributes
from pacs.dicom.uids import is_possible
from pacs.services.ups_outcomes import (
    AttributeEmpty,
    AttributeMissing,
    AttributeNotAllowed,
    AttributeWrong,
    FinalStateUnmet,
    NotScheduled,
    OnlyCreationSchedules,
)

UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"

CHARACTER_SET = "00080005"
SOP_CLASS_UID = "00080016"
SOP_UID = "00080018"
TRANSACTION_UID = "00081195"
START = "00404005"
MODIFIED = "00404010"
STATION_NAME = "00404025"
PERFORMERS = "00404034"
READINESS = "00404041"
STATE = "00741000"
PROGRESS = "00741002"
CANCELED_AT = "00404052"
REASON_CODE = "0074100E"
REASON = "00741238"
PERFORMED = "00741216"
PRIORITY = "00741200"
WORKLIST_LABEL = "00741202"

SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"

# Columns: tags from the outermost sequence inwards; on N-CREATE; on N-SET; Final State; Return Key. On N-CREATE and
# N-SET: 1 has to have a value, 2 may be empty, 3 is optional, v is optional but has a value when it is there, e has to
# be empty, s is set by the archive, - is not allowed. Final State: R for both, P for COMPLETED, X for CANCELED, p for
# COMPLETED but without items. code: the items are codes.
_TABLE = """
00741200           1 1 R 1
00404010           s s R 3
00741204           1 1 - 1
00741202           2 1 - 1
00741210           2 2 - 2
00404025           2 2 - 2 code
00404026           2 2 - 2 code
00404027           2 2 - 2 code
00404034           3 2 - 2
00404034 00404009  1 1 - - code
00404034 00404037  1 1 - -
00404034 00404036  1 1 - -
00404005           1 1 R 1
00404011           v v - 3
00404018           2 1 - 2 code
00400400           2 1 - 3
00404041           1 1 R 1
00404021           2 2 - 2
0020000D           2 2 - 2
00100010           2 - - 2
00100020           2 - - 2
00100021           2 - - 2
00100024           2 - - 2
00101002           2 2 - 2
00101002 00100020  1 1 - -
00100030           2 - - 2
00100040           2 - - 2
00380010           2 - - 2
00380014           2 - - 2
00081080           2 - - 2
00081084           2 - - 2 code
0040A370           2 - - 2
0040A370 0020000D  1 - - -
00741224           3 - - 3
00741224 00081150  1 - - -
00741224 00081155  1 - - -
00102000           3 2 - 2
001021C0           3 2 - 2
00380050           3 2 - 2
00741000           1 - R 1
00741002           e 2 X 2
00741002 00741004  - v - -
00741002 00741006  - v - -
00741002 00404052  - v X -
00741002 0074100E  - v X - code
00741002 00741008  - v - -
00741002 00741008 0074100A - 1 - -
00741216           e 2 P -
00741216 00404035  - v - -
00741216 00404028  - 2 P - code
00741216 00404050  - v P -
00741216 00404019  - v P - code
00741216 00404051  - v P -
00741216 00404033  - 2 p -
"""
_ENUMERATED = {PRIORITY: ("HIGH", "MEDIUM", "LOW"), READINESS: ("READY", "UNAVAILABLE", "INCOMPLETE")}
# Return keys of type 2C: only where there is something.
_IF_PRESENT = frozenset({"00102000", "001021C0", "00380050"})
_CODE_VALUES = ("00080100", "00080119", "00080120")
_CODE_MEANING = "00080104"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row; the columns are those of ``_TABLE``."""

    path: tuple[str, ...]
    create: str
    update: str
    final: str
    returned: str
    is_code: bool

    @property
    def tag(self) -> str:
        return self.path[-1]


def _rules() -> Iterator[Rule]:
    for line in _TABLE.strip().splitlines():
        cells = line.split()
        is_code = cells[-1] == "code"
        *path, create, update, final, returned = cells[:-1] if is_code else cells
        yield Rule(tuple(path), create, update, final, returned, is_code)


RULES = tuple(_rules())
_TOP = {rule.tag: rule for rule in RULES if len(rule.path) == 1}
# What a search returns without being asked (PS3.18 11.9.2).
RETURNED = frozenset(
    {SOP_CLASS_UID, SOP_UID, *(tag for tag, rule in _TOP.items() if rule.returned in ("1", "2"))} - _IF_PRESENT
)
RETURNED_IF_PRESENT = _IF_PRESENT


def value_of(attributes: Attributes, tag: str) -> str:
    """The first value as text, "" when there is none."""
    values = attributes.get(tag, {}).get("Value")
    return "" if not values or values[0] is None else str(values[0]).strip(" \0")


def items_of(attributes: Attributes, tag: str) -> list[dict[str, Any]]:
    return [item or {} for item in attributes.get(tag, {}).get("Value") or ()]


def check_creation(attributes: Attributes) -> None:
    """What N-CREATE asks (CC.2.5). Attributes of type 2 need not be there. Raises AttributeRefused and NotScheduled."""
    if STATE not in attributes:
        raise AttributeMissing(f"{_named(STATE)} is missing", (STATE,))
    if value_of(attributes, STATE) != SCHEDULED:
        raise NotScheduled(f"Procedure Step State of a new step must be {SCHEDULED}", STATE)
    if value_of(attributes, TRANSACTION_UID):
        raise AttributeWrong(f"{_named(TRANSACTION_UID)} of a new step must be empty", (TRANSACTION_UID,))
    for rule in RULES:
        _check(rule, rule.create, attributes)
    _check_values(attributes)


def check_update(changes: Attributes, there: Attributes) -> None:
    """What N-SET asks (CC.2.6). An attribute that cannot be set may be there with the value that it has.

    Raises AttributeRefused, and OnlyCreationSchedules.
    """
    for tag, element in changes.items():
        rule = _TOP.get(tag)
        is_fixed = tag in (SOP_CLASS_UID, SOP_UID) or (rule is not None and rule.update == "-")
        if is_fixed and not _is_same(element, there.get(tag, {})):
            if tag == STATE and value_of(changes, STATE) == SCHEDULED:
                raise OnlyCreationSchedules("a step becomes SCHEDULED only when it is created", STATE)
            raise AttributeNotAllowed(f"{_named(tag)} cannot be set", (tag,))
    for rule in RULES:
        # At the top an attribute that is not there is not changed.
        if rule.path[0] in changes and _TOP[rule.path[0]].update != "-":
            _check(rule, rule.update, changes)
    _check_values(changes)


def check_final(attributes: Attributes, state: str) -> None:
    """Whether a step may become COMPLETED or CANCELED (CC.2.5.1.1). Raises FinalStateUnmet."""
    letters = "RPp" if state == COMPLETED else "RX"
    unmet = [rule.path for rule in RULES if rule.final in letters and not _is_met(rule, attributes)]
    if unmet:
        named = ", ".join(_named(path[-1]) for path in unmet)
        raise FinalStateUnmet(f"{state} needs values of {named}", [path[-1] for path in unmet])


def completed(attributes: Attributes) -> dict[str, Any]:
    """With every attribute of type 2 that is not there, empty."""
    absent = {tag: rule for tag, rule in _TOP.items() if rule.create in "2e" and tag not in attributes}
    return {**attributes, **{tag: {"vr": public_vr(int(tag, 16)) or "UN"} for tag in absent}}


def _check(rule: Rule, kind: str, attributes: Attributes) -> None:
    for data_set in _parents(attributes, rule.path):
        element = data_set.get(rule.tag)
        has_value = element is not None and _has_value(element)
        if kind == "1" and element is None:
            raise AttributeMissing(f"{_named(rule.tag)} is missing", rule.path)
        if kind in ("1", "v") and element is not None and not has_value:
            raise AttributeEmpty(f"{_named(rule.tag)} has no value", rule.path)
        if kind == "e" and has_value:
            raise AttributeWrong(f"{_named(rule.tag)} of a new step must be empty", rule.path)
        if kind not in "-e" and rule.is_code:
            for item in items_of(data_set, rule.tag):
                _check_code(item, rule)


def _check_code(item: Attributes, rule: Rule) -> None:
    """PS3.4 Table CC.2.5-2a."""
    if not any(value_of(item, tag) for tag in _CODE_VALUES):
        raise AttributeMissing(f"a code of {_named(rule.tag)} has no value", (*rule.path, _CODE_VALUES[0]))
    if not value_of(item, _CODE_MEANING):
        raise AttributeMissing(f"a code of {_named(rule.tag)} has no meaning", (*rule.path, _CODE_MEANING))


def _check_values(attributes: Attributes) -> None:
    for tag, allowed in _ENUMERATED.items():
        if tag in attributes and value_of(attributes, tag) not in allowed:
            raise AttributeWrong(f"{_named(tag)} must be one of {', '.join(allowed)}", (tag,))
    for tag, rule in _TOP.items():
        text = value_of(attributes, tag)
        if text and public_vr(int(tag, 16)) == "DT" and rule.create != "s" and date_time_span(text) is None:
            raise AttributeWrong(f"{_named(tag)} is no date and time", (tag,))
    uid = value_of(attributes, "0020000D")
    if uid and not is_possible(uid):
        raise AttributeWrong("Study Instance UID is no UID", ("0020000D",))


def _is_met(rule: Rule, attributes: Attributes) -> bool:
    parents = list(_parents(attributes, rule.path))
    # Of a sequence without items the sequence's own rule speaks.
    return all(rule.tag in one if rule.final == "p" else _has_value(one.get(rule.tag, {})) for one in parents)


def _parents(attributes: Attributes, path: tuple[str, ...]) -> Iterator[Attributes]:
    """The data sets that a path's last attribute belongs into."""
    if len(path) == 1:
        yield attributes
        return
    for item in items_of(attributes, path[0]):
        yield from _parents(item, path[1:])


def _has_value(element: Mapping[str, Any]) -> bool:
    if "InlineBinary" in element:
        return True
    return any(value not in (None, "") for value in element.get("Value") or ())


def _is_same(element: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (element.get("Value") or []) == (other.get("Value") or [])


def _named(tag: str) -> str:
    return f"({tag[:4]},{tag[4:]})"
