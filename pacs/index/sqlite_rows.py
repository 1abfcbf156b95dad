"""From a data set to what the tables hold: normal forms for the columns, ready JSON for the answers.

A column holds NULL where the attribute has no value, the normal form of the one value that nearly all have, or else a
BLOB: a JSON list of the normal forms of several values, empty when none can be a value of the VR. BLOBs sort after
everything, so plain comparisons leave them out and the few that exist are looked at one by one (``sqlite_conditions``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import orjson

from pacs.dicom import normal
from pacs.dicom.attributes import DEFAULT_SEQUENCES, KEPT_SEQUENCES
from pacs.dicom.json_model import dumps
from pacs.dicom.matching import timezone_of
from pacs.dicom.model import Attributes, BlobRef, InstanceRecord, Level, StoredInstance, Target
from pacs.dicom.normal import Kind, Normal
from pacs.index.sqlite_schema import attributes_of, columns

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


# Columns that StoredInstance is made of, from instances i, series e and studies s.
INSTANCE_COLUMNS = (
    "s.c0020000D, e.c0020000E, i.c00080018, COALESCE(i.sop_class_uid, i.c00080016), i.c00083002, i.blob_key,"
    " i.size_bytes, i.digest, i.data_set_offset"
)
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AS_IT_IS = "\0"
_MARKS = ("\1", "\2", "\3")
_MARKED = re.compile("[\0-\3]")


def stored_digest(digest: str) -> bytes | str:
    """A digest as instances hold it: the 32 bytes of a SHA-256, any other text as it is."""
    found = _SHA256.fullmatch(digest)
    return bytes.fromhex(found[1]) if found else digest


def stored_key(key: str, target: Target) -> str:
    """A blob key as instances hold it: U+0001, U+0002 and U+0003 stand for the UIDs, which most keys are made of."""
    if _MARKED.search(key):
        return _AS_IT_IS + key
    # The longest first: a study's UID is often where those of its instances begin.
    for uid, mark in sorted(zip(_uids(target), _MARKS, strict=True), key=lambda pair: -len(pair[0])):
        if uid:
            key = key.replace(uid, mark)
    return key


def stored_time(at: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def key_hash(key: str) -> int:
    """What instances are found by whose key this may be.

    Neighbours for the files of one folder: a series that comes changes a page of the index, not a page an instance.
    """
    folder, _, name = key.rpartition("/")
    return _hash32(folder) << 32 | (_hash32(name) & 0xFFFFFFFF)


def _hash32(text: str) -> int:
    """Signed, as SQLite keeps integers."""
    hashed = blake2b(text.encode(errors="surrogatepass"), digest_size=4)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def _uids(target: Target) -> tuple[str, str, str]:
    return target.study_uid, target.series_uid or "", target.sop_uid or ""


def _plain_key(stored: str, target: Target) -> str:
    if stored[:1] == _AS_IT_IS:
        return stored[1:]
    study_uid, series_uid, sop_uid = _uids(target)
    # No mark comes out of a UID: then the key would have had it, and been kept as it is.
    return stored.replace("\1", study_uid).replace("\2", series_uid).replace("\3", sop_uid)


def stored_instance(row: Sequence[Any]) -> StoredInstance:
    """row: ``INSTANCE_COLUMNS``."""
    study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, key, size_bytes, digest, offset = row
    target = Target(study_uid, series_uid, sop_uid)
    whole = f"sha256:{digest.hex()}" if digest.__class__ is bytes else digest
    return StoredInstance(
        target, sop_class_uid, transfer_syntax_uid, BlobRef(_plain_key(key, target), size_bytes, whole), offset
    )


def earlier_version(row: Sequence[Any]) -> StoredInstance:
    """row: the same columns of a superseded or deleted version, which hold key and digest in full."""
    study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, key, size_bytes, digest, offset = row
    return StoredInstance(
        Target(study_uid, series_uid, sop_uid),
        sop_class_uid,
        transfer_syntax_uid,
        BlobRef(key, size_bytes, digest),
        offset,
    )


def version_values(instance: StoredInstance) -> tuple[Any, ...]:
    """The values of a superseded or deleted version's columns, as ``earlier_version`` reads them."""
    target, blob = instance.target, instance.blob
    return (
        *(target.study_uid, target.series_uid, target.sop_uid, instance.sop_class_uid, instance.transfer_syntax_uid),
        *(blob.key, blob.size_bytes, blob.digest, instance.data_set_offset),
    )


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
