"""Who the caller is, as the web page asks before it shows anything."""

from __future__ import annotations

import orjson
from aiohttp import web

from pacs.dicom.model import Role
from pacs.services.access import Principal
from pacs.web.additions import Addition
from pacs.web.operations import JSON, Operation

OPERATIONS = (
    Operation("GET", "/session", "getSession", "Accounts", "Who the caller is", "", {200: (JSON,)}, is_public=True),
)


def addition(anonymous: Role) -> Addition:
    """anonymous: what somebody may do who is not known."""
    return Addition(OPERATIONS, lambda bridge, links: Sessions(Principal("anonymous", anonymous)).routes())


class Sessions:
    def __init__(self, anonymous: Principal) -> None:
        self._anonymous = anonymous

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [web.get("/session", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        """name, role, via; csrf: for the X-Pacs-Csrf header of what changes something, "" where that is not asked."""
        who = self._anonymous
        body = {"name": who.name, "role": who.role.word, "via": who.via, "csrf": "", "ways": []}
        return web.Response(
            body=orjson.dumps(body), content_type="application/json", headers={"Cache-Control": "no-store"}
        )
