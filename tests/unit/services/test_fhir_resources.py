"""FHIR resources made of data sets: valid by R4, and saying what the data sets say."""

from __future__ import annotations

from datetime import UTC
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from pacs.dicom.header import read_header
from pacs.errors import PacsError
from pacs.services import fhir_ids, fhir_resources, fhir_values
from pacs.services.fhir_archive import contents_of
from pacs.services.fhir_ids import PatientKey
from pacs.services.fhir_values import Namespaces
from tests import builders, fhir_rules

ARCHIVE = UUID("6f4dbd0c-6b0b-4c3b-9d57-0a4f3f0a8f10")
OURS = Namespaces(ARCHIVE)
DEFAULTS = {
    **{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"},
    **{"SOPInstanceUID": "1.2.3.4.5", "PatientID": "P1", "Modality": "CT"},
}


def patient(**attributes: Any) -> dict[str, Any]:
    made = fhir_resources.patient(builders.json_of({**DEFAULTS, **attributes}), OURS)
    fhir_rules.check(made)
    return made


def study(*instances: dict[str, Any], namespaces: Namespaces = OURS, **attributes: Any) -> dict[str, Any]:
    data_sets = [builders.json_of({**DEFAULTS, **attributes, **each}) for each in instances or ({},)]
    (content,) = contents_of(data_sets)
    made = fhir_resources.imaging_study(
        content, namespaces, zone=UTC, patient_reference="Patient/1", endpoint_reference="Endpoint/1"
    )
    fhir_rules.check(made)
    return made


def test_a_patient_says_what_the_data_set_says() -> None:
    made = patient(
        PatientName="Doe^Jane^Q^Dr.^PhD", PatientBirthDate="19700131", PatientSex="F", IssuerOfPatientID="NORTH"
    )
    assert made["name"] == [
        {
            "use": "usual",
            "text": "Dr. Jane Q Doe PhD",
            "family": "Doe",
            "given": ["Jane", "Q"],
            "prefix": ["Dr."],
            "suffix": ["PhD"],
        }
    ]
    assert (made["gender"], made["birthDate"], made["active"]) == ("female", "1970-01-31", True)
    (identifier,) = made["identifier"]
    assert (identifier["value"], identifier["assigner"]) == ("P1", {"display": "NORTH"})


def test_each_component_group_is_a_name_that_says_which() -> None:
    made = patient(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert [name["text"] for name in made["name"]] == ["Tarou Yamada", "山田 太郎", "やまだ たろう"]
    assert [name["extension"][0]["valueCode"] for name in made["name"]] == ["ABC", "IDE", "SYL"]


@pytest.mark.parametrize(
    ("sex", "gender"), [("M", "male"), ("F", "female"), ("O", "other"), ("X", "unknown"), (None, "unknown")]
)
def test_sex_is_mapped(sex: str | None, gender: str) -> None:
    assert patient(PatientSex=sex)["gender"] == gender


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        *(("19700131", "1970-01-31"), ("1970.01.31", "1970-01-31"), ("197001", "1970-01"), ("1970", "1970")),
        *(("19700000", "1970"), ("19700100", "1970-01"), ("19700231", None), ("rubbish", None), ("", None)),
        *(("00000101", None), ("19701301", None)),
    ],
)
def test_birth_dates_that_are_cut_short_or_wrong(stored: str, shown: str | None) -> None:
    assert patient(PatientBirthDate=stored).get("birthDate") == shown


def test_a_patient_whose_identity_was_removed_is_anonymous() -> None:
    assert patient(PatientName="X^Y", PatientIdentityRemoved="YES")["name"][0]["use"] == "anonymous"


def test_the_same_id_of_two_issuers_is_two_identifiers() -> None:
    systems = {patient(IssuerOfPatientID=issuer)["identifier"][0]["system"] for issuer in (None, "A", "B")}
    assert len(systems) == 3
    assert systems == {patient(IssuerOfPatientID=issuer)["identifier"][0]["system"] for issuer in ("", "A", "B")}


