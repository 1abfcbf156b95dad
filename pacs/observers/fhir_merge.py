"""A resource as a FHIR server has it, brought to what the archive says; what others wrote into it stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pacs.services.fhir_values import Json

_STUDY = (
    *("status", "contained", "modality", "subject", "started", "referrer", "interpreter", "numberOfSeries"),
    *("numberOfInstances", "procedureCode", "description", "series"),
)
_PATIENT = ("active", "name", "gender", "birthDate")
_ENDPOINT = ("status", "connectionType", "name", "payloadType", "payloadMimeType", "address")
_OURS = {"ImagingStudy": _STUDY, "Patient": _PATIENT, "Endpoint": _ENDPOINT}


def merged(there: Mapping[str, Any], ours: Mapping[str, Any], *, is_ours: bool) -> Json:
    """is_ours: this archive made it, so that what we say no more goes."""
    found = dict(there)
    for name in _OURS[ours["resourceType"]]:
        if name in ours:
            found[name] = ours[name]
        elif is_ours:
            found.pop(name, None)
    found["identifier"] = _identifiers(there.get("identifier") or [], ours["identifier"], is_ours)
    if ours.get("endpoint"):
        found["endpoint"] = [*_others(there, ours["endpoint"][0]["reference"]), *ours["endpoint"]]
    return found


def without_us(there: Mapping[str, Any], status: str, endpoint_reference: str) -> Json:
    """A study that the archive holds no more, and that stays on the server."""
    found = {**there, "status": status, "numberOfSeries": 0, "numberOfInstances": 0}
    found.pop("series", None)
    others = _others(there, endpoint_reference)
    found.pop("endpoint", None)
    return {**found, "endpoint": others} if others else found


def _identifiers(there: Sequence[Json], ours: Sequence[Json], is_ours: bool) -> list[Json]:
    replaced = [(each.get("system"), each["value"]) for each in ours]
    types = [each["type"] for each in ours if is_ours and "type" in each]
    others = [
        each
        for each in there
        if (each.get("system"), each.get("value")) not in replaced and each.get("type") not in types
    ]
    return [*ours, *others]


def _others(there: Mapping[str, Any], endpoint_reference: str) -> list[Json]:
    """Endpoints of other archives that have the study too."""
    listed = there.get("endpoint") or []
    return [each for each in listed if not str(each.get("reference", "")).endswith(endpoint_reference)]
