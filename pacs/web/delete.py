"""Deleting a study, series or instance (the Delete Transaction that PS3.18 leaves to origin servers, 8.5 and 8.6)."""

from __future__ import annotations

from aiohttp import web

from pacs.errors import Forbidden
from pacs.services.delete import Delete
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.target import target_of


class DeleteResources:
    """DELETE of what WADO-RS retrieves. delete: None when nothing may be deleted."""

    def __init__(self, delete: Delete | None, bridge: Bridge, links: Links) -> None:
        self._delete = delete
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.delete(path, self.delete)
            for path in (
                "/studies/{study}",
                "/studies/{study}/series/{series}",
                "/studies/{study}/series/{series}/instances/{instance}",
            )
        ]

    async def delete(self, request: web.Request) -> web.Response:
        """204; 404 for what never was there, 410 for what is deleted already, 403 where nothing may be deleted."""
        if self._delete is None:
            raise Forbidden("this archive is set not to delete anything (ALLOW_DELETE=false)")
        await self._bridge.run(self._delete.delete, target_of(request), self._links.caller(request))
        return web.Response(status=204)