def test_systems_are_those_that_were_set_or_that_the_data_set_names() -> None:
    named = Namespaces(ARCHIVE, {"": "http://a.example/mrn", "B": "http://b.example/mrn"})

    def system(**attributes: Any) -> str:
        identifier = fhir_values.patient_identifier(builders.json_of({**DEFAULTS, **attributes}), named)
        assert identifier is not None
        return str(identifier["system"])

    assert system() == "http://a.example/mrn"
    assert system(IssuerOfPatientID="B") == "http://b.example/mrn"
    assert system(IssuerOfPatientID="urn:oid:1.2.3") == "urn:oid:1.2.3"
    qualifiers = {"UniversalEntityID": "1.2.840.99", "UniversalEntityIDType": "ISO"}
    assert system(IssuerOfPatientID="B", IssuerOfPatientIDQualifiersSequence=[qualifiers]) == "urn:oid:1.2.840.99"


def test_a_study_says_what_its_instances_say() -> None:
    made = study(
        {"InstanceNumber": 1},
        {"SOPInstanceUID": "1.2.3.4.6", "InstanceNumber": 2},
        {"SeriesInstanceUID": "1.2.3.5", "SOPInstanceUID": "1.2.3.5.1", "Modality": "MR", "BodyPartExamined": "GIZMO"},
        StudyDate="20240131",
        StudyTime="101500",
        TimezoneOffsetFromUTC="-0530",
        AccessionNumber="A1",
        StudyID="S1",
        StudyDescription="Thorax",
        SeriesNumber=3,
        SeriesDescription="Lung",
        SeriesDate="20240131",
        SeriesTime="1016",
        BodyPartExamined="CHEST",
        Laterality="L",
        ReferringPhysicianName="House^Gregory^^Dr.",
        NameOfPhysiciansReadingStudy=["Wilson^James", "Cuddy^Lisa"],
        PerformingPhysicianName="Chase^Robert",
        OperatorsName="Foreman^Eric",
        ProcedureCodeSequence=[{"CodeValue": "24627-2", "CodingSchemeDesignator": "LN", "CodeMeaning": "Chest CT"}],
        ContentLabel="KEY",
    )
    assert made["identifier"] == [
        {"use": "official", "system": "urn:dicom:uid", "value": "urn:oid:1.2.3"},
        {
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
            "value": "A1",
        },
        {"use": "secondary", "type": {"text": "Study ID"}, "value": "S1"},
    ]
    dcm = "http://dicom.nema.org/resources/ontology/DCM"
    assert made["modality"] == [{"system": dcm, "code": "CT"}, {"system": dcm, "code": "MR"}]
    assert (made["status"], made["started"]) == ("available", "2024-01-31T10:15:00-05:30")
    assert (made["numberOfSeries"], made["numberOfInstances"], made["description"]) == (2, 3, "Thorax")
    assert made["subject"] == {"reference": "Patient/1"}
    assert made["endpoint"] == [{"reference": "Endpoint/1"}]
    assert made["referrer"] == {"type": "Practitioner", "display": "Dr. Gregory House"}
    assert [each["display"] for each in made["interpreter"]] == ["James Wilson", "Lisa Cuddy"]
    assert made["procedureCode"][0]["coding"] == [
        {"system": "http://loinc.org", "code": "24627-2", "display": "Chest CT"}
    ]
    first, second = made["series"]
    assert (first["uid"], first["number"], first["numberOfInstances"]) == ("1.2.3.4", 3, 2)
    assert (first["started"], first["description"]) == ("2024-01-31T10:16:00-05:30", "Lung")
    assert first["bodySite"] == {"system": "http://snomed.info/sct", "code": "51185008", "display": "Chest"}
    assert first["laterality"]["code"] == "7771000"
    assert [each["actor"]["display"] for each in first["performer"]] == ["Robert Chase", "Eric Foreman"]
    assert second["bodySite"] == {"display": "GIZMO"}
    assert [each["number"] for each in first["instance"]] == [1, 2]
    assert first["instance"][0]["sopClass"] == {
        "system": "urn:ietf:rfc:3986",
        "code": "urn:oid:1.2.840.10008.5.1.4.1.1.2",
    }
    assert first["instance"][0]["title"] == "KEY"


