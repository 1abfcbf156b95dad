"""The archive as a FHIR R4 server that is read: ImagingStudy, Patient and Endpoint, made from the index when asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from pacs.dicom.model import Caller
from pacs.errors import Invalid, NotFound
from pacs.services import fhir_ids, fhir_search
from pacs.services.fhir_archive import FhirArchive, Found
from pacs.services.fhir_search import Search
from pacs.web import problem
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.fhir_capabilities import FORM, capability_statement, read_operations
from pacs.web.fhir_outcome import FHIR_JSON
from pacs.web.links import Links
from pacs.web.negotiate import Offer, accepted, choose, none_acceptable
from pacs.web.operations import JSON
from pacs.web.target import uid_of

_OFFERS = (Offer(FHIR_JSON), Offer(JSON))
_FORMATS = frozenset({"json", "text/json", JSON, FHIR_JSON, "application/json+fhir"})


def addition(archive: FhirArchive) -> Addition:
    return Addition(read_operations(), lambda bridge, links: FhirResources(archive, bridge, links).routes())


class FhirResources:
    def __init__(self, archive: FhirArchive, bridge: Bridge, links: Links) -> None:
        self._archive = archive
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/fhir/metadata", self.metadata),
            *(web.get(f"/fhir/{kind}", partial(self.search, kind)) for kind in fhir_search.PARAMETERS),
            *(web.post(f"/fhir/{kind}/_search", partial(self.search, kind)) for kind in fhir_search.PARAMETERS),
            web.get("/fhir/ImagingStudy/{study}", self.study),
            web.get("/fhir/Patient/{fhir_patient}", self.patient),
            web.get("/fhir/Endpoint/{fhir_endpoint}", self.endpoint),
        ]

    async def metadata(self, request: web.Request) -> web.Response:
        return _answer(request, capability_statement(self._root(request)))

    async def study(self, request: web.Request) -> web.Response:
        uid = uid_of(request, "study") or ""
        return _answer(request, await self._bridge.run(self._archive.study, uid, self._links.caller(request)))

    async def patient(self, request: web.Request) -> web.Response:
        found = await self._bridge.run(
            self._archive.patient, request.match_info["fhir_patient"], self._links.caller(request)
        )
        return _answer(request, found)

    async def endpoint(self, request: web.Request) -> web.Response:
        is_known = request.match_info["fhir_endpoint"] == fhir_ids.ENDPOINT
        return _answer(request, self._archive.endpoint(self._links.base(request)) if is_known else None)

    async def search(self, kind: str, request: web.Request) -> web.Response:
        """A page as a Bundle. Parameters may come in the body too, where no log of the way sees them."""
        parameters = [*request.query.items(), *await _form(request)]
        archive = self._archive
        strict = "handling=strict" in request.headers.get("Prefer", "")
        search = fhir_search.parse(kind, parameters, archive.namespaces, zone=archive.zone, strict=strict)
        base = self._links.base(request)
        bundle = await self._bridge.run(self._find, kind, search, self._links.caller(request), base)
        return _answer(request, bundle, dict(parameters).get("_format"))

    def _find(self, kind: str, search: Search, caller: Caller, base: str) -> dict[str, Any]:
        archive = self._archive
        if search.is_nothing:
            found = Found([], 0)
        elif kind == "Endpoint":
            here = [archive.endpoint(base)][search.offset : search.offset + search.count]
            found = Found(here, 1)
        else:
            look = archive.studies if kind == "ImagingStudy" else archive.patients
            found = look(search.keys, caller, limit=search.count, offset=search.offset, accepts=search.accepts)
        included = self._included(found.resources, search, caller, base)
        return _bundle(f"{base}/fhir", kind, search, found, included)

    def _included(
        self, studies: Sequence[Mapping[str, Any]], search: Search, caller: Caller, base: str
    ) -> list[dict[str, Any]]:
        """What the studies of the page refer to, each once, as far as it was asked for (_include)."""
        archive = self._archive
        found: list[dict[str, Any]] = []
        if search.includes & {"ImagingStudy:patient", "ImagingStudy:subject"}:
            references = dict.fromkeys(str(study["subject"]["reference"]) for study in studies if "subject" in study)
            ids = [each.removeprefix("Patient/") for each in references if each.startswith("Patient/")]
            found += [patient for each in ids if (patient := archive.patient(each, caller)) is not None]
        if "ImagingStudy:endpoint" in search.includes and studies:
            found.append(archive.endpoint(base))
        return found

    def _root(self, request: web.Request) -> str:
        return f"{self._links.base(request)}/fhir"


def _bundle(
    root: str, kind: str, search: Search, found: Found, included: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    def url(offset: int) -> str:
        kept = [(name, value) for name, value in search.used if name not in ("_count", "_offset")]
        if ("_summary", "count") not in search.used:
            kept += [("_count", str(search.count)), *([("_offset", str(offset))] if offset else [])]
        return f"{root}/{kind}?{urlencode(kept)}" if kept else f"{root}/{kind}"

    links = [{"relation": "self", "url": url(search.offset)}]
    if search.count and search.offset + search.count < found.total:
        links.append({"relation": "next", "url": url(search.offset + search.count)})
    if search.count and search.offset:
        links.append({"relation": "previous", "url": url(max(0, search.offset - search.count))})
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": found.total, "link": links}
    entries = [
        {"fullUrl": f"{root}/{each['resourceType']}/{each['id']}", "resource": each, "search": {"mode": mode}}
        for mode, resources in (("match", found.resources), ("include", included))
        for each in resources
    ]
    return {**bundle, "entry": entries} if entries else bundle


async def _form(request: web.Request) -> list[tuple[str, str]]:
    if request.method != "POST":
        return []
    if request.content_type != FORM:
        detail = f"The parameters of a search are sent as {FORM}"
        raise problem.Answered(problem.problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail))
    try:
        return [(name, value) for name, value in (await request.post()).items() if isinstance(value, str)]
    except (ValueError, LookupError) as error:
        raise Invalid("The body is no form, or in a character set that is none", "body") from error


def _answer(request: web.Request, resource: Mapping[str, Any] | None, form: str | None = None) -> web.Response:
    media_type = media_type_of(request, form)
    if resource is None:
        raise NotFound("There is no such resource")
    return web.Response(body=orjson.dumps(resource), content_type=media_type, headers={"Vary": "Accept"})


def media_type_of(request: web.Request, form: str | None = None) -> str:
    """By ``_format``, which wins, or Accept. form: that parameter, where it was in the body. Raises NotAcceptable."""
    asked = (form or request.query.get("_format", "")).partition(";")[0].strip().replace(" ", "+").lower()
    if asked:
        if asked not in _FORMATS:
            raise none_acceptable(tuple(map(str, _OFFERS)))
        return JSON if asked in ("text/json", JSON) else FHIR_JSON
    ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
    return choose(ranges, _OFFERS).media_type
