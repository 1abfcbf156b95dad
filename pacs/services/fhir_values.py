"""FHIR R4 data types made of DICOM values: text, dates, names, identifiers, codes (http://hl7.org/fhir/R4/datatypes.html).

What cannot be a value of the FHIR type is left out: one wrong attribute must not keep a study from a server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from pacs.dicom import dates
from pacs.dicom.dictionary import first_value
from pacs.dicom.model import Attributes
from pacs.dicom.person_name import GROUPS

Json = dict[str, Any]

UID_SYSTEM = "urn:dicom:uid"
URI_SYSTEM = "urn:ietf:rfc:3986"
DCM_SYSTEM = "http://dicom.nema.org/resources/ontology/DCM"
_IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_REPRESENTATION_CODES = dict(zip(GROUPS, ("ABC", "IDE", "SYL"), strict=True))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_MAX_UNSIGNED = 2**31 - 1
# Partial and zero-filled dates of birth are sent though VR DA does not know them.
_PARTIAL_DATE = re.compile(r"(\d{4})\.?(\d\d)?\.?(\d\d)?", re.ASCII)
# Coding Scheme Designator (PS3.16 Table 8-1) → what FHIR calls it.
_SCHEMES = {
    "SCT": "http://snomed.info/sct",
    "DCM": DCM_SYSTEM,
    "LN": "http://loinc.org",
    "RADLEX": "http://radlex.org",
    "UCUM": "http://unitsofmeasure.org",
    "C4": "http://www.ama-assn.org/go/cpt",
    "CPT4": "http://www.ama-assn.org/go/cpt",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
}


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Who gave an identifier, as URIs.

    archive: of this archive. patients: by Issuer of Patient ID, "" for IDs without; accessions: likewise. A patient ID
    whose issuer has none gets one that is made of ``archive`` and the issuer: an ID of somebody else is never taken for
    it.
    """

    archive: UUID
    patients: Mapping[str, str] = field(default_factory=dict)
    accessions: Mapping[str, str] = field(default_factory=dict)

    def patient_system(self, issuer: str) -> str:
        found = self.patients.get(issuer)
        if found is None and is_uri(issuer):
            return issuer
        return found or f"urn:uuid:{uuid5(self.archive, f'patient {issuer}')}"


def clean(value: object) -> str:
    """A FHIR string: without control characters and blanks around it; "" when nothing is left."""
    return _CONTROL.sub(" ", str(value)).strip() if value is not None else ""


def text(attributes: Attributes, tag: str) -> str:
    """The first value of an attribute; "" when there is none."""
    return clean(first_value(attributes, tag))


def code(attributes: Attributes, tag: str) -> str:
    """The first value as a FHIR code: single blanks at most."""
    return " ".join(text(attributes, tag).split())


def unsigned(attributes: Attributes, tag: str) -> int | None:
    """The first value where it is a number that an unsignedInt can be."""
    try:
        number = int(float(text(attributes, tag)))
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= _MAX_UNSIGNED else None


def is_id(value: str) -> bool:
    """Whether this can be a FHIR id, as UIDs of series and instances have to be. UIDs over 64 characters cannot."""
    return _ID.fullmatch(value) is not None


def is_uri(value: str) -> bool:
    return bool(urlsplit(value).scheme) and re.fullmatch(r"(?:urn|https?):\S+", value) is not None


def date(value: str) -> str:
    """A DA, also one that is cut short or zero-filled, as a FHIR date; "" when it is none."""
    found = _PARTIAL_DATE.fullmatch(value.strip(" \0"))
    if not found or found[1] == "0000":
        return ""
    year, month, day = found.groups()
    if not month or not "01" <= month <= "12":
        return year if month in (None, "00") else ""
    if not day or day == "00":
        return f"{year}-{month}"
    return f"{year}-{month}-{day}" if dates.is_calendar_date(int(year + month + day)) else ""


def date_time(day: str, time: str, offset: str, zone: tzinfo | None) -> str:
    """A DA and a TM as a FHIR dateTime, the date alone where there is no time; "" when there is no date.

    offset: Timezone Offset From UTC (0008,0201). Without one, the time is of ``zone``, None: the machine's.
    """
    number, span = dates.date_number(day), dates.time_span(time)
    if number is None or not dates.is_calendar_date(number):
        return date(day)
    if span is None:
        return date(str(number).zfill(8))
    digits = f"{span[0]:012d}"
    # A leap second is none that datetime knows.
    second, fraction = min(int(digits[4:6]), 59), int(digits[6:])
    year, month, of_month = number // 10_000, number // 100 % 100, number % 100
    moment = datetime(year, month, of_month, int(digits[:2]), int(digits[2:4]), second, fraction)
    shown = moment.isoformat(timespec="milliseconds" if fraction else "seconds")
    return f"{shown}{_shown_offset(moment, offset.strip(), zone)}"


