"""Whether a resource is what FHIR R4 says: types by fhirclient (4.0.1), patterns and invariants by fhir.resources.

fhir.resources has R4B, whose Patient, Endpoint, ImagingStudy, Bundle and OperationOutcome are R4's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from fhirclient.models.fhirelementfactory import FHIRElementFactory


def check(resource: dict[str, Any]) -> None:
    """Raises AssertionError or a validation error naming what is wrong."""
    kind = resource["resourceType"]
    get_fhir_model_class(kind).model_validate(resource)
    for each in [resource, *resource.get("contained", [])]:
        FHIRElementFactory.instantiate(each["resourceType"], each)
    for value in values_of(resource):
        assert value not in ("", [], {}, None), f"{kind} holds an empty value"
        assert not isinstance(value, str) or value == value.strip(), f"{kind} has blanks around {value!r}"
    if kind == "Bundle":
        for entry in resource.get("entry", []):
            check(entry["resource"])
        return
    ids = {f"#{each['id']}" for each in resource.get("contained", [])}
    local = {reference for reference in references_of(resource) if reference.startswith("#")}
    assert local == ids, f"{kind} contains {ids} and refers to {local}"


def references_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for each in value.values():
            yield from references_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from references_of(each)


def values_of(value: Any) -> Iterator[Any]:
    for each in value.values() if isinstance(value, dict) else value:
        yield each
        if isinstance(each, dict | list):
            yield from values_of(each)
