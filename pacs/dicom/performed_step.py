"""Modality performed procedure steps (MPPS): what an N-CREATE has to say and an N-SET may change (PS3.4 F.7.2)."""

from __future__ import annotations

from typing import Any

from pacs.dicom import uids
from pacs.dicom.dictionary import first_value, pydicom_dictionary
from pacs.dicom.matching import items_of
from pacs.dicom.model import Attributes
from pacs.dicom.worklist_item import STUDY_UID, text_at
from pacs.errors import InvalidValue, MissingAttribute, MissingValue, Unchangeable

SOP_CLASS = "1.2.840.10008.3.1.2.3.3"
STATUS, REFERENCES, SERIES = "00400252", "00400270", "00400340"
START_DATE = "00400244"
IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
FINAL = frozenset({COMPLETED, DISCONTINUED})

_SERIES_UID, _INSTANCE_UID = "0020000E", "00081155"
_INSTANCES = ("00081140", "00400220")  # images, and other composite instances
_END_DATE, _END_TIME = "00400250", "00400251"
# Type 1 at N-CREATE (PS3.4 Table F.7.2-1). What is of type 2 there may be missing: many modalities leave it out.
_CREATED = (STATUS, "00400253", "00400241", START_DATE, "00400245", "00080060", REFERENCES)
# Type 1 in the final state. A discontinued step without any series has made no image.
_ENDED = {COMPLETED: (_END_DATE, _END_TIME, SERIES), DISCONTINUED: (_END_DATE, _END_TIME)}
# Who, where, what for and when it began: set once, by N-CREATE.
_FIXED = frozenset(
    {
        *(REFERENCES, "00100010", "00100020", "00100021", "00100024", "00100030", "00100040", "00101002", "00081120"),
        *("00400253", "00400241", "00400242", "00400243", START_DATE, "00400245", "00080060", "00200010"),
        *("00380010", "00380014", "00120010", "00120020", "00120030"),
    }
)
# Of the instance, not of its attributes; a character set is what the message was written in.
_OUTSIDE = frozenset({"00080005", "00080016", "00080018"})


def created(sop_uid: str, attributes: Attributes) -> dict[str, Any]:
    """A new step. Raises MissingAttribute, MissingValue and InvalidValue, naming the attribute."""
    if not uids.is_possible(sop_uid):
        raise InvalidValue("SOPInstanceUID is not a UID")
    for tag in _CREATED:
        _check_present(attributes, tag)
    for reference in references(attributes):
        _check_present(reference, STUDY_UID)
        if not uids.is_possible(text_at(reference, STUDY_UID)):
            raise InvalidValue("StudyInstanceUID is not a UID")
    if state_of(attributes) != IN_PROGRESS:
        raise InvalidValue(f"{_name(STATUS)} has to begin as {IN_PROGRESS}")
    made = {tag: element for tag, element in attributes.items() if tag not in _OUTSIDE}
    made["00080016"] = {"vr": "UI", "Value": [SOP_CLASS]}
    made["00080018"] = {"vr": "UI", "Value": [sop_uid]}
    return dict(sorted(made.items()))


def changed(step: Attributes, changes: Attributes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(the step after an N-SET, tags that it would change and must not).

    Fixed attributes that say the same as before are no change: modalities send them along. Raises Unchangeable once the
    step is completed or discontinued, InvalidValue for another status than there is, and MissingAttribute and
    MissingValue for a final state without what belongs to it.
    """
    if state_of(step) in FINAL:
        raise Unchangeable(f"the performed procedure step is {state_of(step)}: it may no longer be updated")
    ignored = tuple(tag for tag in sorted(changes) if tag in _FIXED and not _is_same(step.get(tag), changes[tag]))
    allowed = {tag: element for tag, element in changes.items() if tag not in _FIXED | _OUTSIDE}
    made = {**step, **allowed}
    state = state_of(made)
    if state not in (IN_PROGRESS, *FINAL):
        raise InvalidValue(f"{_name(STATUS)} is none of {IN_PROGRESS}, {COMPLETED}, {DISCONTINUED}")
    for tag in _ENDED.get(state, ()):
        _check_present(made, tag)
    if state in FINAL:
        for series in items_of(made.get(SERIES)):
            _check_present(series, _SERIES_UID)
    return dict(sorted(made.items())), ignored


def state_of(step: Attributes) -> str:
    return text_at(step, STATUS).upper()


def sop_uid_of(step: Attributes) -> str:
    return text_at(step, "00080018")


def references(step: Attributes) -> list[Attributes]:
    """Items of the Scheduled Step Attributes Sequence: what the step was done for."""
    return items_of(step.get(REFERENCES))


def studies(step: Attributes) -> list[str]:
    """Study Instance UIDs, each once."""
    return list(dict.fromkeys(text_at(reference, STUDY_UID) for reference in references(step)))


def instances(step: Attributes) -> list[str]:
    """SOP Instance UIDs of all that was made, by the Performed Series Sequence."""
    found = (
        text_at(instance, _INSTANCE_UID)
        for series in items_of(step.get(SERIES))
        for tag in _INSTANCES
        for instance in items_of(series.get(tag))
    )
    return [uid for uid in dict.fromkeys(found) if uid]


def _check_present(attributes: Attributes, tag: str) -> None:
    element = attributes.get(tag)
    if element is None:
        raise MissingAttribute(f"{_name(tag)} ({tag[:4]},{tag[4:]}) is missing")
    if first_value(attributes, tag) in (None, "", {}) and not items_of(element):
        raise MissingValue(f"{_name(tag)} ({tag[:4]},{tag[4:]}) has no value")


def _is_same(one: Any, other: Any) -> bool:
    """Whether two elements say the same; of sequences, whether they have the same values in any order of attributes."""
    return (one or {}).get("Value") == (other or {}).get("Value")


def _name(tag: str) -> str:
    return str(pydicom_dictionary().keyword_for_tag(int(tag, 16))) or tag