def _shown_offset(moment: datetime, offset: str, zone: tzinfo | None) -> str:
    if dates.is_offset(offset):
        return f"{offset[:3]}:{offset[3:]}" if offset[1:] != "0000" else "+00:00"
    try:
        east = (moment.astimezone() if zone is None else moment.replace(tzinfo=zone)).utcoffset()
    except (OverflowError, OSError, ValueError):  # long ago
        east = None
    minutes = round((east or timedelta(0)).total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def human_names(attributes: Attributes, tag: str, use: str) -> list[Json]:
    """The component groups of a PN (PS3.5 6.2.1), a HumanName each; which one is said when there is more than one."""
    value = first_value(attributes, tag)
    groups = {"Alphabetic": value} if isinstance(value, str) else dict(value or {})
    found = []
    for group in GROUPS:
        name = _human_name(clean(groups.get(group)), is_family_first=group != "Alphabetic")
        if name:
            name["use"] = use
            if set(groups) - {"Alphabetic"}:
                name["extension"] = [{"url": _REPRESENTATION, "valueCode": _REPRESENTATION_CODES[group]}]
            found.append(name)
    return found


def _human_name(group: str, *, is_family_first: bool) -> Json:
    family, given, middle, prefix, suffix = [clean(part) for part in [*group.split("^"), "", "", "", "", ""][:5]]
    given_names = [part for part in (given, middle) if part]
    ordered = [family, *given_names] if is_family_first else [*given_names, family]
    shown = " ".join(part for part in (prefix, *ordered, suffix) if part)
    if not shown:
        return {}
    name: Json = {"text": shown}
    if family:
        name["family"] = family
    if given_names:
        name["given"] = given_names
    if prefix:
        name["prefix"] = [prefix]
    if suffix:
        name["suffix"] = [suffix]
    return name


def practitioners(attributes: Attributes, tag: str) -> Iterator[Json]:
    """References to the people that a PN names; by name alone, as DICOM knows no more."""
    for value in attributes.get(tag, {}).get("Value") or ():
        names = human_names({tag: {"vr": "PN", "Value": [value]}}, tag, "usual") if value else []
        if names:
            yield {"type": "Practitioner", "display": names[0]["text"]}


def study_identifier(study_uid: str) -> Json:
    return {"use": "official", "system": UID_SYSTEM, "value": f"urn:oid:{study_uid}"}


def patient_identifier(attributes: Attributes, namespaces: Namespaces) -> Json | None:
    """Patient ID with who issued it; None without an ID."""
    value = text(attributes, "00100020")
    if not value:
        return None
    issuer = text(attributes, "00100021")
    system = _universal(attributes, "00100024") or namespaces.patient_system(issuer)
    found = {"use": "usual", "type": identifier_type("MR"), "system": system, "value": value}
    if issuer:
        found["assigner"] = {"display": issuer}
    return found


def accession_identifier(attributes: Attributes, namespaces: Namespaces) -> Json | None:
    """Accession Number with who issued it; None without one."""
    value = text(attributes, "00080050")
    if not value:
        return None
    issuer = first_value(attributes, "00080051") or {}
    local = text(issuer, "00400031")
    system = _universal(attributes, "00080051") or namespaces.accessions.get(local, "")
    found: Json = {"type": identifier_type("ACSN"), **({"system": system} if system else {}), "value": value}
    if local:
        found["assigner"] = {"display": local}
    return found


def identifier_type(of: str) -> Json:
    return {"coding": [{"system": _IDENTIFIER_TYPES, "code": of}]}


def _universal(attributes: Attributes, tag: str) -> str:
    """The URI of a Universal Entity ID (PS3.3 Table 10-17) within an issuer's sequence; "" when there is none."""
    item = first_value(attributes, tag)
    if not isinstance(item, Mapping):
        return ""
    # Issuer of Patient ID Qualifiers and Issuer of Accession Number have the same two attributes.
    value, kind = code(item, "00400032"), text(item, "00400033")
    if kind == "ISO" and re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", value, re.ASCII):
        return f"urn:oid:{value}"
    if kind == "UUID" and re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", value):
        return f"urn:uuid:{value.lower()}"
    return value if kind == "URI" and is_uri(value) else ""


def coding(item: Attributes) -> Json:
    """One item of a code sequence (PS3.3 Table 8.8-1); {} when it has neither code nor meaning."""
    value = code(item, "00080100") or code(item, "00080119")
    system = _SCHEMES.get(text(item, "00080102"), "")
    meaning = text(item, "00080104")
    found = {"system": system if value else "", "code": value, "display": meaning}
    return {name: part for name, part in found.items() if part}


def concepts(attributes: Attributes, tag: str) -> list[Json]:
    """A code sequence as CodeableConcepts."""
    items = [item for item in attributes.get(tag, {}).get("Value") or () if isinstance(item, Mapping)]
    return [{"coding": [found]} for found in map(coding, items) if found]
