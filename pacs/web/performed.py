"""Performed procedure steps (MPPS) for reading, and what is known of a study's completeness."""

from __future__ import annotations

from datetime import datetime

import orjson
from aiohttp import web

from pacs.services.completeness import Report
from pacs.services.procedures import Procedures
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.negotiate import DICOM_JSON, DICOM_XML, MULTIPART
from pacs.web.one_data_set import answer_data_set
from pacs.web.operations import JSON, PROBLEM, Operation
from pacs.web.searching import answer_search, parse_search
from pacs.web.target import target_of, uid_of

_SOP_UID = "00080018"
OPERATIONS = (
    Operation(
        *("GET", "/mpps", "searchForPerformedSteps", "MPPS", "Search performed procedure steps", ""),
        {200: (DICOM_JSON, JSON, MULTIPART), 204: (), 304: (), 406: (PROBLEM,)},
        ("limit", "offset", "fuzzymatching", "includefield", "accept", "attributes"),
    ),
    Operation(
        *("GET", "/mpps/{instance}", "getPerformedStep", "MPPS", "One performed procedure step", ""),
        {200: (DICOM_JSON, JSON, DICOM_XML), 404: (PROBLEM,), 406: (PROBLEM,)},
        ("accept",),
    ),
    Operation(
        *("GET", "/studies/{study}/completeness", "getCompleteness", "MPPS", "Whether all of a study has arrived", ""),
        {200: (JSON,), 404: (PROBLEM,)},
    ),
)


def addition(procedures: Procedures, default_limit: int, max_limit: int) -> Addition:
    """default_limit, max_limit: steps a page when no limit is asked, and at most."""
    return Addition(
        OPERATIONS,
        lambda bridge, links: PerformedResources(procedures, bridge, links, default_limit, max_limit).routes(),
    )


class PerformedResources:
    def __init__(
        self, procedures: Procedures, bridge: Bridge, links: Links, default_limit: int, max_limit: int
    ) -> None:
        self._procedures = procedures
        self._bridge = bridge
        self._links = links
        self._limits = default_limit, max_limit

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/mpps", self.search),
            web.get("/mpps/{instance}", self.step),
            web.get("/studies/{study}/completeness", self.completeness),
        ]

    async def search(self, request: web.Request) -> web.Response:
        """As QIDO-RS searches: 200, or 204 for nothing; all attributes come back unless ``includefield`` names some."""
        default_limit, max_limit = self._limits
        always = frozenset({_SOP_UID})
        search = parse_search(request.query, default_limit=default_limit, max_limit=max_limit, always=always)
        caller = self._links.caller(request)
        found = await self._bridge.run(self._procedures.performed.search, search.keys, caller)
        return await self._bridge.run(answer_search, request, self._links, search, found)

    async def step(self, request: web.Request) -> web.Response:
        uid = uid_of(request, "instance") or ""
        return answer_data_set(
            request, await self._bridge.run(self._procedures.performed.step, uid, self._links.caller(request))
        )

    async def completeness(self, request: web.Request) -> web.Response:
        scope = self._links.caller(request).scope
        report = await self._bridge.run(self._procedures.completeness.report_to, scope, target_of(request).study_uid)
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=_json(report), content_type="application/json", headers=headers)


def _json(report: Report) -> bytes:
    return orjson.dumps(
        {
            "StudyInstanceUID": report.study_uid,
            "state": report.state,
            "expected": len(report.expected),
            "received": len(report.received),
            "missing": report.missing,
            "performedSteps": [{"SOPInstanceUID": uid, "state": state} for uid, state in report.performed.items()],
            "expectedBy": report.sources,
            "lastArrival": _text(report.last_arrival),
            "quietAt": _text(report.quiet_at),
        }
    )


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")
