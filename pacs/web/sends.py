"""Sending to peers because somebody asked for it: begin, watch, try again, cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from pacs.dicom.model import Role, Target
from pacs.dicom.uids import is_possible
from pacs.errors import Invalid
from pacs.services.sends import Sends
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter

_SHOWN = 100
_AE = Parameter(
    "ae", "path", "AE title", {"type": "string", "minLength": 1, "maxLength": 16}, "STORESCP", required=True
)
_SEND = Parameter(
    "send", "path", "Id of a send", {"type": "string", "minLength": 1, "maxLength": 64}, "0f3a", required=True
)
_GROUP = "Sending"
_MISSING = {404: (PROBLEM,)}
OPERATIONS = (
    Operation(
        *("POST", "/peers/{ae}/send", "sendToPeer", _GROUP, "Send studies, series or instances to a peer", ""),
        {202: (JSON,), 413: (PROBLEM,), **_MISSING},
        bodies=(JSON,),
        own=(_AE,),
    ),
    Operation(
        *("GET", "/sends", "listSends", _GROUP, "Recent sends, the newest first", "", {200: (JSON,)}),
        needs=Role.WRITER,
    ),
    Operation(
        *("GET", "/sends/{send}", "getSend", _GROUP, "How far a send is, and what failed", ""),
        {200: (JSON,), **_MISSING},
        own=(_SEND,),
        needs=Role.WRITER,
    ),
    Operation(
        *("POST", "/sends/{send}/retry", "retrySend", _GROUP, "Try again what waits or failed", ""),
        {202: (), 409: (PROBLEM,), **_MISSING},
        own=(_SEND,),
    ),
    Operation(
        *("DELETE", "/sends/{send}", "cancelSend", _GROUP, "Do not send what is left", "", {204: (), **_MISSING}),
        own=(_SEND,),
    ),
)


def addition(sends: Sends, wake: Callable[[], None]) -> Addition:
    """wake: has this process look for jobs at once."""
    return Addition(OPERATIONS, lambda bridge, links: SendResources(sends, wake, bridge, links).routes())


class SendResources:
    def __init__(self, sends: Sends, wake: Callable[[], None], bridge: Bridge, links: Links) -> None:
        self._sends = sends
        self._wake = wake
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.post("/peers/{ae}/send", self.begin),
            web.get("/sends", self.recent),
            web.get("/sends/{send}", self.one),
            web.post("/sends/{send}/retry", self.retry),
            web.delete("/sends/{send}", self.cancel),
        ]

    async def begin(self, request: web.Request) -> web.Response:
        """202 with the id: all of it is written down, and goes out as soon as the peer takes it."""
        targets = _targets(await request.read())
        caller = self._links.caller(request)
        send_id = await self._bridge.run(self._sends.begin, request.match_info["ae"].strip(), targets, caller)
        self._wake()
        return json_response({"id": send_id}, status=202)

    async def recent(self, request: web.Request) -> web.Response:
        return json_response({"sends": await self._bridge.run(self._sends.recent, self._links.caller(request), _SHOWN)})

    async def one(self, request: web.Request) -> web.Response:
        return json_response(
            await self._bridge.run(self._sends.one, request.match_info["send"], self._links.caller(request))
        )

    async def retry(self, request: web.Request) -> web.Response:
        await self._bridge.run(self._sends.retry, request.match_info["send"], self._links.caller(request))
        self._wake()
        return web.Response(status=202)

    async def cancel(self, request: web.Request) -> web.Response:
        """204, also when it has ended already: what was sent stays sent."""
        await self._bridge.run(self._sends.cancel, request.match_info["send"], self._links.caller(request))
        return web.Response(status=204)


def _targets(body: bytes) -> list[Target]:
    """Of {"targets": [{"study", "series"?, "sop"?}]}. Raises Invalid."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid("The body is no JSON", "body") from error
    listed = found.get("targets") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not listed:
        raise Invalid(
            'The body is {"targets": [{"study": …, "series": …, "sop": …}]}, with one target at least', "targets"
        )
    return [_target(each) for each in listed]


def _target(found: Any) -> Target:
    if not isinstance(found, dict):
        raise Invalid("A target is an object", "targets")
    uids = [found.get(name) for name in ("study", "series", "sop")]
    if any(uid is not None and not (isinstance(uid, str) and is_possible(uid)) for uid in uids):
        raise Invalid("A target has something that is no UID", "targets")
    study_uid, series_uid, sop_uid = uids
    if study_uid is None or (sop_uid is not None and series_uid is None):
        raise Invalid("A target has a study, a series in it, and an instance in that", "targets")
    return Target(study_uid, series_uid, sop_uid)
