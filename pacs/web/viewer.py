"""The full viewer (OHIF) at ``/viewer/``, from the folder that ``pacs viewer install`` filled.

Every address in it is relative, or found out in the browser, so that it works below any prefix of a proxy. It is looked
for at each request: a server that runs need not be told that the viewer was installed, or removed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from aiohttp import web

from pacs.errors import NotFound
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.operations import HTML, PROBLEM, Operation, Parameter

PATH = "viewer/"
_INDEX = "index.html"
_CONFIG = "app-config.js"
_TYPES = {
    ".css": "text/css",
    ".gif": "image/gif",
    ".html": HTML,
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}
# Its decoders are WebAssembly with glue that is compiled in the browser ('unsafe-eval'), its elements carry styles.
# Nothing is loaded from elsewhere. Not isolated from other origins (COOP, COEP): it shares no memory between threads,
# and a PDF that it embeds would be kept out.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; media-src 'self' blob:; "
    "worker-src 'self' blob:; frame-src 'self' blob:; object-src 'self' blob:; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
# A name with a digest of the content in it is never used for another content.
_DIGEST = re.compile(r"(?:^|\.)[0-9a-f]{16}\.")
_FOR_EVER = "public, max-age=31536000, immutable"
_FILE = Parameter(
    "file",
    "path",
    "Name of a file of the viewer, or a route of its own",
    {"type": "string"},
    "viewer",
    required=True,
)
_ANSWERS: dict[int, tuple[str, ...]] = {
    200: tuple(dict.fromkeys(_TYPES.values())),
    **dict.fromkeys((206, 303, 304, 416), ()),
    404: (PROBLEM,),
}
OPERATIONS = (
    Operation(
        *(
            "GET",
            "/viewer",
            "enterViewer",
            "Server",
            "To the full viewer",
            "",
            {303: ()},
        ),
        is_outside=True,
        is_public=True,
    ),
    Operation(
        *(
            "GET",
            "/viewer/{file}",
            "getViewerFile",
            "Server",
            "The full viewer (OHIF)",
            "",
            _ANSWERS,
        ),
        own=(_FILE,),
        is_outside=True,
        is_public=True,
    ),
)


class Viewer:
    """Paths from the server's root. may_read: whether a caller may see images; others are sent to log in."""

    def __init__(
        self,
        folder: Path,
        bridge: Bridge,
        links: Links,
        may_read: Callable[[web.Request], Awaitable[bool]] | None = None,
    ) -> None:
        self._folder = folder
        self._bridge = bridge
        self._may_read = may_read
        self._config = _config(links.api_path.strip("/"))

    @property
    def is_installed(self) -> bool:
        return (self._folder / _INDEX).is_file()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/viewer", self.enter), web.get("/viewer/{file:.*}", self.file)]

    async def enter(self, request: web.Request) -> web.Response:
        return web.Response(status=303, headers={"Location": PATH, "Cache-Control": "no-cache"})

    async def file(self, request: web.Request) -> web.StreamResponse:
        """A file; the viewer's page for all routes of its own. Raises NotFound."""
        name = request.match_info["file"]
        if name == _CONFIG:
            return _text(request, self._config, "text/javascript")
        path, is_route = await self._bridge.run(self._found, name)
        if is_route:
            if self._may_read is not None and not await self._may_read(request):
                return _to_login(request, name)
            text = await self._bridge.run(path.read_text, "utf-8")
            return _text(request, _below(text, name.count("/")), HTML)
        kept = _FOR_EVER if _DIGEST.search(path.name) else "no-cache"
        headers = {
            **_HEADERS,
            "Content-Type": _TYPES[path.suffix],
            "Cache-Control": kept,
            "Vary": "Accept-Encoding",
        }
        # It sends what was compressed beforehand (NAME.gz) to those who take it, and knows ranges and validators.
        return web.FileResponse(path, headers=headers)

    def _found(self, name: str) -> tuple[Path, bool]:
        """A file to send, and whether the name is a route of the viewer's, whose page it is then. Raises NotFound."""
        index = self._folder / _INDEX
        if not index.is_file():
            raise NotFound("the full viewer is not installed here: pacs viewer install")
        parts = PurePosixPath(name).parts
        is_plain = not any(
            part in ("..", "/") or part.startswith(".") or "\\" in part or "\0" in part for part in parts
        )
        suffix = PurePosixPath(name).suffix
        if is_plain and name != _INDEX and suffix in _TYPES:
            path = self._folder.joinpath(*parts)
            if path.is_file() and path.resolve().is_relative_to(self._folder.resolve()):
                return path, False
        if not is_plain or (suffix and name != _INDEX):
            raise NotFound("the viewer has no such file")
        return index, True


