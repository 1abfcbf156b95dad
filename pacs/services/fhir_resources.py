"""Patient, Endpoint and ImagingStudy (FHIR R4) made of DICOM JSON: plain functions, whoever asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any
from uuid import UUID

from pacs.dicom.model import Attributes
from pacs.services import fhir_values as values
from pacs.services.fhir_body_sites import body_site, laterality
from pacs.services.fhir_values import Json, Namespaces

_GENDERS = {"M": "male", "F": "female", "O": "other"}
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_CONNECTIONS = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
_PAYLOADS = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"
CONTAINED_PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class SeriesContent:
    """One series: its attributes, how many instances it has, and the attributes of those that are to be listed."""

    attributes: Attributes
    count: int
    instances: Sequence[Attributes] = ()


@dataclass(frozen=True, slots=True)
class StudyContent:
    """One study: attributes of patient and study, and its series in order."""

    study_uid: str
    attributes: Attributes
    series: Sequence[SeriesContent]


def patient(attributes: Attributes, namespaces: Namespaces) -> Json:
    """The patient of a study or instance, without an id."""
    is_anonymous = values.text(attributes, "00120062").upper() == "YES"  # Patient Identity Removed
    identifier = values.patient_identifier(attributes, namespaces)
    return _without_nothing(
        {
            "resourceType": "Patient",
            "identifier": [identifier] if identifier else [],
            "active": True,
            "name": values.human_names(attributes, "00100010", "anonymous" if is_anonymous else "usual"),
            "gender": _GENDERS.get(values.text(attributes, "00100040").upper(), "unknown"),
            "birthDate": values.date(values.text(attributes, "00100030")),
        }
    )


def endpoint(archive: UUID, address: str) -> Json:
    """Where the images are, without an id. address: URL of the DICOMweb root, below which ``/studies`` is."""
    return {
        "resourceType": "Endpoint",
        "identifier": [{"use": "official", "system": values.URI_SYSTEM, "value": archive.urn}],
        "status": "active",
        "connectionType": {"system": _CONNECTIONS, "code": "dicom-wado-rs"},
        "name": "DICOMweb",
        "payloadType": [{"coding": [{"system": _PAYLOADS, "code": "any"}], "text": "DICOM"}],
        "payloadMimeType": ["application/dicom", "application/dicom+json"],
        "address": address,
    }


def imaging_study(
    study: StudyContent,
    namespaces: Namespaces,
    *,
    zone: tzinfo | None,
    patient_reference: str | None,
    endpoint_reference: str | None,
) -> Json:
    """A study, without an id. zone: of times that do not say theirs, None: the machine's.

    patient_reference None: nothing tells the patient from others, so that the Patient is contained.
    """
    attributes = study.attributes
    contained = []
    if patient_reference is None:
        contained = [{**patient(attributes, namespaces), "id": CONTAINED_PATIENT}]
        patient_reference = f"#{CONTAINED_PATIENT}"
    series = [each for each in study.series if values.is_id(values.text(each.attributes, "0020000E"))]
    referrer = next(values.practitioners(attributes, "00080090"), None)
    return _without_nothing(
        {
            "resourceType": "ImagingStudy",
            "contained": contained,
            "identifier": _identifiers(study, namespaces),
            "status": "available",
            "modality": [_modality(name) for name in dict.fromkeys(_modality_of(each) for each in study.series)],
            "subject": {"reference": patient_reference},
            "started": _started(attributes, ("00080020", "00080030"), attributes, zone),
            "referrer": referrer,
            "interpreter": list(values.practitioners(attributes, "00081060")),
            "endpoint": [{"reference": endpoint_reference}] if endpoint_reference else [],
            "numberOfSeries": len(study.series),
            "numberOfInstances": sum(each.count for each in study.series),
            "procedureCode": values.concepts(attributes, "00081032"),
            "description": values.text(attributes, "00081030"),
            "series": [_series(each, attributes, zone) for each in series],
        }
    )


def _identifiers(study: StudyContent, namespaces: Namespaces) -> list[Json]:
    found = [values.study_identifier(study.study_uid)]
    accession = values.accession_identifier(study.attributes, namespaces)
    if accession:
        found.append(accession)
    study_id = values.text(study.attributes, "00200010")
    if study_id:
        found.append({"use": "secondary", "type": {"text": "Study ID"}, "value": study_id})
    return found


def _series(series: SeriesContent, study: Attributes, zone: tzinfo | None) -> Json:
    attributes = series.attributes
    started = _started(attributes, ("00080021", "00080031"), study, zone) or _started(
        attributes, ("00400244", "00400245"), study, zone
    )
    performers = [
        {"function": {"coding": [{"system": _PARTICIPATION, "code": function}]}, "actor": actor}
        for tag, function in (("00081050", "PRF"), ("00081070", "SPRF"))
        for actor in values.practitioners(attributes, tag)
    ]
    instances = [each for each in series.instances if values.is_id(values.text(each, "00080018"))]
    return _without_nothing(
        {
            "uid": values.text(attributes, "0020000E"),
            "number": values.unsigned(attributes, "00200011"),
            "modality": _modality(_modality_of(series)),
            "description": values.text(attributes, "0008103E"),
            "numberOfInstances": series.count,
            "bodySite": body_site(attributes),
            "laterality": laterality(attributes),
            "started": started,
            "performer": performers,
            "instance": [_instance(each) for each in instances],
        }
    )


def _instance(attributes: Attributes) -> Json:
    concepts = values.concepts(attributes, "0040A043")
    meaning = concepts[0]["coding"][0].get("display", "") if concepts else ""
    return _without_nothing(
        {
            "uid": values.text(attributes, "00080018"),
            "sopClass": {"system": values.URI_SYSTEM, "code": f"urn:oid:{values.code(attributes, '00080016')}"},
            "number": values.unsigned(attributes, "00200013"),
            "title": values.text(attributes, "00700080") or meaning,
        }
    )


def _modality_of(series: SeriesContent) -> str:
    return values.code(series.attributes, "00080060") or "OT"  # it must have one


def _modality(name: str) -> Json:
    return {"system": values.DCM_SYSTEM, "code": name}


def _started(attributes: Attributes, tags: tuple[str, str], study: Attributes, zone: tzinfo | None) -> str:
    day, time = (values.text(attributes, tag) for tag in tags)
    offset = values.text(attributes, "00080201") or values.text(study, "00080201")
    return values.date_time(day, time, offset, zone)


def _without_nothing(resource: Mapping[str, Any]) -> Json:
    """FHIR has neither empty strings nor empty lists."""
    return {name: value for name, value in resource.items() if value not in (None, "", [], {})}
