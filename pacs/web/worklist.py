"""The modality worklist over HTTP, at the addresses of dcm4chee's MWL-RS."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

import orjson
from aiohttp import web

from pacs.dicom.uids import is_possible
from pacs.dicom.worklist_item import STATES, STEPS, STUDY_UID, ItemKey, key_of
from pacs.errors import Invalid
from pacs.services.worklist import Worklist
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.negotiate import DICOM_JSON, DICOM_XML, MULTIPART
from pacs.web.one_data_set import answer_data_set, answer_type, read_data_set
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter
from pacs.web.searching import DataSetSearch, answer_search, parse_search

_SEARCH = ("limit", "offset", "fuzzymatching", "includefield", "accept", "attributes")
_FOUND = {200: (DICOM_JSON, JSON, MULTIPART), 204: (), 304: (), 406: (PROBLEM,)}
_ONE = {200: (DICOM_JSON, JSON, DICOM_XML), 404: (PROBLEM,), 406: (PROBLEM,)}
_CHANGED = {**_ONE, 403: (PROBLEM,), 413: (PROBLEM,), 415: (PROBLEM,)}
_BODIES = (DICOM_JSON, JSON, DICOM_XML)
_STEP = Parameter(
    "step", "path", "Scheduled Procedure Step ID", {"type": "string", "minLength": 1, "maxLength": 16}, "STEP-1", True
)
_STATE = Parameter(
    "state", "path", "Scheduled Procedure Step Status", {"type": "string", "enum": list(STATES)}, STATES[0], True
)


def _operation(
    method: str,
    path: str,
    name: str,
    summary: str,
    answers: Mapping[int, tuple[str, ...]],
    query: tuple[str, ...] = ("accept",),
    bodies: tuple[str, ...] = (),
) -> Operation:
    return Operation(method, path, name, "MWL-RS", summary, "", answers, query, bodies, own=(_STEP, _STATE))


_ITEM = "/mwlitems/{study}/{step}"
OPERATIONS = (
    _operation("GET", "/mwlitems", "searchForWorklistItems", "Search the worklist", _FOUND, _SEARCH),
    _operation(
        *("POST", "/mwlitems", "putWorklistItem", "Create or replace an item"),
        {**_CHANGED, 201: _ONE[200]},
        bodies=_BODIES,
    ),
    _operation("GET", "/mwlitems/count", "countWorklistItems", "How many match", {200: (JSON,)}, _SEARCH),
    _operation("GET", _ITEM, "getWorklistItem", "One item", _ONE),
    _operation("PUT", _ITEM, "replaceWorklistItem", "Replace an item", _CHANGED, bodies=_BODIES),
    _operation(
        "DELETE", _ITEM, "deleteWorklistItem", "Remove an item", {204: (), 403: (PROBLEM,), 404: (PROBLEM,)}, ()
    ),
    _operation("POST", f"{_ITEM}/status/{{state}}", "setWorklistStatus", "Set the status", _ONE),
)


def addition(worklist: Worklist, default_limit: int, max_limit: int) -> Addition:
    """default_limit, max_limit: items a page when no limit is asked, and at most."""
    return Addition(
        OPERATIONS,
        lambda bridge, links: WorklistResources(worklist, bridge, links, default_limit, max_limit).routes(),
    )


_ALWAYS = frozenset({STEPS, STUDY_UID})  # what the address of an item is made of


class WorklistResources:
    def __init__(self, worklist: Worklist, bridge: Bridge, links: Links, default_limit: int, max_limit: int) -> None:
        self._worklist = worklist
        self._bridge = bridge
        self._links = links
        self._limits = default_limit, max_limit

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/mwlitems", self.search),
            web.post("/mwlitems", self.put),
            web.get("/mwlitems/count", self.count),
            web.get(_ITEM, self.item),
            web.put(_ITEM, self.replace),
            web.delete(_ITEM, self.remove),
            web.post(f"{_ITEM}/status/{{state}}", self.set_status),
        ]

    async def search(self, request: web.Request) -> web.Response:
        """As QIDO-RS searches: 200, or 204 for nothing; all attributes come back unless ``includefield`` names some."""
        search = self._parse(request)
        found = await self._bridge.run(self._worklist.search, search.keys, self._links.caller(request))
        return await self._bridge.run(answer_search, request, self._links, search, found)

    async def count(self, request: web.Request) -> web.Response:
        search = self._parse(request)
        found = await self._bridge.run(self._worklist.search, search.keys, self._links.caller(request))
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=orjson.dumps({"count": len(found)}), content_type="application/json", headers=headers)

    async def put(self, request: web.Request) -> web.Response:
        """Create (201 with Location) or, when study and step are known already, replace (200)."""
        item = await read_data_set(request)
        made, is_new = await self._bridge.run(self._worklist.put, item, self._links.caller(request))
        key = key_of(made)
        location = f"{self._links.base(request)}/mwlitems/{quote(key.study_uid, safe='')}/{quote(key.step_id, safe='')}"
        return answer_data_set(request, made, HTTPStatus.CREATED if is_new else HTTPStatus.OK, location)

    async def item(self, request: web.Request) -> web.Response:
        found = await self._bridge.run(self._worklist.item, _key(request), self._links.caller(request))
        return answer_data_set(request, found)

    async def replace(self, request: web.Request) -> web.Response:
        item = await read_data_set(request)
        made, _ = await self._bridge.run(self._worklist.put, item, self._links.caller(request), _key(request))
        return answer_data_set(request, made)

    async def remove(self, request: web.Request) -> web.Response:
        await self._bridge.run(self._worklist.remove, _key(request), self._links.caller(request))
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def set_status(self, request: web.Request) -> web.Response:
        caller = self._links.caller(request)
        state = request.match_info["state"]
        answer_type(request)
        return answer_data_set(request, await self._bridge.run(self._worklist.set_status, _key(request), state, caller))

    def _parse(self, request: web.Request) -> DataSetSearch:
        default_limit, max_limit = self._limits
        return parse_search(request.query, default_limit=default_limit, max_limit=max_limit, always=_ALWAYS)


def _key(request: web.Request) -> ItemKey:
    key = ItemKey(request.match_info["study"], request.match_info["step"])
    if not is_possible(key.study_uid):
        raise Invalid("The study in the path is not a UID", "study")
    return key