def _below(page: str, depth: int) -> str:
    """The viewer's page with addresses that lead to its folder from a route so many folders deep."""
    return page.replace('="/', f'="{"../" * depth or "./"}')


def _to_login(request: web.Request, name: str) -> web.Response:
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    after = quote(f"{PATH}{name}{query}", safe="")
    location = f"{'../' * (1 + name.count('/'))}#/login?next={after}"
    return web.Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})


def _text(request: web.Request, text: str, media_type: str) -> web.Response:
    body = text.encode()
    etag = single.etag_of(hashlib.sha256(body).hexdigest())
    headers = {**_HEADERS, "ETag": etag, "Cache-Control": "no-cache"}
    unchanged = single.not_modified(request, etag, headers)
    return unchanged or web.Response(body=body, content_type=media_type, charset="utf-8", headers=headers)


def _config(api: str) -> str:
    """OHIF's configuration for this server, a script that runs before it. api: path of the DICOMweb root."""
    source = {
        "friendlyName": "DICOM archive",
        "name": "archive",
        "qidoSupportsIncludeField": True,
        "supportsFuzzyMatching": True,
        "supportsWildcard": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "thumbnail",
        "enableStudyLazyLoad": True,
        # The archive's own page takes files in better: in parallel, with a result for each, and ZIP files.
        "dicomUploadEnabled": False,
        "singlepart": "bulkdata,pdf,video",
        "bulkDataURI": {"enabled": True},
    }
    config = {
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 3,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": True,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "archive",
    }
    return _SCRIPT % (
        json.dumps(f"../{api}" if api else ".."),
        json.dumps(source),
        json.dumps(config),
    )


_SCRIPT = """\
{
  const here = new URL(".", document.currentScript.src);
  const api = new URL(%s, here).href.replace(/\\/$/, "");
  const source = { ...%s, qidoRoot: api, wadoRoot: api };
  window.PUBLIC_URL = here.pathname;
  window.browserImportFunction = (name) => import(name);
  window.config = {
    ...%s,
    routerBasename: here.pathname.replace(/\\/$/, ""),
    dataSources: [{
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
      sourceName: "archive",
      configuration: source,
    }],
    httpErrorHandler: (error) => {
      if (error.status !== 401) return;
      const next = encodeURIComponent(`viewer/${location.href.slice(here.href.length)}`);
      location.assign(new URL(`../#/login?next=${next}`, here));
    },
  };
  // What changes something, such as a report of measurements, carries the session's token against forged requests.
  const { open, send } = XMLHttpRequest.prototype;
  let token;
  XMLHttpRequest.prototype.open = function (method, ...rest) {
    this.changes = !["GET", "HEAD", "OPTIONS"].includes(method.toUpperCase());
    return open.call(this, method, ...rest);
  };
  XMLHttpRequest.prototype.send = function (body) {
    if (!this.changes) return send.call(this, body);
    token ??= fetch(`${api}/session`).then((answer) => answer.json()).then((session) => session.csrf, () => "");
    token.then((text) => {
      if (text && this.readyState === XMLHttpRequest.OPENED) this.setRequestHeader("X-Pacs-Csrf", text);
      send.call(this, body);
    });
  };
}
"""
