"""Links that show one study: made, listed and taken back by those who may change something; and what they reach."""

from __future__ import annotations

from aiohttp import web

from pacs.dicom import uids
from pacs.dicom.model import Level, Role, Target
from pacs.errors import Invalid, NotFound
from pacs.index.base import Query
from pacs.services.access import Principal
from pacs.services.accounts import word_of
from pacs.services.query import QueryService
from pacs.services.shares import Shares
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.identity import NOBODY
from pacs.web.links import Links
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter
from pacs.web.session import object_of, principal_of

_GROUP = "Shares"
_SHARE = Parameter("id", "path", "Id of a share", {"type": "string", "minLength": 1}, "0123456789abcdef", required=True)
_STUDY = Parameter("study", "query", "Shares of this study alone", {"type": "string"}, None)
OPERATIONS = (
    Operation(
        *("GET", "/shares", "listShares", _GROUP, "Links to studies that hold: one's own; all for administrators", ""),
        {200: (JSON,)},
        query=("study",),
        own=(_STUDY,),
        needs=Role.WRITER,
    ),
    Operation(
        *("POST", "/shares", "addShare", _GROUP, "Make a link to a study: it is told once", ""),
        {201: (JSON,), 404: (PROBLEM,)},
        bodies=(JSON,),
    ),
    Operation(
        *("DELETE", "/shares/{id}", "removeShare", _GROUP, "Take a link back", "", {204: (), 404: (PROBLEM,)}),
        own=(_SHARE,),
    ),
)
# What shows one study, and what says how to ask: lists and feeds of all else stay closed, whatever their services
# would leave out.
_REACHED = ("/studies", "/series", "/instances", "/patients", "/labels", "/wado", "/capabilities", "/openapi.json")
_FILES = frozenset(
    {
        *("retrieveStudy", "retrieveSeries", "retrieveInstance", "wadoUri", "wadoUriAtRoot"),
        *(f"retrieve{level}{what}" for level in ("Study", "Series", "Instance") for what in ("Bulkdata", "PixelData")),
    }
)


def reaches(operation: Operation, principal: Principal) -> bool:
    """Whether somebody may use an operation that their role allows: by a share, what is about its study alone."""
    if principal.via != "share":
        return True
    if operation.method not in ("GET", "OPTIONS") or (operation.name in _FILES and not principal.may_download):
        return False
    return operation.method == "OPTIONS" or operation.path.startswith(_REACHED)


class ShareResources:
    """query: for whether somebody who shares a study may see it."""

    def __init__(self, shares: Shares, query: QueryService) -> None:
        self._shares = shares
        self._query = query

    def addition(self) -> Addition:
        return Addition(OPERATIONS, self.routes)

    def routes(self, bridge: Bridge, links: Links) -> list[web.RouteDef]:
        """Paths below the API root."""
        self._bridge = bridge
        self._links = links
        return [
            web.get("/shares", self.list),
            web.post("/shares", self.add),
            web.delete("/shares/{id}", self.remove),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """id, study, by, created, expires and canDownload of each; links are told once, when they are made."""
        study_uid = request.query.get("study") or None
        found = await self._bridge.run(self._shares.of, _caller(request), study_uid)
        return json_response([share.as_json() for share in found])

    async def add(self, request: web.Request) -> web.Response:
        """Of study, days (1 if not said) and canDownload (true). ``url`` is in this answer alone."""
        found = await object_of(request)
        study_uid, days, can_download = word_of(found, "study"), found.get("days", 1), found.get("canDownload", True)
        if not uids.is_possible(study_uid):
            raise Invalid("study is no UID", "study")
        if isinstance(days, bool) or not isinstance(days, int | float):
            raise Invalid("days is a number", "days")
        if not isinstance(can_download, bool):
            raise Invalid("canDownload is true or false", "canDownload")
        query = Query(Level.STUDY, {}, within=Target(study_uid), limit=1)
        if not (await self._bridge.run(self._query.search, query, self._links.caller(request))).rows:
            raise NotFound("there is no such study")
        share, text = await self._bridge.run(
            self._shares.add, study_uid, _caller(request), days, can_download=can_download
        )
        return json_response({**share.as_json(), "url": f"{self._links.page(request)}#/share/{text}"}, 201)

    async def remove(self, request: web.Request) -> web.Response:
        """204. What is open by it ends within seconds."""
        await self._bridge.run(self._shares.remove, request.match_info["id"], _caller(request))
        return web.Response(status=204)


def _caller(request: web.Request) -> Principal:
    return principal_of(request) or NOBODY
