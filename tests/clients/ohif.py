"""OHIF as its users run it: the built viewer from npm, served from an origin of its own, pointed at an archive."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.clients import npm

DIST = npm.MODULES / "@ohif" / "app" / "dist"


class Ohif:
    """The viewer's static files on a free port; ``configure`` says which archive it shows."""

    def __init__(self) -> None:
        self.config = ""
        self._server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def configure(self, dicomweb_url: str, **settings: Any) -> None:
        """settings: over what OHIF's documentation recommends for a DICOMweb server that can do everything."""
        source = {
            "friendlyName": "the archive under test",
            "name": "archive",
            "qidoRoot": dicomweb_url,
            "wadoRoot": dicomweb_url,
            "qidoSupportsIncludeField": True,
            "supportsFuzzyMatching": True,
            "supportsWildcard": True,
            "imageRendering": "wadors",
            "thumbnailRendering": "thumbnail",
            "enableStudyLazyLoad": True,
            "dicomUploadEnabled": True,
            "singlepart": "bulkdata,pdf,video",
            "bulkDataURI": {"enabled": True},
            **settings,
        }
        config = {
            "routerBasename": None,
            "extensions": [],
            "modes": [],
            "customizationService": {},
            "showStudyList": True,
            "maxNumberOfWebWorkers": 2,
            "showWarningMessageForCrossOrigin": False,
            "showCPUFallbackMessage": False,
            "investigationalUseDialog": {"option": "never"},
            "defaultDataSourceName": "archive",
            "dataSources": [
                {
                    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                    "sourceName": "archive",
                    "configuration": source,
                }
            ],
        }
        self.config = f"window.config = {json.dumps(config, indent=1)};\n"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: a browser that is closed resets its connections."""


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, ohif: Ohif, *args: Any) -> None:
        self._ohif = ohif
        super().__init__(*args, directory=str(DIST))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/app-config.js":
            body = self._ohif.config.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if not (DIST / path.lstrip("/")).is_file():
            self.path = "/index.html"  # the viewer's own routes, such as /viewer
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: Chromium's own record of its requests is what the tests look at."""
