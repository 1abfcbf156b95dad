"""FHIR R4 over real HTTP: the archive read as resources, searched by FHIR's parameters, and conversion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from fhirclient.client import FHIRClient
from fhirclient.models.imagingstudy import ImagingStudy
from fhirclient.models.patient import Patient

from tests import builders, fhir_rules
from tests.unit.web.running import RunningArchive
from tests.wire.clients import STOW_TYPE, multipart, stow

FHIR_JSON = "application/fhir+json"
STUDIES = {
    # uid: when, modalities, patient, issuer, accession number
    "1.2.3.1": ("20240131", "101500", ("CT",), "P1", None, "A1"),
    "1.2.3.2": ("20240131", "235959", ("CT", "SR"), "P1", None, "A2"),
    "1.2.3.3": ("20240201", "000000", ("MR",), "P1", "NORTH", "A1"),
    "1.2.3.4": ("20231231", None, ("US",), "p1", None, "A*"),
    "1.2.3.5": (None, None, ("US",), "山田 1", None, None),
    "1.2.3.6": ("20200229", "1200", ("CT",), None, None, None),
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("fhir")) as running:
        for uid, (day, time, modalities, patient_id, issuer, accession) in STUDIES.items():
            files = [
                builders.ct(
                    *(uid, f"{uid}.{place}", f"{uid}.{place}.1"),
                    rows=8,
                    columns=8,
                    StudyDate=day,
                    StudyTime=time,
                    Modality=modality,
                    PatientID=patient_id,
                    IssuerOfPatientID=issuer,
                    AccessionNumber=accession,
                    PatientName=f"Doe^Number{uid[-1]}" if patient_id else "Nobody^X",
                    PatientBirthDate="19700101" if patient_id == "P1" else "1980",
                )
                for place, modality in enumerate(modalities, 1)
            ]
            assert stow(running, files).status_code == 200  # type: ignore[arg-type]
        yield running


def get(web: RunningArchive, path: str, status: int = 200, **headers: str) -> dict[str, Any]:
    """One valid resource."""
    response = requests.get(f"{web.dicomweb_url}/fhir/{path}", headers=headers, timeout=60)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"].partition(";")[0] == FHIR_JSON
    resource: dict[str, Any] = response.json()
    fhir_rules.check(resource)
    return resource


def found(web: RunningArchive, search: str) -> list[str]:
    """The last figures of what is found, in order; names of patients likewise."""
    bundle = get(web, search)
    assert bundle["total"] == len(bundle.get("entry", []))
    names = []
    for entry in bundle.get("entry", []):
        resource = entry["resource"]
        assert requests.get(entry["fullUrl"], timeout=60).json() == resource
        names.append(resource["id"][-1] if resource["resourceType"] == "ImagingStudy" else resource["id"])
    return names


@pytest.mark.parametrize(
    ("search", "studies"),
    [
        *(("", "123456"), ("_id=1.2.3.1", "1"), ("_id=1.2.3.1,1.2.3.4,9", "14"), ("_id=nothing", "")),
        ("identifier=urn:dicom:uid|urn:oid:1.2.3.2", "2"),
        *(("identifier=urn:oid:1.2.3.2", "2"), ("identifier=1.2.3.2", "2"), ("identifier=urn:oid:1.2.3.9", "")),
        *(
            ("identifier=A1", "13"),
            ("identifier=|A1", "13"),
            ("identifier=http://x|A1", ""),
            ("identifier=A1,A2", "123"),
        ),
        *(("identifier=A*", "4"), ("identifier=A1&identifier=urn:oid:1.2.3.3", "3")),
        *(("patient=P1", "12"), ("subject=Patient/P1", "12"), ("patient=p1", "4"), ("patient=P1--NORTH", "3")),
        *(("patient:Patient=P1", "12"), ("patient=P1,P1--NORTH", "123"), ("patient=nobody", "")),
        *(("patient=-E5-B1-B1-E7-94-B0-201", "5"), ("patient.identifier=P1", "123"), ("patient.identifier=x|P1", "")),
        *(("modality=CT", "126"), ("modality=CT,MR", "1236"), ("modality=CT&modality=SR", "2"), ("modality=XX", "")),
        ("modality=http://dicom.nema.org/resources/ontology/DCM|US", "45"),
        *(("started=2024-01-31", "12"), ("started=2024-01", "12"), ("started=2024", "123"), ("started=eq2023", "4")),
        *(("started=ge2024-01-31T23:59:59Z", "23"), ("started=gt2024-01-31", "3"), ("started=lt2024-01-31", "46")),
        *(("started=le2024-01-31", "1246"), ("started=ge2024-01-31&started=lt2024-02-01", "12")),
        *(("started=ge2024-02-01T01:00:00%2B01:00", "3"), ("started=ge2024-02-01T01:00:00+01:00", "3")),
        *(("started=ge2025", ""), ("started=gt2024&started=lt2024", ""), ("series=1.2.3.2.2", "2")),
        *(("instance=urn:oid:1.2.3.2.2.1", "2"), ("dicom-class=urn:oid:1.2.840.10008.5.1.4.1.1.2", "123456")),
        *(("status=available", "123456"), ("status=cancelled", ""), ("endpoint=raccoon-dicom-web-server", "123456")),
        ("unheard-of=1&_pretty=true", "123456"),
    ],
)
def test_studies_are_found(web: RunningArchive, search: str, studies: str) -> None:
    assert "".join(found(web, f"ImagingStudy?{search}")) == studies


@pytest.mark.parametrize(
    ("search", "patients"),
    [
        ("", ["P1", "P1--NORTH", "p1", "-E5-B1-B1-E7-94-B0-201"]),
        *(("_id=P1", ["P1"]), ("identifier=P1", ["P1", "P1--NORTH"]), ("_id=P1,p1", ["P1", "p1"])),
        *(("name=doe&birthdate=1970-01-01", ["P1", "P1--NORTH"]), ("given=number4", ["p1"]), ("family=do", None)),
        *(("family=number", []), ("gender=male", []), ("birthdate=ge1971", []), ("gender=female,male", None)),
    ],
)
def test_patients_are_found(web: RunningArchive, search: str, patients: list[str] | None) -> None:
    everybody = ["P1", "P1--NORTH", "p1", "-E5-B1-B1-E7-94-B0-201"]
    assert found(web, f"Patient?{search}") == (everybody if patients is None else patients)


def test_the_endpoint_is_where_the_request_went(web: RunningArchive) -> None:
    assert found(web, "Endpoint") == ["raccoon-dicom-web-server"]
    assert found(web, "Endpoint?identifier=other") == []
    assert get(web, "Endpoint/raccoon-dicom-web-server")["address"] == web.dicomweb_url


def test_what_a_study_refers_to_is_there_and_comes_with_it_when_asked(web: RunningArchive) -> None:
    study = get(web, "ImagingStudy/1.2.3.3")
    assert study["numberOfInstances"] == 1
    assert study["started"] == "2024-02-01T00:00:00+00:00"
    patient = get(web, study["subject"]["reference"])
    assert patient["identifier"][0]["assigner"] == {"display": "NORTH"}
    get(web, study["endpoint"][0]["reference"])
    bundle = get(web, "ImagingStudy?patient=P1&_include=ImagingStudy:patient&_include=ImagingStudy:endpoint")
    assert [(entry["search"]["mode"], entry["resource"]["resourceType"]) for entry in bundle["entry"]] == [
        *(("match", "ImagingStudy"), ("match", "ImagingStudy"), ("include", "Patient"), ("include", "Endpoint"))
    ]
    assert bundle["total"] == 2


def test_parameters_may_come_in_the_body(web: RunningArchive) -> None:
    url = f"{web.dicomweb_url}/fhir/ImagingStudy/_search"
    response = requests.post(url, data={"patient": "P1", "started": "2024", "_format": "json"}, timeout=60)
    fhir_rules.check(response.json())
    assert [entry["resource"]["id"] for entry in response.json()["entry"]] == ["1.2.3.1", "1.2.3.2"]
    assert requests.get(response.json()["link"][0]["url"], timeout=60).json() == response.json()
    assert requests.post(f"{url}?modality=SR", data={"patient": "P1"}, timeout=60).json()["total"] == 1
    for data, content_type, status in (
        (b"{}", "application/json", 415),
        (b"a=1", "application/x-www-form-urlencoded; charset=none-such", 400),
        (b"patient=%FF", "application/x-www-form-urlencoded", 200),
        (b"started=x", "application/x-www-form-urlencoded", 400),
    ):
        response = requests.post(url, data=data, headers={"Content-Type": content_type}, timeout=60)
        assert response.status_code == status, response.text
        fhir_rules.check(response.json())


def test_pages_lead_on_and_back(web: RunningArchive) -> None:
    url: str | None = f"{web.dicomweb_url}/fhir/ImagingStudy?modality=CT,US&_count=2"
    pages = []
    while url:
        bundle = requests.get(url, timeout=60).json()
        fhir_rules.check(bundle)
        assert bundle["total"] == 5
        pages.append([entry["resource"]["id"][-1] for entry in bundle["entry"]])
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        assert requests.get(links["self"], timeout=60).json() == bundle
        assert ("previous" in links) == (len(pages) > 1)
        url = links.get("next")
    assert pages == [["1", "2"], ["4", "5"], ["6"]]
    assert get(web, "Patient?_count=1")["total"] == 4
    for search in ("_count=0", "_summary=count"):
        bundle = get(web, f"ImagingStudy?{search}")
        assert (bundle["total"], "entry" in bundle) == (6, False)


@pytest.mark.parametrize(
    "search",
    [
        *(
            "started=yesterday",
            "started=2024-13-01",
            "started=ne2024",
            "_count=-1",
            "_offset=x",
            "patient:missing=true",
        ),
        *("identifier=", "identifier=a|", "_include=Patient:link", "_summary=text", "started=2024-02-30"),
        "started=9999-12-31T23:59:59-14:00",
    ],
)
def test_what_cannot_be_meant_is_an_operation_outcome(web: RunningArchive, search: str) -> None:
    outcome = get(web, f"ImagingStudy?{search}", 400)
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["expression"] == [f"http.{search.partition('=')[0]}"]


def test_unknown_parameters_are_refused_when_the_client_is_strict(web: RunningArchive) -> None:
    assert "nonsense" in get(web, "ImagingStudy?nonsense=1", 400, Prefer="handling=strict")["issue"][0]["diagnostics"]
    assert "nonsense" not in get(web, "ImagingStudy?nonsense=1&_count=3")["link"][0]["url"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("ImagingStudy/1.2.9", 404), ("Patient/X", 404), ("Endpoint/x", 404), ("Observation", 404), ("Patient/a/b", 404)],
)
def test_what_is_not_there_is_an_operation_outcome(web: RunningArchive, path: str, status: int) -> None:
    assert get(web, path, status)["issue"][0]["code"] == "not-found"


def test_forms(web: RunningArchive) -> None:
    url = f"{web.dicomweb_url}/fhir/Patient/P1"
    for accept in ("*/*", FHIR_JSON, f"application/fhir+xml;q=0.5, {FHIR_JSON}"):
        response = requests.get(url, headers={"Accept": accept}, timeout=60)
        assert response.headers["Content-Type"].startswith(FHIR_JSON)
    assert (
        requests.get(url, headers={"Accept": "application/json"}, timeout=60)
        .headers["Content-Type"]
        .startswith("application/json")
    )
    for name in ("json", "application/fhir+json", "application/fhir%2Bjson"):
        assert requests.get(f"{url}?_format={name}", headers={"Accept": "text/html"}, timeout=60).status_code == 200
    get(web, "Patient/P1", 406, Accept="application/fhir+xml")
    get(web, "Patient/P1?_format=xml", 406)
    assert requests.post(f"{web.dicomweb_url}/fhir/Patient", json={}, timeout=60).status_code == 405


def test_the_capability_statement_says_what_there_is(web: RunningArchive) -> None:
    statement = get(web, "metadata")
    assert statement["fhirVersion"] == "4.0.1"
    assert {each["type"] for each in statement["rest"][0]["resource"]} == {"ImagingStudy", "Patient", "Endpoint"}
    for resource in statement["rest"][0]["resource"]:
        for parameter in resource["searchParam"]:
            value = {"date": "2024", "string": "x", "uri": "urn:oid:1.2.3"}.get(parameter["type"], "1.2.3")
            get(web, f"{resource['type']}?{parameter['name']}={value}", Prefer="handling=strict")


def test_fhirclient_reads_and_searches(web: RunningArchive) -> None:
    client = FHIRClient(settings={"app_id": "tests", "api_base": f"{web.dicomweb_url}/fhir"})
    studies = ImagingStudy.where({"patient": "P1", "started": "ge2024-01-01"}).perform_resources_iter(client.server)
    assert [study.id for study in studies] == ["1.2.3.1", "1.2.3.2"]
    patient = Patient.read("P1", client.server)
    assert patient.name[0].family == "Doe"


def convert(web: RunningArchive, body: bytes, content_type: str) -> requests.Response:
    headers = {"Content-Type": content_type, "Accept": FHIR_JSON}
    return requests.post(f"{web.dicomweb_url}/fhir-convert", data=body, headers=headers, timeout=60)


def test_instances_are_converted_and_not_stored(web: RunningArchive) -> None:
    files = [
        builders.ct("1.9.1", f"1.9.1.{series}", f"1.9.1.{series}.{number}", rows=8, columns=8, InstanceNumber=number)
        for series in (1, 2)
        for number in (2, 1)
    ]
    files.append(builders.ct("1.9.2", rows=8, columns=8, PatientID=None))
    response = convert(web, multipart(files), STOW_TYPE)
    assert response.status_code == 200
    bundle = response.json()
    fhir_rules.check(bundle)
    resources = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}
    kinds = [resource["resourceType"] for resource in resources.values()]
    assert sorted(kinds) == ["Endpoint", "ImagingStudy", "ImagingStudy", "Patient"]
    for resource in resources.values():
        assert {each for each in fhir_rules.references_of(resource) if not each.startswith("#")} <= resources.keys()
    study = next(each for each in resources.values() if each.get("numberOfInstances") == 4)
    assert [[each["number"] for each in series["instance"]] for series in study["series"]] == [[1, 2], [1, 2]]
    assert requests.get(f"{web.dicomweb_url}/studies/1.9.1", timeout=60).status_code == 404
    assert list(web.incoming.iterdir()) == []


def test_one_file_is_converted(web: RunningArchive) -> None:
    response = convert(web, builders.ct(rows=8, columns=8), "application/dicom")
    assert [entry["resource"]["resourceType"] for entry in response.json()["entry"]] == [
        *("Endpoint", "Patient", "ImagingStudy")
    ]


def test_what_cannot_be_read_is_told_and_takes_nothing_with_it(web: RunningArchive) -> None:
    bundle = convert(web, multipart([builders.ct(rows=8, columns=8), b"rubbish" * 100]), STOW_TYPE).json()
    fhir_rules.check(bundle)
    assert [entry["resource"]["resourceType"] for entry in bundle["entry"]][-1] == "OperationOutcome"
    for body, content_type, status in (
        (b"rubbish" * 100, "application/dicom", 400),
        (b"", "application/dicom", 400),
        (b"{}", "application/json", 415),
        (multipart([b"x"]), STOW_TYPE.replace("application/dicom", "application/dicom+json"), 415),
    ):
        response = convert(web, body, content_type)
        assert response.status_code == status
        fhir_rules.check(response.json())
        assert response.json()["resourceType"] == "OperationOutcome"
    assert list(web.incoming.iterdir()) == []
