"""DICOMDIR: the directory of a file-set (PS3.10 8.6, PS3.3 Annex F), made from metadata; no file is opened."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pacs.dicom import file_meta
from pacs.dicom.encode import encode_data_set
from pacs.dicom.file_meta import FileMeta
from pacs.dicom.model import Attributes, StoredInstance
from pacs.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from pacs.dicom.uids import derived_uid

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
NAME = "DICOMDIR"

_COMPOSITE = "1.2.840.10008.5.1.4.1.1."
_IN_USE = 0xFFFF  # Record In-use Flag: every record is in use (PS3.3 F.3.2.2)

# Directory Record Type by SOP class (PS3.3 Table F.4-1); by prefix below, what is not listed is an image.
_TYPES = {
    f"{_COMPOSITE}{uid}": record_type
    for record_type, listed in {
        "RT DOSE": "481.2",
        "RT STRUCTURE SET": "481.3",
        "RT PLAN": "481.5 481.8",
        "RT TREAT RECORD": "481.4 481.6 481.7 481.9",
        "PRESENTATION": "131",
        "KEY OBJECT DOC": "88.59",
        "SR DOCUMENT": "78.6 79.1",
        "SPECTROSCOPY": "4.2",
        "RAW DATA": "66",
        "REGISTRATION": "66.1 66.3",
        "FIDUCIAL": "66.2",
        "SURFACE": "66.5",
        "TRACT": "66.6",
        "VALUE MAP": "67",
        "SURFACE SCAN": "68.1 68.2",
        "STEREOMETRIC": "77.1.5.3",
        "MEASUREMENT": "78.1 78.2 78.3 78.4 78.5 78.7 80.1",
        "ASSESSMENT": "90.1",
        "IMAGE": "481.1",
    }.items()
    for uid in listed.split()
}
_TYPES |= {
    "1.2.840.10008.5.1.4.38.1": "HANGING PROTOCOL",
    "1.2.840.10008.5.1.4.39.1": "PALETTE",
    "1.2.840.10008.5.1.4.43.1": "IMPLANT",
    "1.2.840.10008.5.1.4.44.1": "IMPLANT ASSY",
    "1.2.840.10008.5.1.4.45.1": "IMPLANT GROUP",
    "1.2.840.10008.5.1.4.34.7": "PLAN",
}
_TYPES_BY_PREFIX = (
    (f"{_COMPOSITE}11.", "PRESENTATION"),
    (f"{_COMPOSITE}9.", "WAVEFORM"),
    (f"{_COMPOSITE}88.", "SR DOCUMENT"),
    (f"{_COMPOSITE}104.", "ENCAP DOC"),
    (f"{_COMPOSITE}481.", "RADIOTHERAPY"),
    (_COMPOSITE, "IMAGE"),
)
# Records right below the root: these objects belong to no patient (PS3.3 Table F.4-1).
_AT_ROOT = frozenset({"HANGING PROTOCOL", "PALETTE", "IMPLANT", "IMPLANT ASSY", "IMPLANT GROUP"})

# Attributes of the records (PS3.3 F.5), each with its VR: what must be there, empty where the object has none, and
# what goes in when the object has it.
_PATIENT = {"00100010": "PN", "00100020": "LO"}
_STUDY = {"00080020": "DA", "00080030": "TM", "00080050": "SH", "00081030": "LO", "0020000D": "UI", "00200010": "SH"}
_SERIES = {"00080060": "CS", "0020000E": "UI", "00200011": "IS"}
_NUMBER = {"00200013": "IS"}
_CONTENT = {"00080023": "DA", "00080033": "TM", **_NUMBER}
_IDENTIFIED = {**_CONTENT, "00700080": "CS", "00700081": "LO", "00700084": "PN"}
_LEAVES = {
    "IMAGE": _NUMBER,
    "RT DOSE": {**_NUMBER, "3004000A": "CS"},
    "RT STRUCTURE SET": {**_NUMBER, "30060002": "SH", "30060008": "DA", "30060009": "TM"},
    "RT PLAN": {**_NUMBER, "300A0002": "SH", "300A0006": "DA", "300A0007": "TM"},
    "RT TREAT RECORD": {**_NUMBER, "30080250": "DA", "30080251": "TM"},
    "RADIOTHERAPY": {**_NUMBER, "00700081": "LO", "00700084": "PN"},
    "PRESENTATION": {
        **_NUMBER,
        "00700080": "CS",
        "00700081": "LO",
        "00700082": "DA",
        "00700083": "TM",
        "00700084": "PN",
    },
    "WAVEFORM": _CONTENT,
    "RAW DATA": _CONTENT,
    "SR DOCUMENT": {**_CONTENT, "0040A043": "SQ", "0040A491": "CS", "0040A493": "CS"},
    "KEY OBJECT DOC": {**_CONTENT, "0040A043": "SQ"},
    "ENCAP DOC": {**_CONTENT, "0040A043": "SQ", "00420010": "ST", "00420012": "LO"},
    "SPECTROSCOPY": {
        **_CONTENT,
        "00080008": "CS",
        "00280008": "IS",
        "00280010": "US",
        "00280011": "US",
        "00289001": "UL",
        "00289002": "UL",
    },
    "REGISTRATION": _IDENTIFIED,
    "FIDUCIAL": _IDENTIFIED,
    "VALUE MAP": _IDENTIFIED,
    "MEASUREMENT": _IDENTIFIED,
    "SURFACE": _IDENTIFIED,
    "TRACT": _IDENTIFIED,
    "SURFACE SCAN": {"00080023": "DA", "00080033": "TM"},
    "ASSESSMENT": {**_NUMBER, "00080012": "DA", "00080013": "TM"},
    "HANGING PROTOCOL": {"00720002": "SH", "00720004": "LO", "00720008": "LO", "0072000A": "DT", "00720014": "US"},
    "PALETTE": {"00700080": "CS", "00700081": "LO"},
    "IMPLANT": {"00080070": "LO", "00221095": "LO", "00221097": "LO"},
    "IMPLANT ASSY": {"00760001": "LO", "00080070": "LO", "00760020": "SQ"},
    "IMPLANT GROUP": {"00780001": "LO", "00780020": "LO"},
}
_OPTIONAL = {
    "SERIES": {"00080021": "DA", "00080031": "TM", "0008103E": "LO"},
    "IMAGE": {"00080008": "CS", "00280008": "IS", "00280010": "US", "00280011": "US"},
    "PRESENTATION": {"00081115": "SQ", "00700402": "SQ"},
    "SR DOCUMENT": {"0040A030": "DT"},
    "ENCAP DOC": {"0040E001": "ST"},
}
# Offsets within an encoded record, whose first elements always are (0004,1400), (0004,1410) and (0004,1420).
_NEXT_AT, _LOWER_AT = 8, 30
_ITEM = struct.Struct("<HHL")


@dataclass(slots=True)
class _Record:
    """One encoded directory record and those below it."""

    content: bytearray
    children: list[_Record] = field(default_factory=list)


class Directory:
    """A DICOMDIR being made: ``add`` every instance of the file-set, then ``encode``.

    Takes some hundred bytes of memory an instance.
    """

    def __init__(self) -> None:
        self._roots: list[_Record] = []
        self._patients: dict[tuple[str, str], _Record] = {}
        self._studies: dict[str, _Record] = {}
        self._series: dict[tuple[str, str | None], _Record] = {}
        self._number = 0

    def add(
        self, instance: StoredInstance, attributes: Attributes, file_id: Sequence[str], transfer_syntax_uid: str
    ) -> None:
        """file_id: path of the file in the file-set, at most 8 parts of 1 to 8 of A-Z, 0-9 and "_" (PS3.10 8.2).

        transfer_syntax_uid: of the file as it lies there.
        """
        self._number += 1
        record_type = record_type_of(instance.sop_class_uid)
        made: dict[str, Any] = {
            "00041500": {"vr": "CS", "Value": list(file_id)},
            "00041510": {"vr": "UI", "Value": [instance.sop_class_uid]},
            "00041511": {"vr": "UI", "Value": [instance.target.sop_uid]},
            "00041512": {"vr": "UI", "Value": [transfer_syntax_uid]},
        }
        if record_type == "PRIVATE":
            made["00041432"] = {"vr": "UI", "Value": [instance.sop_class_uid]}
        chosen = _chosen(record_type, _LEAVES.get(record_type, {}), attributes)
        if "00200013" in chosen:
            _fill(chosen, "00200013", self._number)
        leaf = _record(record_type, {**chosen, **made})
        (self._roots if record_type in _AT_ROOT else self._series_of(instance, attributes).children).append(leaf)

    def encode(self) -> bytes:
        """The whole file."""
        # The same UID for the same content, so that the same request gives the same bytes.
        hashed = sha256()
        for record in _walk(self._roots):
            hashed.update(record.content)
        uid = derived_uid(hashed.hexdigest(), "dicomdir")
        prefix = file_meta.encode(FileMeta(MEDIA_STORAGE_DIRECTORY, uid, EXPLICIT_VR_LITTLE_ENDIAN))
        # Up to the first item: File-set ID, first and last root record, consistency flag, the sequence's header.
        start = len(prefix) + 8 + 12 + 12 + 10 + 12
        offsets: dict[int, int] = {}
        end = start
        for record in _walk(self._roots):
            offsets[id(record)] = end
            end += _ITEM.size + len(record.content)
        body = bytearray()
        for siblings in _families(self._roots):
            for record, following in zip(siblings, [*siblings[1:], None], strict=True):
                struct.pack_into("<L", record.content, _NEXT_AT, offsets[id(following)] if following else 0)
                lower = offsets[id(record.children[0])] if record.children else 0
                struct.pack_into("<L", record.content, _LOWER_AT, lower)
        for record in _walk(self._roots):
            body += _ITEM.pack(0xFFFE, 0xE000, len(record.content))
            body += record.content
        first, last = (offsets[id(self._roots[at])] if self._roots else 0 for at in (0, -1))
        return prefix + b"".join(
            (
                struct.pack("<HH2sH", 4, 0x1130, b"CS", 0),
                struct.pack("<HH2sHL", 4, 0x1200, b"UL", 4, first),
                struct.pack("<HH2sHL", 4, 0x1202, b"UL", 4, last),
                struct.pack("<HH2sHH", 4, 0x1212, b"US", 2, 0),
                struct.pack("<HH2sHL", 4, 0x1220, b"SQ", 0, len(body)),
                body,
            )
        )

    def _series_of(self, instance: StoredInstance, attributes: Attributes) -> _Record:
        target = instance.target
        key = (target.study_uid, target.series_uid)
        found = self._series.get(key)
        if found is None:
            study = self._study_of(instance, attributes)
            chosen = _chosen("SERIES", _SERIES, attributes)
            chosen["0020000E"] = {"vr": "UI", "Value": [target.series_uid]}
            _fill(chosen, "00080060", "OT")
            _fill(chosen, "00200011", len(study.children) + 1)
            found = self._series[key] = _record("SERIES", chosen)
            study.children.append(found)
        return found

    def _study_of(self, instance: StoredInstance, attributes: Attributes) -> _Record:
        study_uid = instance.target.study_uid
        found = self._studies.get(study_uid)
        if found is None:
            chosen = _chosen("STUDY", _STUDY, attributes)
            chosen["0020000D"] = {"vr": "UI", "Value": [study_uid]}
            _fill(chosen, "00200010", str(len(self._studies) + 1))
            found = self._studies[study_uid] = _record("STUDY", chosen)
            self._patient_of(study_uid, attributes).children.append(found)
        return found

    def _patient_of(self, study_uid: str, attributes: Attributes) -> _Record:
        patient_id = _text(attributes, "00100020")
        # Without a Patient ID nothing says that two studies are of one person.
        key = (patient_id, _text(attributes, "00100021") if patient_id else study_uid)
        found = self._patients.get(key)
        if found is None:
            chosen = _chosen("PATIENT", _PATIENT, attributes)
            # Type 1 here, unlike in the object: a reader may use it as the record's name.
            _fill(chosen, "00100020", f"UNKNOWN{len(self._patients) + 1}")
            found = self._patients[key] = _record("PATIENT", chosen)
            self._roots.append(found)
        return found


def record_type_of(sop_class_uid: str) -> str:
    """Directory Record Type (0004,1430) of an instance; PRIVATE for classes that the standard does not know."""
    known = _TYPES.get(sop_class_uid)
    if known is not None:
        return known
    return next((kind for prefix, kind in _TYPES_BY_PREFIX if sop_class_uid.startswith(prefix)), "PRIVATE")


def _chosen(record_type: str, required: dict[str, str], attributes: Attributes) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for tag, vr in required.items():
        element = attributes.get(tag)
        chosen[tag] = element if element is not None and element.get("Value") else {"vr": vr}
    for tag in _OPTIONAL.get(record_type, ()):
        element = attributes.get(tag)
        if element is not None and element.get("Value"):
            chosen[tag] = element
    return chosen


def _fill(chosen: dict[str, Any], tag: str, value: str | int) -> None:
    """Give an element that must not be empty in a record a value, when the object has none."""
    values = chosen[tag].get("Value")
    if not values or values[0] in (None, ""):
        chosen[tag] = {"vr": chosen[tag]["vr"], "Value": [value]}


def _record(record_type: str, attributes: dict[str, Any]) -> _Record:
    made = {
        "00041400": {"vr": "UL", "Value": [0]},
        "00041410": {"vr": "US", "Value": [_IN_USE]},
        "00041420": {"vr": "UL", "Value": [0]},
        "00041430": {"vr": "CS", "Value": [record_type]},
    }
    return _Record(bytearray(encode_data_set({**made, **attributes}, EXPLICIT_VR_LITTLE_ENDIAN)))


def _walk(records: Sequence[_Record]) -> Iterator[_Record]:
    for record in records:
        yield record
        yield from _walk(record.children)


def _families(records: list[_Record]) -> Iterator[list[_Record]]:
    yield records
    for record in records:
        if record.children:
            yield from _families(record.children)


def _text(attributes: Attributes, tag: str) -> str:
    values = attributes.get(tag, {}).get("Value")
    return str(values[0]).strip() if values and values[0] is not None else ""
