"""What this server can do, for machines (PS3.18 8.9): WADL, or JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import orjson
from aiohttp import web

from pacs import __version__
from pacs.dicom import transfer_syntax as syntaxes
from pacs.imaging.options import MEDIA_TYPES
from pacs.imaging.transcode import TARGETS
from pacs.web.links import Links
from pacs.web.negotiate import Offer, accepted, choose
from pacs.web.operations import JSON, WADL, Operation

_OFFERS = (Offer(WADL), Offer(JSON))
_NAMES = re.compile(r"\{(\w+)\}")
_ATTRIBUTES = "{attributeID}"


class Capabilities:
    """offered: the routes that there are; limits: by name, of one request."""

    def __init__(self, offered: Sequence[Operation], links: Links, limits: Mapping[str, int | None]) -> None:
        self._offered = offered
        self._links = links
        self._limits = dict(limits)

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root, which is "" itself."""
        return [web.options("", self.get), web.get("/capabilities", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        media_type = choose(ranges, _OFFERS, client_order=True).media_type
        base = self._links.base(request)
        body = self._wadl(base) if media_type == WADL else self._json(base)
        headers = {"Vary": "Accept"}
        if request.method == "OPTIONS":
            headers["Allow"] = "GET, HEAD, OPTIONS"
        return web.Response(body=body, content_type=media_type, headers=headers)

    def _json(self, base: str) -> bytes:
        resources: dict[str, list[dict[str, Any]]] = {}
        for operation in self._offered:
            if not operation.is_outside:
                resources.setdefault(operation.path or "/", []).append(
                    {
                        "method": operation.method,
                        "id": operation.name,
                        "service": operation.group,
                        "clause": operation.clause,
                        "query": list(operation.query),
                        "accepts": list(operation.bodies),
                        "answers": {str(status): list(types) for status, types in operation.answers.items()},
                    }
                )
        return orjson.dumps(
            {
                "base": base,
                "software": f"raccoon-pacs {__version__}",
                "openapi": f"{base}/openapi.json",
                "limits": self._limits,
                "storedTransferSyntaxes": [{"uid": syntax.uid, "name": syntax.name} for syntax in syntaxes.ALL],
                "madeTransferSyntaxes": list(TARGETS),
                "renderedMediaTypes": list(MEDIA_TYPES),
                "resources": [{"path": path, "methods": methods} for path, methods in resources.items()],
            },
            option=orjson.OPT_INDENT_2,
        )

    def _wadl(self, base: str) -> bytes:
        """Web Application Description Language, W3C Member Submission 31 August 2009."""
        by_path: dict[str, list[Operation]] = {}
        for operation in self._offered:
            if not operation.is_outside:
                by_path.setdefault(operation.path.lstrip("/"), []).append(operation)
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<application xmlns="http://wadl.dev.java.net/2009/02" xmlns:xsd="http://www.w3.org/2001/XMLSchema">',
            f"<resources base={quoteattr(base + '/')}>",
        ]
        for path, methods in by_path.items():
            lines.append(f"<resource path={quoteattr(path)}>")
            lines += [
                f'<param name={quoteattr(name)} style="template" type="xsd:string" required="true"/>'
                for name in _NAMES.findall(path)
            ]
            for operation in methods:
                lines += _method(operation)
            lines.append("</resource>")
        lines += ["</resources>", "</application>", ""]
        return "\n".join(lines).encode()


def _method(operation: Operation) -> list[str]:
    lines = [f"<method name={quoteattr(operation.method)} id={quoteattr(operation.name)}>"]
    lines.append(f"<doc>{escape(operation.summary)}{f' (PS3.18 {operation.clause})' if operation.clause else ''}</doc>")
    lines.append("<request>")
    if any(types for status, types in operation.answers.items() if status < 300):
        lines.append('<param name="Accept" style="header"/>')
    for name in operation.query:
        if name == "attributes":
            lines.append(f'<param name={quoteattr(_ATTRIBUTES)} style="query" repeating="true"/>')
        else:
            required = ' required="true"' if operation.parameter(name).required else ""
            lines.append(f'<param name={quoteattr(name)} style="query"{required}/>')
    lines += [f"<representation mediaType={quoteattr(body)}/>" for body in operation.bodies]
    lines.append("</request>")
    for status, types in sorted(operation.answers.items()):
        lines.append(f'<response status="{status}">')
        lines += [f"<representation mediaType={quoteattr(name)}/>" for name in types]
        lines.append("</response>")
    lines.append("</method>")
    return lines
