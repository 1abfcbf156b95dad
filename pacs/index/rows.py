"""From a data set to what the engines keep of it: normal forms of its attributes, ready JSON for the answers.

A column holds None where the attribute has no value, the normal form of the one value that nearly all have, or else
bytes: a JSON list of the normal forms of several values, empty when none can be a value of the VR. (SQLite's BLOBs sort
after everything, so plain comparisons leave them out and the few that exist are looked at one by one.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from pacs.dicom import normal
from pacs.dicom.attributes import ALL, DEFAULT_SEQUENCES, KEPT_SEQUENCES, Attribute
from pacs.dicom.json_model import dumps
from pacs.dicom.matching import timezone_of
from pacs.dicom.model import Attributes, InstanceRecord, Level, Target
from pacs.dicom.normal import Kind, Normal

Stored = str | int | float | bytes | None


@dataclass(frozen=True, slots=True)
class LevelRow:
    """What one data set says about one level. digest: of fragment and rest, to tell whether a row changes."""

    fragment: bytes
    rest: bytes
    digest: int
    columns: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """What one data set says about all levels. identity: names the patient row; study_digest: of patient and study."""

    patient: LevelRow
    study: LevelRow
    series: LevelRow
    image: LevelRow
    identity: str
    study_digest: int
    modality: str
    number: Stored


@dataclass(frozen=True, slots=True)
class Prepared:
    """One record made ready outside the transaction."""

    record: InstanceRecord
    rows: Rows
    metadata: bytes
    layout: bytes


def columns(attribute: Attribute) -> tuple[str, ...]:
    """Columns of one attribute; a person name has one per component group."""
    name = f"c{attribute.tag}"
    return (name, name + "i", name + "p") if attribute.vr == "PN" else (name,)


def attributes_of(level: Level) -> tuple[Attribute, ...]:
    return tuple(attribute for attribute in ALL if attribute.level is level)


_MOST_ROWS = 512  # that are kept, of a few kB each

# Attributes of each level that come from data sets, and their columns.
KEPT = {level: tuple(a for a in attributes_of(level) if not a.counted) for level in Level}
COLUMNS = {level: tuple(name for a in KEPT[level] for name in columns(a)) for level in Level}
_FRAGMENT_TAGS = {
    level: tuple(
        sorted(
            [a.tag for a in KEPT[level] if a.default]
            + [tag for tag, at in KEPT_SEQUENCES.items() if at is level and tag in DEFAULT_SEQUENCES]
        )
    )
    for level in Level
}
_REST_TAGS = {
    level: tuple(
        sorted(
            [a.tag for a in KEPT[level] if not a.default]
            + [tag for tag, at in KEPT_SEQUENCES.items() if at is level and tag not in DEFAULT_SEQUENCES]
        )
    )
    for level in Level
}
_KINDS = {level: tuple((a.tag, normal.kind_of(a.vr)) for a in KEPT[level]) for level in Level}


class LevelRows:
    """Rows of patients, studies and series made lately: instances that come one after the other have them in common.

    Safe to use from several threads: at worst a row is made twice.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[Level, str, bytes, bytes], LevelRow] = {}

    def row(self, level: Level, attributes: Mapping[str, Any], timezone: str) -> LevelRow:
        fragment, rest = _bodies(level, attributes)
        # All that the columns are made from.
        key = (level, timezone, fragment, rest)
        found = self._rows.get(key)
        if found is None:
            found = _level_row(level, attributes, timezone, fragment, rest)
            if len(self._rows) >= _MOST_ROWS:
                self._rows = {}
            self._rows[key] = found
        return found


def prepare(record: InstanceRecord, made: LevelRows | None = None) -> Prepared:
    """made: kept by the caller from one record to the next, to save time."""
    header = record.header
    rows = rows_of(header.attributes, header.target, header.sop_class_uid, header.transfer_syntax_uid, made)
    return Prepared(record, rows, header.json, header.layout.to_bytes())


