"""The processes that serve the archive, what is wrong, and the settings in force. For those who look after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from pacs.dicom.model import Role
from pacs.errors import Forbidden
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.operations import JSON, Operation

_GROUP = "Administration"
OPERATIONS = (
    Operation(
        *(
            "GET",
            "/system",
            "getSystem",
            _GROUP,
            "Version, processes, and what is wrong",
            "",
            {200: (JSON,)},
        ),
        needs=Role.ADMIN,
    ),
    Operation(
        *(
            "GET",
            "/settings",
            "getSettings",
            _GROUP,
            "The settings in force, secrets masked",
            "",
            {200: (JSON,)},
        ),
        needs=Role.ADMIN,
    ),
)


@dataclass(frozen=True, slots=True)
class System:
    """state, settings: as JSON; made when asked for, and may block."""

    state: Callable[[], Mapping[str, Any]]
    settings: Callable[[], Sequence[Mapping[str, Any]]]


def addition(system: System | None) -> Addition:
    """system: None where this is not allowed, and requests are told so."""
    return Addition(
        OPERATIONS if system is not None else (),
        lambda bridge, links: SystemResources(system, bridge).routes(),
    )


class SystemResources:
    def __init__(self, system: System | None, bridge: Bridge) -> None:
        self._system = system
        self._bridge = bridge

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [web.get("/system", self.get), web.get("/settings", self.settings)]

    async def get(self, request: web.Request) -> web.Response:
        return json_response(await self._bridge.run(self._allowed().state))

    async def settings(self, request: web.Request) -> web.Response:
        return json_response({"settings": await self._bridge.run(self._allowed().settings)})

    def _allowed(self) -> System:
        if self._system is None:
            raise Forbidden("administration over HTTP is switched off here (ADMIN_API)")
        return self._system
