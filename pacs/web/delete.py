"""Deleting a study, series or instance (the Delete Transaction that PS3.18 leaves to origin servers, 8.5 and 8.6)."""

from __future__ import annotations

from aiohttp import web

from pacs.services.delete import Delete
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.target import target_of


class DeleteResources:
    """DELETE of what WADO-RS retrieves."""

    def __init__(self, delete: Delete, bridge: Bridge, links: Links) -> None:
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
        """204; 404 for what never was there, 410 for what is deleted already."""
        await self._bridge.run(self._delete.delete, target_of(request), self._links.caller(request))
        return web.Response(status=204)