def rows_of(
    attributes: Attributes,
    target: Target,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    made: LevelRows | None = None,
) -> Rows:
    """target and SOP class stand in for what the data set lacks, or has otherwise: they are the row's identity."""
    known = with_identity(attributes, target, sop_class_uid)
    timezone = timezone_of(attributes)
    upper = made or LevelRows()
    patient = upper.row(Level.PATIENT, known, timezone)
    study = upper.row(Level.STUDY, known, timezone)
    image = _bodies(Level.IMAGE, known, {"00083002": {"vr": "UI", "Value": [transfer_syntax_uid]}})
    return Rows(
        patient,
        study,
        upper.row(Level.SERIES, known, timezone),
        _level_row(Level.IMAGE, known, timezone, *image),
        identity=_identity(attributes, target),
        study_digest=digest_of(patient.fragment, patient.rest, study.fragment, study.rest),
        modality=first_text(attributes, "00080060"),
        number=_first_number(attributes, "00200013"),
    )


def with_identity(attributes: Attributes, target: Target, sop_class_uid: str) -> dict[str, Any]:
    """The data set with the UIDs that the archive knows it by."""
    return {
        **attributes,
        "00080016": {"vr": "UI", "Value": [sop_class_uid]},
        "00080018": {"vr": "UI", "Value": [target.sop_uid]},
        "0020000D": {"vr": "UI", "Value": [target.study_uid]},
        "0020000E": {"vr": "UI", "Value": [target.series_uid]},
    }


def stored_form(values: Sequence[Normal] | None, kind: Kind) -> tuple[Stored, ...]:
    """What the attribute's column, or a person name's three, hold."""
    if kind is Kind.NAME:
        if values is None:
            return (None, None, None)
        if len(values) != 1:
            return (orjson.dumps(values), None, None)
        alphabetic, ideographic, phonetic = values[0]  # type: ignore[misc, str-unpack]  # names are groups
        return (alphabetic or None, ideographic or None, phonetic or None)
    if values is None:
        return (None,)
    return (values[0] if len(values) == 1 else orjson.dumps(values),)  # type: ignore[return-value]  # no name here


def digest_of(*parts: bytes) -> int:
    """64 bits that tell contents apart, signed as SQLite keeps them."""
    hashed = blake2b(digest_size=8)
    for part in parts:
        hashed.update(part)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def first_text(attributes: Attributes, tag: str) -> str:
    values = attributes.get(tag, {}).get("Value")
    return str(values[0]).strip(" \0") if values and values[0] is not None else ""


def _bodies(level: Level, attributes: Mapping[str, Any], made: Mapping[str, Any] | None = None) -> tuple[bytes, bytes]:
    """Fragment and rest."""
    return (
        dumps({**{t: attributes[t] for t in _FRAGMENT_TAGS[level] if t in attributes}, **(made or {})}),
        dumps({t: attributes[t] for t in _REST_TAGS[level] if t in attributes}),
    )


def _level_row(level: Level, attributes: Mapping[str, Any], timezone: str, fragment: bytes, rest: bytes) -> LevelRow:
    found: list[Stored] = []
    for tag, kind in _KINDS[level]:
        element = attributes.get(tag)
        if element is None:
            found += (None, None, None) if kind is Kind.NAME else (None,)
        else:
            found += stored_form(normal.normal_values(element, kind, timezone), kind)
    return LevelRow(fragment, rest, digest_of(fragment, rest), tuple(found))


def _identity(attributes: Attributes, target: Target) -> str:
    patient_id = first_text(attributes, "00100020")
    # Without a Patient ID nothing says that two studies are of one person.
    return orjson.dumps([patient_id, first_text(attributes, "00100021")] if patient_id else [target.study_uid]).decode()


def _first_number(attributes: Attributes, tag: str) -> Stored:
    values = attributes.get(tag, {}).get("Value")
    return normal.number(values[0]) if values else None
