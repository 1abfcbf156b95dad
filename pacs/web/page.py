"""The web page at ``/``: static files of the package, and what the page has to know of this server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from aiohttp import web

from pacs import __version__
from pacs.errors import NotFound
from pacs.web import single, viewer
from pacs.web.answer import json_response
from pacs.web.links import Links
from pacs.web.operations import JSON, Operation, Parameter
from pacs.web.viewer import Viewer

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "frame-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_FILE = Parameter(
    "file", "path", "Name of a file of the page", {"type": "string", "minLength": 1}, "app.js", required=True
)
OPERATIONS = (
    Operation(
        *("GET", "/ui/config.json", "getPageConfig", "Server", "What the web page has to know", "", {200: (JSON,)}),
        is_outside=True,
        is_public=True,
    ),
    Operation(
        *("GET", "/ui/{file}", "getPageFile", "Server", "Files of the web page", ""),
        {200: tuple(dict.fromkeys(_TYPES.values())), 304: (), 404: ("application/problem+json",)},
        own=(_FILE,),
        is_outside=True,
        is_public=True,
    ),
)


@dataclass(frozen=True, slots=True)
class About:
    """What the page shows of this server."""

    ae_title: str = ""
    dimse_port: int | None = None
    can_delete: bool = True


class Page:
    """Paths from the server's root."""

    def __init__(self, links: Links, about: About, full_viewer: Viewer | None = None) -> None:
        self._links = links
        self._about = about
        self._viewer = full_viewer

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/ui/config.json", self.config), web.get("/ui/{file:.+}", self.file)]

    async def index(self, request: web.Request) -> web.Response:
        """The page itself; all addresses in it are relative, so that it works behind any prefix of a proxy."""
        return self._answer(request, "index.html")

    async def file(self, request: web.Request) -> web.Response:
        return self._answer(request, request.match_info["file"])

    async def config(self, request: web.Request) -> web.Response:
        """api: path of the DICOMweb root, relative to the page, without a slash at either end.

        viewer: path of the full viewer, relative too; "" while none is installed.
        """
        about = self._about
        body = {
            "api": self._links.api_path.strip("/"),
            "version": __version__,
            "aeTitle": about.ae_title,
            "dimsePort": about.dimse_port,
            "canDelete": about.can_delete,
            "viewer": viewer.PATH if self._viewer is not None and self._viewer.is_installed else "",
        }
        return json_response(body)

    def _answer(self, request: web.Request, name: str) -> web.Response:
        body, etag = _read(name)
        headers = {**_HEADERS, "ETag": etag, "Cache-Control": "no-cache"}
        unchanged = single.not_modified(request, etag, headers)
        return unchanged or web.Response(body=body, content_type=_TYPES[PurePosixPath(name).suffix], headers=headers)


@cache
def _read(name: str) -> tuple[bytes, str]:
    """Content and entity tag. Raises NotFound."""
    path = PurePosixPath(name)
    if ".." in path.parts or path.is_absolute() or path.suffix not in _TYPES:
        raise NotFound("there is no such file")
    file = resources.files("pacs.web").joinpath("static", "ui", *path.parts)
    if not file.is_file():
        raise NotFound("there is no such file")
    body = file.read_bytes()
    return body, single.etag_of(hashlib.sha256(body).hexdigest())
