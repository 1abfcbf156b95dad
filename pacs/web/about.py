"""What this software is and does: the conformance statement, and the packages that it is made with."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import orjson
from aiohttp import web

from pacs import __version__
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.negotiate import Offer, accepted, choose
from pacs.web.operations import HTML, JSON, PROBLEM, Operation

_DISTRIBUTION = "raccoon-pacs"
MARKDOWN = "text/markdown"
_FORMS = {MARKDOWN: "markdown", HTML: "html"}
_GROUP = "Server"
OPERATIONS = (
    Operation(
        *(
            "GET",
            "/conformance",
            "getConformance",
            _GROUP,
            "The DICOM Conformance Statement",
            "",
        ),
        {200: (HTML, MARKDOWN), 406: (PROBLEM,)},
        ("accept",),
    ),
    Operation(
        *(
            "GET",
            "/about",
            "getAbout",
            _GROUP,
            "Version, licence, and packages in use",
            "",
            {200: (JSON,)},
        )
    ),
)
# The statement's own style sheet is part of it; nothing else is loaded, and no script runs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"


def addition(statement: Callable[[str], str]) -> Addition:
    """statement: makes the text, as markdown or html."""
    return Addition(OPERATIONS, lambda bridge, links: About(statement, bridge).routes())


class About:
    def __init__(self, statement: Callable[[str], str], bridge: Bridge) -> None:
        self._statement = statement
        self._bridge = bridge
        self._made: dict[str, str] = {}
        self._packages: Mapping[str, Any] | None = None
        self._turn = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/conformance", self.conformance),
            web.get("/about", self.about),
        ]

    async def conformance(self, request: web.Request) -> web.Response:
        """As HTML for browsers, else as Markdown: as the settings were when the server started."""
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        media_type = choose(ranges, [Offer(MARKDOWN), Offer(HTML)], client_order=True).media_type
        async with self._turn:
            if media_type not in self._made:
                self._made[media_type] = await self._bridge.run(self._statement, _FORMS[media_type])
        headers = {
            "Vary": "Accept",
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(
            text=self._made[media_type],
            content_type=media_type,
            charset="utf-8",
            headers=headers,
        )

    async def about(self, request: web.Request) -> web.Response:
        async with self._turn:
            if self._packages is None:
                self._packages = await self._bridge.run(_about)
        return web.Response(
            body=orjson.dumps(self._packages),
            content_type=JSON,
            headers={"Cache-Control": "no-cache"},
        )


def _about() -> dict[str, Any]:
    """packages: all that are installed beside this one, by name."""
    found = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name and name.casefold() != _DISTRIBUTION:
            found[name.casefold()] = {
                "name": name,
                "version": distribution.version,
                "licence": _licence(distribution.metadata),
            }
    return {
        "version": __version__,
        "python": platform.python_version(),
        "licence": "MIT",
        "packages": [found[name] for name in sorted(found)],
    }


def _licence(about: metadata.PackageMetadata) -> str:
    """An SPDX expression where there is one; else what the classifiers, or a short field, say."""
    values = about.json
    if values.get("license_expression"):
        return str(values["license_expression"])
    classifiers = values.get("classifier", [])
    listed = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License :: ")]
    if listed:
        return ", ".join(listed)
    field = str(values.get("license", "")).strip()
    return field if len(field) <= 60 and "\n" not in field else ""
