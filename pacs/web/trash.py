"""What was deleted and can be taken back, and taking it back."""

from __future__ import annotations

import re

from aiohttp import web

from pacs.dicom.model import Role
from pacs.errors import Forbidden, Invalid
from pacs.services.trash import Trash, moment
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter
from pacs.web.target import target_of

_DEFAULT_LIMIT, _MAX_LIMIT = 100, 500
_LISTING = (
    Parameter("after", "query", "What the page before gave as next", {"type": "string"}, None),
    Parameter(
        "limit",
        "query",
        "Deletions at most",
        {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT},
        10,
    ),
)
_AT = Parameter(
    "at",
    "query",
    "When it was deleted: undo that deletion only",
    {"type": "string"},
    None,
)
_PATHS = {
    "Study": "/studies/{study}/undelete",
    "Series": "/studies/{study}/series/{series}/undelete",
    "Instance": "/studies/{study}/series/{series}/instances/{instance}/undelete",
}
_TRASH = "/trash"
OPERATIONS = (
    Operation(
        *(
            "GET",
            _TRASH,
            "listDeleted",
            "Delete",
            "What was deleted and can be taken back",
            "",
            {200: (JSON,)},
        ),
        tuple(parameter.name for parameter in _LISTING),
        own=_LISTING,
        needs=Role.WRITER,  # whoever sees this sees patients that readers no longer do
    ),
    *(
        Operation(
            *(
                "POST",
                path,
                f"undelete{name}",
                "Delete",
                f"Undo deletion: {name.lower()}",
                "",
            ),
            {200: (JSON,), 404: (PROBLEM,)},
            (_AT.name,),
            own=(_AT,),
        )
        for name, path in _PATHS.items()
    ),
)


def addition(trash: Trash | None) -> Addition:
    """trash: None where nothing may be deleted, and requests are told so."""
    operations = OPERATIONS if trash is not None else ()
    return Addition(operations, lambda bridge, links: TrashResources(trash, bridge, links).routes())


class TrashResources:
    def __init__(self, trash: Trash | None, bridge: Bridge, links: Links) -> None:
        self._allowed = trash
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get(_TRASH, self.list, allow_head=False),
            *(web.post(path, self.undelete) for path in _PATHS.values()),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """A page of deletions, latest first, of which any file is still there."""
        limit = request.query.get("limit", str(_DEFAULT_LIMIT))
        if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= _MAX_LIMIT:
            raise Invalid(f"limit is 1 to {_MAX_LIMIT}", "limit")
        after, scope = request.query.get("after") or None, self._links.caller(request).scope
        page = await self._bridge.run(self._trash().page, after, int(limit), scope)
        return json_response({"deleted": page.deleted, "next": page.next})

    async def undelete(self, request: web.Request) -> web.Response:
        """200, with what stays deleted and why; 404 when nothing of it is deleted, or it is purged."""
        at = request.query.get("at")
        trash, caller = self._trash(), self._links.caller(request)
        restored = await self._bridge.run(
            trash.restore,
            target_of(request),
            caller,
            at=moment(at) if at is not None else None,
        )
        return json_response(restored.as_json())

    def _trash(self) -> Trash:
        if self._allowed is None:
            raise Forbidden("this archive is set not to delete anything (ALLOW_DELETE=false)")
        return self._allowed
