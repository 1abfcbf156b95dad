"""Labels of studies: words that people and rules put on them."""

from __future__ import annotations

import orjson
from aiohttp import web

from pacs.dicom.model import Level, Target
from pacs.errors import NotFound
from pacs.index.base import Query
from pacs.services.labels import Labels
from pacs.services.query import QueryService
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter
from pacs.web.searching import listed
from pacs.web.target import target_of

_LABEL = Parameter(
    "label",
    "path",
    "A word: letters, digits, and . : _ -",
    {"type": "string", "pattern": r"^[\w.:-]{1,64}$", "minLength": 1, "maxLength": 64},
    "research",
    required=True,
)
_STUDIES = Parameter(
    "studies", "query", "Study Instance UIDs, a list: labels of each of them instead", {"type": "string"}, None
)
_PATH = "/studies/{study}/labels"
_DONE: dict[int, tuple[str, ...]] = {204: (), 404: (PROBLEM,)}
OPERATIONS = (
    Operation(
        *("GET", "/labels", "getAllLabels", "Labels", "All labels, with the number of studies that bear each", ""),
        {200: (JSON,)},
        ("studies",),
        own=(_STUDIES,),
    ),
    Operation("GET", _PATH, "getLabels", "Labels", "Labels of a study", "", {200: (JSON,), 404: (PROBLEM,)}),
    Operation("PUT", f"{_PATH}/{{label}}", "addLabel", "Labels", "Add a label", "", _DONE, own=(_LABEL,)),
    Operation("DELETE", f"{_PATH}/{{label}}", "removeLabel", "Labels", "Remove a label", "", _DONE, own=(_LABEL,)),
)


def addition(labels: Labels, query: QueryService) -> Addition:
    return Addition(OPERATIONS, lambda bridge, links: LabelResources(labels, query, bridge, links).routes())


class LabelResources:
    def __init__(self, labels: Labels, query: QueryService, bridge: Bridge, links: Links) -> None:
        self._labels = labels
        self._query = query
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/labels", self.all),
            web.get("/studies/{study}/labels", self.get),
            web.put("/studies/{study}/labels/{label}", self.put),
            web.delete("/studies/{study}/labels/{label}", self.delete),
        ]

    async def all(self, request: web.Request) -> web.Response:
        """A JSON object: numbers of studies by label; with ``studies`` labels by UID, of those that are there."""
        caller = self._links.caller(request)
        found: dict[str, int] | dict[str, list[str]]
        if "studies" in request.query:
            found = await self._bridge.run(self._query.labels_of, listed(request.query, "studies"), caller)
        else:
            found = await self._bridge.run(self._query.label_counts, caller)
        return web.Response(body=orjson.dumps(found), content_type="application/json")

    async def get(self, request: web.Request) -> web.Response:
        """A JSON array of words. 404 when there is no such study."""
        target = await self._study(request)
        found = await self._bridge.run(self._labels.of, target.study_uid)
        return web.Response(body=orjson.dumps(found), content_type="application/json")

    async def put(self, request: web.Request) -> web.Response:
        """204, also when the study has it already."""
        target = await self._study(request)
        await self._bridge.run(self._labels.add, target.study_uid, request.match_info["label"])
        return web.Response(status=204)

    async def delete(self, request: web.Request) -> web.Response:
        """204, also when the study does not have it."""
        target = await self._study(request)
        await self._bridge.run(self._labels.remove, target.study_uid, request.match_info["label"])
        return web.Response(status=204)

    async def _study(self, request: web.Request) -> Target:
        target = target_of(request)
        query = Query(Level.STUDY, {}, within=target, limit=1)
        if not (await self._bridge.run(self._query.search, query, self._links.caller(request))).rows:
            raise NotFound("there is no such study")
        return target