@pytest.mark.parametrize(
    ("day", "time", "offset", "shown"),
    [
        ("20240131", "", "", "2024-01-31"),
        ("20240131", "101500.25", "", "2024-01-31T10:15:00.250+01:00"),
        ("20240731", "10", "", "2024-07-31T10:00:00+02:00"),  # summer
        ("20240131", "235960", "+0000", "2024-01-31T23:59:59+00:00"),
        ("20240131", "101500", "+9999", "2024-01-31T10:15:00+01:00"),
        ("18700101", "101500", "", "1870-01-01T10:15:00+01:05"),
        ("20240231", "101500", "", ""),
        ("202401", "101500", "", "2024-01"),
        ("", "101500", "", ""),
    ],
)
def test_moments_have_a_time_zone_or_no_time(day: str, time: str, offset: str, shown: str) -> None:
    assert fhir_values.date_time(day, time, offset, ZoneInfo("Europe/Vienna")) == shown


def test_what_fhir_cannot_say_is_left_out_and_still_counted() -> None:
    long_uid = "1." + "2" * 70
    made = study(
        {"SOPInstanceUID": long_uid, "InstanceNumber": -4},
        {"SeriesInstanceUID": long_uid, "Modality": None},
        {"InstanceNumber": -4, "SeriesNumber": 99999999999},
        StudyDescription="  a\x01b \t ",
        StudyDate="20231341",
        BodyPartExamined=None,
        ReferringPhysicianName="^^^",
    )
    assert (made["numberOfSeries"], made["numberOfInstances"]) == (2, 3)
    (series,) = made["series"]
    assert series["numberOfInstances"] == 2
    assert [set(each) for each in series["instance"]] == [{"uid", "sopClass"}]
    assert made["description"] == "a b"
    assert not {"started", "referrer"} & made.keys()


def test_a_patient_without_an_id_is_within_the_study() -> None:
    (content,) = contents_of([builders.json_of({**DEFAULTS, "PatientID": None, "PatientName": "Doe^Jane"})])
    made = fhir_resources.imaging_study(
        content, OURS, zone=UTC, patient_reference=None, endpoint_reference="Endpoint/1"
    )
    fhir_rules.check(made)
    assert made["subject"] == {"reference": "#patient"}
    assert made["contained"][0]["name"][0]["family"] == "Doe"


def test_the_endpoint_is_valid() -> None:
    made = fhir_resources.endpoint(ARCHIVE, "https://pacs.example/dicom-web")
    fhir_rules.check(made)
    assert made["connectionType"]["code"] == "dicom-wado-rs"
    assert made["address"] == "https://pacs.example/dicom-web"


def test_every_real_file_makes_valid_resources() -> None:
    tried = 0
    for path, _ in builders.real_files():
        try:
            attributes = read_header(path, derive_uids=True).attributes
        except PacsError:
            continue
        (content,) = contents_of([attributes])
        fhir_rules.check(fhir_resources.patient(attributes, OURS))
        made = fhir_resources.imaging_study(
            content, OURS, zone=UTC, patient_reference=None, endpoint_reference="Endpoint/1"
        )
        fhir_rules.check(made)
        tried += 1
    assert tried > 50


@pytest.mark.parametrize(
    "key",
    [
        *(PatientKey("P1"), PatientKey("P1", "NORTH"), PatientKey("P 1"), PatientKey("P_1"), PatientKey("P-1")),
        *(PatientKey("P-", "-N"), PatientKey("P--N"), PatientKey("山田/太郎", "Ü"), PatientKey("x" * 64, "y" * 64)),
        *(PatientKey("é" * 64), PatientKey("*?%" * 20)),
    ],
)
def test_ids_of_patients_can_be_read_back(key: PatientKey) -> None:
    assert fhir_values.is_id(key.resource_id)
    keys = fhir_ids.keys_of(key.resource_id)
    assert keys is not None
    if len(key.patient_id) < 20:
        assert keys == key.keys


def test_no_two_patients_share_an_id() -> None:
    keys = [
        *(PatientKey("P 1"), PatientKey("P1"), PatientKey("P_1"), PatientKey("P", "1"), PatientKey("P--1")),
        *(PatientKey("p1"), PatientKey("x" * 64 + "1"), PatientKey("x" * 64 + "2"), PatientKey("-h" + "0" * 20)),
    ]
    assert len({key.resource_id for key in keys}) == len(keys)


@pytest.mark.parametrize("wrong", ["", "--", "a--", "-", "-GG", "é", "a b", "-C3"])
def test_ids_of_nobody(wrong: str) -> None:
    assert fhir_ids.keys_of(wrong) is None
