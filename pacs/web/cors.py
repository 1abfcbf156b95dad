"""Cross-origin access for viewers that are served from elsewhere (Fetch standard, PS3.18 8.9)."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

_EXPOSED = (
    "Accept-Ranges, Content-Encoding, Content-Length, Content-Location, Content-Range, ETag, Link, Location, "
    "Retry-After, Warning"
)
# Not DELETE: a page that may read must not be able to empty the archive.
_METHODS = "GET, HEAD, POST, OPTIONS"
_MAX_AGE_S = "86400"
_USUAL_HEADERS = "Accept, Authorization, Content-Type, If-None-Match, Range"


class Cors:
    """Adds the headers for the origins that are allowed; "*" allows every origin."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    @staticmethod
    def is_preflight(request: web.BaseRequest) -> bool:
        """Whether a browser asks on behalf of a page, not somebody who wants to know about the resource."""
        return "Origin" in request.headers and "Access-Control-Request-Method" in request.headers

    def preflight(self, request: web.BaseRequest) -> web.Response:
        """The answer to a browser's OPTIONS."""
        headers = {"Allow": _METHODS}
        if self._allowed(request):
            headers["Access-Control-Allow-Methods"] = _METHODS
            headers["Access-Control-Allow-Headers"] = (
                request.headers.get("Access-Control-Request-Headers") or _USUAL_HEADERS
            )
            headers["Access-Control-Max-Age"] = _MAX_AGE_S
        return web.Response(status=204, headers=headers)

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
