"""nginx in front of an archive, as hospitals have it: the viewer's files and the archive under one origin."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.peers import free_port
from tests.clients import npm

DIST = npm.MODULES / "@ohif" / "app" / "dist"
_START_TIMEOUT_S = 10.0


class Front:
    """Serves OHIF, set up for the archive that it passes ``/dicom-web`` on to. A context manager."""

    def __init__(self, folder: Path, archive_port: int) -> None:
        self._folder = folder
        self._archive_port = archive_port
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "app-config.js").write_text(_viewer_settings(f"{self.url}/dicom-web"))
        configuration = self._folder / "nginx.conf"
        configuration.write_text(self._nginx())
        with (self._folder / "nginx.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(nginx()), "-p", str(self._folder), "-e", "stderr", "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"nginx did not start:\n{(self._folder / 'nginx.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()

    def _nginx(self) -> str:
        # Started as root it would read the viewer's files as somebody who may not be allowed to.
        user = "user root;\n" if os.geteuid() == 0 else ""
        temporary = "\n".join(
            f"    {kind}_temp_path {self._folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""{user}daemon off;
pid {self._folder}/nginx.pid;
worker_processes 1;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
{temporary}
    types {{ text/html html; text/javascript js; text/css css; application/wasm wasm; application/json json;
             image/svg+xml svg; image/png png; font/woff2 woff2; }}
    access_log off;
    sendfile on;
    tcp_nodelay on;
    upstream archive {{ server 127.0.0.1:{self._archive_port}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{self._port};
        location = /app-config.js {{ root {self._folder}; }}
        location / {{ root {DIST}; try_files $uri /index.html; }}
        location /dicom-web/ {{
            proxy_pass http://archive;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


def nginx() -> Path | None:
    found = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or shutil.which("nginx")
    return Path(found) if found else None


def _viewer_settings(dicomweb_url: str) -> str:
    """What OHIF's documentation has for any DICOMweb server; requests at once as in its own default."""
    source = {
        "friendlyName": "archive",
        "name": "archive",
        "qidoRoot": dicomweb_url,
        "wadoRoot": dicomweb_url,
        "qidoSupportsIncludeField": True,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "singlepart": "bulkdata,video,pdf",
        "bulkDataURI": {"enabled": True},
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
        "maxNumRequests": {"interaction": 100, "thumbnail": 5, "prefetch": 25},
        "studyPrefetcher": {"enabled": True, "displaySetsCount": 1, "maxNumPrefetchRequests": 25, "order": "downward"},
        "defaultDataSourceName": "archive",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "archive",
                "configuration": source,
            }
        ],
    }
    return f"window.config = {json.dumps(config, indent=1)};\n"
