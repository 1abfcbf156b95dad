"""The FHIR CapabilityStatement, and the FHIR routes as operations of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pacs import __version__
from pacs.services import fhir_ids
from pacs.services.fhir_search import DEFAULT_COUNT, INCLUDES, MAX_COUNT, PARAMETERS
from pacs.web.fhir_outcome import FHIR_JSON
from pacs.web.negotiate import DICOM, MULTIPART
from pacs.web.operations import EXAMPLE, EXAMPLE_PATIENT, JSON, Operation, Parameter

# When this statement last changed; FHIR wants to know.
_DATE = "2026-11-29"
_ERRORS = dict.fromkeys((400, 500, 503), (FHIR_JSON,))
_ANSWERS = {200: (FHIR_JSON, JSON), 406: (FHIR_JSON,), **_ERRORS}
_READ = {**_ANSWERS, 404: (FHIR_JSON,)}
_CONVERT = {200: (FHIR_JSON, JSON), **dict.fromkeys((406, 408, 413, 415), (FHIR_JSON,)), **_ERRORS}
_SEARCH_BY_POST = {**_ANSWERS, **dict.fromkeys((413, 415), (FHIR_JSON,))}
_GROUP = "FHIR R4"
FORM = "application/x-www-form-urlencoded"
_EXAMPLES: Mapping[str, Mapping[str, str | None]] = {
    "ImagingStudy": {
        **{"_id": EXAMPLE.study_uid, "identifier": f"urn:dicom:uid|urn:oid:{EXAMPLE.study_uid}"},
        **{"patient": "Patient/EXAMPLE-2D1", "subject": "EXAMPLE-2D1", "patient.identifier": EXAMPLE_PATIENT},
        **{"started": "ge2024-01-01", "modality": "CT,MR", "series": EXAMPLE.series_uid},
        **{"instance": EXAMPLE.sop_uid, "dicom-class": "urn:oid:1.2.840.10008.5.1.4.1.1.2", "status": "available"},
        **{"endpoint": f"Endpoint/{fhir_ids.ENDPOINT}"},
    },
    "Patient": {
        **{"_id": "EXAMPLE-2D1", "identifier": EXAMPLE_PATIENT, "name": "doe", "family": "doe", "given": "jane"},
        **{"birthdate": "1970-01-01", "gender": "female"},
    },
    "Endpoint": {"_id": fhir_ids.ENDPOINT, "identifier": "urn:uuid:00000000-0000-0000-0000-000000000000"},
}


def capability_statement(root: str) -> dict[str, Any]:
    """root: URL of the FHIR resources."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _DATE,
        "kind": "instance",
        "software": {"name": "raccoon-pacs", "version": __version__},
        "implementation": {"description": "DICOM archive", "url": root},
        "fhirVersion": "4.0.1",
        "format": [FHIR_JSON, "json"],
        "rest": [{"mode": "server", "resource": [_resource(kind, known) for kind, known in PARAMETERS.items()]}],
    }


def _resource(kind: str, known: Mapping[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": kind,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "versioning": "no-version",
        # Chained parameters are not listed.
        "searchParam": [{"name": name, "type": of} for name, of in known.items() if "." not in name],
    }
    return {**made, "searchInclude": list(INCLUDES)} if kind == "ImagingStudy" else made


def read_operations() -> tuple[Operation, ...]:
    """All that is offered under ``/fhir``."""
    patient = Parameter("fhir_patient", "path", "Id of a Patient", _id_schema(), "EXAMPLE-2D1", required=True)
    endpoint = Parameter("fhir_endpoint", "path", "Id of the Endpoint", _id_schema(), fhir_ids.ENDPOINT, required=True)
    return (
        _get("/fhir/metadata", "fhirMetadata", "CapabilityStatement", _ANSWERS, _controls()),
        *(
            _get(f"/fhir/{kind}", f"fhirSearch{kind}", f"Search: {kind}", _ANSWERS, _search(kind))
            for kind in PARAMETERS
        ),
        *(
            Operation(
                "POST",
                f"/fhir/{kind}/_search",
                f"fhirPostSearch{kind}",
                _GROUP,
                f"Search: {kind}, parameters in the body",
                "",
                _SEARCH_BY_POST,
                bodies=(FORM,),
            )
            for kind in PARAMETERS
        ),
        _get("/fhir/ImagingStudy/{study}", "fhirReadImagingStudy", "Read: ImagingStudy", _READ, _controls()),
        _get("/fhir/Patient/{fhir_patient}", "fhirReadPatient", "Read: Patient", _READ, (patient, *_controls())),
        _get("/fhir/Endpoint/{fhir_endpoint}", "fhirReadEndpoint", "Read: Endpoint", _READ, (endpoint, *_controls())),
    )


CONVERSION = Operation(
    "POST",
    "/fhir-convert",
    "fhirConvert",
    _GROUP,
    "DICOM instances as Patient, Endpoint and ImagingStudy; nothing is stored",
    "",
    _CONVERT,
    bodies=(MULTIPART, DICOM),
)


def _get(
    path: str, name: str, summary: str, answers: Mapping[int, tuple[str, ...]], own: tuple[Parameter, ...]
) -> Operation:
    query = tuple(each.name for each in own if each.place == "query")
    return Operation("GET", path, name, _GROUP, summary, "", answers, query, own=own)


def _controls() -> tuple[Parameter, ...]:
    return (Parameter("_format", "query", "json; wins over Accept", {"type": "string"}, "json"),)


def _search(kind: str) -> tuple[Parameter, ...]:
    whole = {"type": "integer", "minimum": 0}
    found = [
        Parameter(name, "query", of, {"type": "string"}, _EXAMPLES[kind].get(name))
        for name, of in PARAMETERS[kind].items()
    ]
    found += [
        Parameter("_count", "query", f"Resources a page: {DEFAULT_COUNT} unasked, {MAX_COUNT} at most", whole, 10),
        Parameter("_offset", "query", "Resources to leave out first", whole, 0),
        Parameter("_summary", "query", "count: only how many", {"type": "string", "enum": ["count", "false"]}, "count"),
        *_controls(),
    ]
    if kind == "ImagingStudy":
        schema = {"type": "string", "enum": [*INCLUDES, "*"]}
        found.append(Parameter("_include", "query", "What studies refer to, too", schema, INCLUDES[0]))
    return tuple(found)


def _id_schema() -> dict[str, Any]:
    return {"type": "string", "pattern": r"^[A-Za-z0-9.-]{1,64}$"}
