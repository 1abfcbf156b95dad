"""Worklist items: one scheduled procedure step with its request, visit and patient (PS3.4 K.6.1.2, PS3.3 C.4.10).

In DICOM JSON, as C-FIND answers them: Scheduled Procedure Step Sequence (0040,0100) has exactly one item.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from pacs.dicom import dates, uids
from pacs.dicom.dictionary import first_value, pydicom_dictionary
from pacs.dicom.matching import items_of
from pacs.dicom.model import Attributes
from pacs.errors import Invalid

STEPS = "00400100"
STUDY_UID, REQUEST_ID, ACCESSION_NUMBER = "0020000D", "00401001", "00080050"
STEP_ID, STEP_STATUS, START_DATE, START_TIME = "00400009", "00400020", "00400002", "00400003"
_REQUEST_TEXT, _REQUEST_CODES, _STEP_TEXT, _STEP_CODES = "00321060", "00321064", "00400007", "00400008"

# PS3.3 C.4.10, and what IHE and archives say besides.
SCHEDULED, STARTED = "SCHEDULED", "STARTED"
COMPLETED, DISCONTINUED, CANCELED = "COMPLETED", "DISCONTINUED", "CANCELED"
STATES = (
    *(SCHEDULED, "ARRIVED", "READY", STARTED, "DEPARTED"),
    *("IN PROGRESS", DISCONTINUED, COMPLETED, CANCELED),
)
# Nothing is left to be done: not offered unless asked for by status.
CLOSED = frozenset({COMPLETED, DISCONTINUED, CANCELED})

# Return keys of type 1 (PS3.4 Table K.6-1), which no item can be without.
_REQUIRED = ("00100010", "00100020", STUDY_UID, REQUEST_ID)
_STEP_REQUIRED = ("00400001", START_DATE, START_TIME, "00080060", STEP_ID)
# Longest values that a modality takes, by VR (PS3.5 Table 6.2-1).
_LONGEST = {"AE": 16, "CS": 16, "LO": 64, "SH": 16, "UI": 64}


class ItemKey(NamedTuple):
    """What names an item: unlike its accession number, neither can change while it is performed."""

    study_uid: str
    step_id: str

    def __str__(self) -> str:
        return f"{self.study_uid}/{self.step_id}"


def step_of(item: Attributes) -> Attributes:
    """The scheduled procedure step of an item."""
    return next(iter(items_of(item.get(STEPS))), {})


def key_of(item: Attributes) -> ItemKey:
    return ItemKey(text_at(item, STUDY_UID), text_at(step_of(item), STEP_ID))


def status_of(item: Attributes) -> str:
    """SCHEDULED when nothing else is said."""
    return text_at(step_of(item), STEP_STATUS).upper() or SCHEDULED


def start_of(item: Attributes) -> tuple[str, str]:
    """Date (YYYYMMDD) and time, of which items are in order."""
    step = step_of(item)
    return text_at(step, START_DATE).replace(".", ""), text_at(step, START_TIME).replace(":", "")


def text_at(attributes: Attributes, tag: str) -> str:
    """The first value as text without padding; "" when there is none."""
    value = first_value(attributes, tag)
    return "" if value is None or isinstance(value, Mapping) else str(value).strip(" \0")


def with_status(item: Attributes, status: str) -> dict[str, Any]:
    """The same item in another state. Raises Invalid."""
    step = {**step_of(item), STEP_STATUS: {"vr": "CS", "Value": [known_status(status)]}}
    return {**item, STEPS: {"vr": "SQ", "Value": [dict(sorted(step.items()))]}}


def known_status(status: str) -> str:
    """One of ``STATES``. Raises Invalid."""
    found = status.strip().upper().replace("_", " ").replace("CANCELLED", CANCELED)
    if found not in STATES:
        raise Invalid(f"{status[:32]!r} is no ScheduledProcedureStepStatus: one of {', '.join(STATES)}", "status")
    return found


def completed(item: Attributes, today: date) -> dict[str, Any]:
    """An item that somebody ordered, with what can be made up for it: Study Instance UID, IDs, status and so on.

    An accession number that is there without a value stays so. Raises Invalid as ``check`` does, and for values that
    are longer than their VR allows: some modalities take those for an error of the whole answer.
    """
    steps = items_of(item.get(STEPS))
    if len(steps) != 1:
        what = "more than one item: send one worklist item for each" if steps else "no item"
        raise Invalid(f"ScheduledProcedureStepSequence (0040,0100) has {what}", "ScheduledProcedureStepSequence")
    made, step = dict(item), dict(steps[0])
    if not text_at(made, STUDY_UID):
        made[STUDY_UID] = _one("UI", uids.new_uid())
    if not text_at(made, REQUEST_ID):
        made[REQUEST_ID] = _one("SH", _new_id("R", today))
    if ACCESSION_NUMBER not in made:
        made[ACCESSION_NUMBER] = _one("SH", _new_id("A", today))
    if not text_at(step, STEP_ID):
        step[STEP_ID] = _one("SH", _new_id("S", today))
    step[STEP_STATUS] = _one("CS", known_status(text_at(step, STEP_STATUS) or SCHEDULED))
    # What is to be done is said at least once (type 1C), and a modality shows whichever it knows.
    if not text_at(made, _REQUEST_TEXT) and not items_of(made.get(_REQUEST_CODES)):
        made[_REQUEST_TEXT] = _one("LO", text_at(step, _STEP_TEXT) or _meaning(step, _STEP_CODES))
    if not text_at(step, _STEP_TEXT) and not items_of(step.get(_STEP_CODES)):
        step[_STEP_TEXT] = _one("LO", text_at(made, _REQUEST_TEXT) or _meaning(made, _REQUEST_CODES))
    if not text_at(made, _REQUEST_TEXT) and not items_of(made.get(_REQUEST_CODES)):
        raise _missing(_REQUEST_TEXT, "")
    made[STEPS] = {"vr": "SQ", "Value": [dict(sorted(step.items()))]}
    check(made)
    for attributes, place in ((made, ""), (step, f"{_name(STEPS)}.")):
        for tag, element in attributes.items():
            _check_length(tag, element, place)
    return dict(sorted(made.items()))


def check(item: Attributes) -> None:
    """Raises Invalid, naming the attribute, for an item without what every answer needs."""
    step = step_of(item)
    for attributes, required, place in ((item, _REQUIRED, ""), (step, _STEP_REQUIRED, f"{_name(STEPS)}.")):
        for tag in required:
            if not _has_value(attributes, tag):
                raise _missing(tag, place)
    key = key_of(item)
    if not uids.is_possible(key.study_uid):
        raise Invalid(f"StudyInstanceUID {key.study_uid[:80]!r} is not a UID", "StudyInstanceUID")
    number = dates.date_number(text_at(step, START_DATE))
    if number is None or not dates.is_calendar_date(number):
        raise Invalid(f"{_place(START_DATE)} is not a date (YYYYMMDD)", _place(START_DATE))
    if dates.time_span(text_at(step, START_TIME)) is None:
        raise Invalid(f"{_place(START_TIME)} is not a time (HHMMSS)", _place(START_TIME))


def _check_length(tag: str, element: Mapping[str, Any], place: str) -> None:
    longest = _LONGEST.get(str(element.get("vr")))
    if longest is None:
        return
    for value in element.get("Value") or ():
        if value is not None and len(str(value)) > longest:
            name = f"{place}{_name(tag)}"
            raise Invalid(f"{name} is longer than the {longest} characters of its VR {element['vr']}", name)


def _has_value(attributes: Attributes, tag: str) -> bool:
    value = first_value(attributes, tag)
    return any(str(group).strip("^= ") for group in value.values()) if isinstance(value, Mapping) else bool(value)


def _missing(tag: str, place: str) -> Invalid:
    name = f"{place}{_name(tag)}"
    return Invalid(f"{name} ({tag[:4]},{tag[4:]}) is missing or has no value", name)


def _place(tag: str) -> str:
    return f"{_name(STEPS)}.{_name(tag)}"


def _name(tag: str) -> str:
    return str(pydicom_dictionary().keyword_for_tag(int(tag, 16))) or tag


def _meaning(attributes: Attributes, tag: str) -> str:
    """Code Meaning of a code sequence's first item."""
    return text_at(next(iter(items_of(attributes.get(tag))), {}), "00080104")


def _one(vr: str, value: str) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value else {"vr": vr}


def _new_id(prefix: str, today: date) -> str:
    """15 characters (SH), of which 32 bits are random: two nodes need not ask each other."""
    return f"{prefix}{today:%y%m%d}{secrets.token_hex(4).upper()}"
