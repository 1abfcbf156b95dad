"""Whether the server lives and is ready, and where to go from its root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from pacs.index.base import Counts
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.negotiate import Offer, accepted, choose
from pacs.web.page import Page


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. problem: one sentence, "" when all is well. is_needed: to be ready.

    ms: how long it took.
    """

    name: str
    problem: str = ""
    ms: float = 0.0
    is_needed: bool = True

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "isOk": not self.problem,
            "problem": self.problem,
            "ms": round(self.ms, 1),
            "isNeeded": self.is_needed,
        }


class Health:
    """counts: totals of the archive; health: what was looked at. Both may block.

    sees_all: whether a caller may be told the totals, and what is wrong, not only that something is; None: all may.
    """

    def __init__(
        self,
        bridge: Bridge,
        links: Links,
        counts: Callable[[], Counts] | None,
        health: Callable[[], Sequence[Check]],
        page: Page,
        sees_all: Callable[[web.Request], Awaitable[bool]] | None = None,
    ) -> None:
        self._bridge = bridge
        self._links = links
        self._counts = counts
        self._health = health
        self._page = page
        self._sees_all = sees_all

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health/live", self.live),
            web.get("/health/ready", self.ready),
            web.get("/", self.root),
        ]

    async def live(self, request: web.Request) -> web.Response:
        """200 as long as the loop turns."""
        return json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.Response:
        """200 when requests can be served, 503 with the reasons when not."""
        checks = await self._bridge.run(self._health)
        is_ready = not any(check.problem and check.is_needed for check in checks)
        body: dict[str, object] = {"status": "ok" if is_ready else "unavailable"}
        if await self._is_told(request):
            body["problems"] = [check.problem for check in checks if check.problem and check.is_needed]
            body["checks"] = [check.as_json() for check in checks]
        return json_response(body, status=200 if is_ready else 503)

    async def root(self, request: web.Request) -> web.Response:
        """The web page for browsers, addresses as JSON for others."""
        ranges = accepted(request.headers.getall("Accept", []))
        chosen = choose(ranges, [Offer("application/json"), Offer("text/html")], client_order=True)
        if chosen.media_type == "text/html":
            return await self._page.index(request)
        base = self._links.base(request)
        totals: dict[str, int] = {}
        if self._counts is not None and await self._is_told(request):
            counts = await self._bridge.run(self._counts)
            totals = {
                "patients": counts.patients,
                "studies": counts.studies,
                "series": counts.series,
                "instances": counts.instances,
            }
        return json_response({"dicomweb": base, "studies": f"{base}/studies", "counts": totals})

    async def _is_told(self, request: web.Request) -> bool:
        return self._sees_all is None or await self._sees_all(request)
