"""Cross-origin access for viewers that are served from elsewhere (Fetch standard, PS3.18 8.9)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp import web

_EXPOSED = (
    "Accept-Ranges, Content-Encoding, Content-Length, Content-Location, Content-Range, ETag, Link, Location, "
    "Retry-After, Warning, X-Total-Count"
)
# Not DELETE: a page that may read must not be able to empty the archive.
_METHODS = "GET, HEAD, POST, OPTIONS"
# Of workitems: a viewer claims them, and ends its subscriptions; no workitem can be deleted.
_WORKITEM_METHODS = f"{_METHODS}, PUT, DELETE"
_MAX_AGE_S = "86400"
_USUAL_HEADERS = "Accept, Authorization, Content-Type, If-None-Match, Range"


class Cors:
    """Adds the headers for the origins that are allowed; "*" allows every origin. api_path: of DICOMweb."""

    def __init__(self, origins: Sequence[str], api_path: str = "") -> None:
        self._api_path = api_path
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    @staticmethod
    def is_preflight(request: web.BaseRequest) -> bool:
        """Whether a browser asks on behalf of a page, not somebody who wants to know about the resource."""
        return "Origin" in request.headers and "Access-Control-Request-Method" in request.headers

    def preflight(self, request: web.BaseRequest) -> web.Response:
        """The answer to a browser's OPTIONS."""
        is_workitem = request.rel_url.raw_path.startswith(f"{self._api_path}/workitems/")
        methods = _WORKITEM_METHODS if is_workitem else _METHODS
        headers = {"Allow": methods}
        if self._allowed(request):
            headers["Access-Control-Allow-Methods"] = methods
            headers["Access-Control-Allow-Headers"] = (
                request.headers.get("Access-Control-Request-Headers") or _USUAL_HEADERS
            )
            headers["Access-Control-Max-Age"] = _MAX_AGE_S
        return web.Response(status=204, headers=headers)

    def may_connect(self, request: web.BaseRequest, base: str) -> bool:
        """Whether a WebSocket may be opened. base: our URL as this client sees it.

        Browsers let any page do that without asking, so those of other origins have to be kept out here.
        """
        origin = request.headers.get("Origin")
        own = (request.headers.get("Host"), urlsplit(base).netloc)
        return origin is None or urlsplit(origin).netloc in own or self._allowed(request)

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Signal handler: runs before the headers of any answer go out, streamed ones too."""
        if not self._origins:
            return
        if not self._any:
            response.headers.add("Vary", "Origin")
        if self._allowed(request):
            response.headers["Access-Control-Allow-Origin"] = "*" if self._any else request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED

    def _allowed(self, request: web.BaseRequest) -> bool:
        origin = request.headers.get("Origin", "")
        return bool(origin) and (self._any or origin.lower() in self._origins)
