"""Peers over HTTP: who is known, and whether they answer (C-ECHO). For those who look after the archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web

from pacs.dicom.model import Role
from pacs.errors import Forbidden
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter


class PeerDirectory(Protocol):
    """Known peers. Both calls may block."""

    def listed(self) -> Sequence[Mapping[str, Any]]:
        """As JSON objects, without secrets, by AE title."""
        ...

    def echo(self, ae_title: str) -> Mapping[str, Any]:
        """Whether a peer is there, and milliseconds or the reason. Raises NotFound for one that is not known."""
        ...


_AE = Parameter(
    "ae", "path", "AE title", {"type": "string", "minLength": 1, "maxLength": 16}, "STORESCP", required=True
)
_ECHOED = {200: (JSON,), 404: (PROBLEM,)}
_GROUP = "Administration"
OPERATIONS = (
    Operation("GET", "/peers", "listPeers", _GROUP, "Known peers", "", {200: (JSON,)}, needs=Role.WRITER),
    Operation(
        "POST",
        "/peers/{ae}/echo",
        "echoPeer",
        _GROUP,
        "Ask a peer by C-ECHO",
        "",
        _ECHOED,
        own=(_AE,),
        needs=Role.WRITER,
    ),
)


def addition(directory: PeerDirectory | None) -> Addition:
    """directory: None where this is not allowed, and requests are told so."""
    offered = OPERATIONS if directory is not None else ()
    return Addition(offered, lambda bridge, links: PeerResources(directory, bridge).routes())


class PeerResources:
    def __init__(self, directory: PeerDirectory | None, bridge: Bridge) -> None:
        self._directory = directory
        self._bridge = bridge

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [web.get("/peers", self.listed), web.post("/peers/{ae}/echo", self.echo)]

    async def listed(self, request: web.Request) -> web.Response:
        return json_response(await self._bridge.run(self._allowed().listed))

    async def echo(self, request: web.Request) -> web.Response:
        """200 whether the peer answers or not: that is what was asked."""
        return json_response(await self._bridge.run(self._allowed().echo, request.match_info["ae"]))

    def _allowed(self) -> PeerDirectory:
        if self._directory is None:
            raise Forbidden("administration over HTTP is switched off here (ADMIN_API)")
        return self._directory
