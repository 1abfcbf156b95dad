"""The OpenAPI 3.1 document of all routes, and Swagger UI to read it with, both from this process alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import orjson
from aiohttp import web

from pacs import __version__
from pacs.errors import NotFound
from pacs.web import single
from pacs.web.fhir_outcome import FHIR_JSON
from pacs.web.links import Links
from pacs.web.negotiate import DICOM_JSON
from pacs.web.operations import HTML, JSON, PROBLEM, Operation, Parameter

_TYPES = {"css": "text/css", "js": "text/javascript", "txt": "text/plain", "png": "image/png"}
# Plain files of the package besides those.
_PLAIN = frozenset({"LICENSE", "NOTICE"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>DICOM archive: API</title>
<base href="{base}/"><link rel="stylesheet" href="swagger-ui.css"><link rel="icon" href="favicon-32x32.png"></head>
<body><div id="swagger-ui"></div>
<script src="swagger-ui-bundle.js"></script><script src="start.js"></script></body></html>
"""
_START = (
    "window.ui = SwaggerUIBundle({url: '../openapi.json', dom_id: '#swagger-ui', deepLinking: true, "
    "validatorUrl: null});\n"
)
_TAG = re.compile(r"\{(\w+)\}")
# What any request may meet.
_ALWAYS = {400: (PROBLEM,), 401: (PROBLEM,), 403: (PROBLEM,), 500: (PROBLEM,), 503: (PROBLEM,)}
_REASONS = {
    101: "The connection is a WebSocket now",
    200: "As asked",
    201: "Created; Location says where",
    202: "Some were stored, or with warnings; or the request was passed on",
    204: "Nothing to send",
    206: "The range that was asked, or those of several that can be sent as asked",
    303: "Elsewhere: Location",
    304: "The client has this version",
    400: "The request cannot mean anything; parameter names what is wrong",
    401: "Log in; WWW-Authenticate says how",
    403: "Not allowed here; the detail says why",
    404: "Not in the archive",
    406: "Nothing that is accepted can be made; available lists what can",
    408: "The body did not arrive in time",
    409: "None was stored, or the state of what is there does not allow it",
    410: "It has been deleted",
    413: "Over a configured limit",
    415: "No body of this media type is taken",
    416: "The range lies outside",
    429: "Too many tries; Retry-After says when to come again",
    500: "Unforeseen; the server's log says more",
    503: "Busy or out of space: the same request may work later",
}


class OpenApi:
    """offered: the routes that there are."""

    def __init__(self, offered: Sequence[Operation], links: Links) -> None:
        self._offered = offered
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/openapi.json", self.document),
            web.get("/docs", self.docs),
            web.get("/docs/{file}", self.file),
        ]

    async def document(self, request: web.Request) -> web.Response:
        server = self._links.base(request).removesuffix(self._links.api_path)
        made = document_of(self._offered, self._links.api_path, server)
        return web.Response(body=orjson.dumps(made, option=orjson.OPT_INDENT_2), content_type=JSON)

    async def docs(self, request: web.Request) -> web.Response:
        # Relative addresses would differ with and without a slash at the end.
        page = _PAGE.format(base=f"{self._links.base(request)}/docs")
        policy = f"{_POLICY}; base-uri 'self'"
        return web.Response(text=page, content_type=HTML, headers={"Content-Security-Policy": policy})

    async def file(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        data = _START.encode() if name == "start.js" else _static(name)
        etag = single.etag_of(hashlib.sha256(data).hexdigest())
        headers = {"ETag": etag, "Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
        unchanged = single.not_modified(request, etag, headers)
        media_type = _TYPES.get(name.rpartition(".")[2], "text/plain")
        return unchanged or web.Response(body=data, content_type=media_type, headers=headers)


def document_of(offered: Sequence[Operation], api_path: str, server: str) -> dict[str, Any]:
    """The document. api_path: of the DICOMweb root, "" or beginning with a slash; server: URL of the server's root."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in offered:
        path = operation.path if operation.is_outside else f"{api_path}{operation.path}" or "/"
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "raccoon-pacs",
            "version": __version__,
            "summary": "DICOM archive: DICOMweb (PS3.18) and WADO-URI",
            "description": "Clauses are those of DICOM PS3.18. HEAD goes wherever GET does, OPTIONS everywhere.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server or "/"}],
        "tags": [{"name": group} for group in dict.fromkeys(operation.group for operation in offered)],
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    names = [*_TAG.findall(operation.path), *(name for name in operation.query if name != "attributes")]
    parameters = [_parameter(operation.parameter(name)) for name in names]
    if "attributes" in operation.query:
        parameters.append(dict(_ATTRIBUTES))
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.group],
        "responses": {
            str(status): _response(status, types) for status, types in sorted({**_ALWAYS, **operation.answers}.items())
        },
    }
    if operation.clause:
        made["description"] = f"PS3.18 {operation.clause}"
    if parameters:
        made["parameters"] = parameters
    if operation.bodies:
        content = {body: {"schema": {"type": "string", "contentMediaType": body}} for body in operation.bodies}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _parameter(parameter: Parameter) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.required,
        "schema": dict(parameter.schema),
    }
    if parameter.example is not None:
        made["example"] = parameter.example
    return made


def _response(status: int, types: Sequence[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": _REASONS[status]}
    if types:
        made["content"] = {name: {"schema": _schema_of(name)} for name in types}
    return made


def _schema_of(media_type: str) -> dict[str, Any]:
    if media_type == PROBLEM:
        return {"$ref": "#/components/schemas/Problem"}
    if media_type == DICOM_JSON:
        return {"$ref": "#/components/schemas/DicomJson"}
    if media_type == JSON:
        return {}
    if media_type == FHIR_JSON:
        return {"$ref": "#/components/schemas/Resource"}
    return {"type": "string", "contentMediaType": media_type}


def _static(name: str) -> bytes:
    """A vendored file by its name. Raises NotFound."""
    folder = resources.files("pacs.web").joinpath("static", "swagger-ui")
    known = {entry.name for entry in folder.iterdir()}
    if name not in known or not (name in _PLAIN or name.rpartition(".")[2] in _TYPES):
        raise NotFound("There is no such file")
    return folder.joinpath(name).read_bytes()


_ATTRIBUTES: Mapping[str, Any] = {
    "name": "attributes",
    "in": "query",
    "description": "Keys: attributes by keyword, tag or path of both, and the value to match (8.3.4)",
    "required": False,
    "style": "form",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    "example": {"PatientID": "EXAMPLE-1"},
}
_SCHEMAS: Mapping[str, Any] = {
    "Problem": {
        "description": "RFC 9457",
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "parameter": {"type": "string"},
            "available": {"type": "array", "items": {"type": "string"}},
        },
    },
    "Resource": {
        "description": "FHIR R4",
        "type": "object",
        "required": ["resourceType"],
        "properties": {"resourceType": {"type": "string"}},
    },
    "DataSet": {
        "description": "DICOM JSON Model (PS3.18 Annex F)",
        "type": "object",
        "propertyNames": {"pattern": "^[0-9A-F]{8}$"},
        "additionalProperties": {
            "type": "object",
            "required": ["vr"],
            "properties": {
                "vr": {"type": "string", "pattern": "^[A-Z]{2}$"},
                "Value": {"type": "array"},
                "InlineBinary": {"type": "string"},
                "BulkDataURI": {"type": "string"},
            },
            "additionalProperties": False,
        },
    },
    "DicomJson": {
        "anyOf": [
            {"type": "array", "items": {"$ref": "#/components/schemas/DataSet"}},
            {"$ref": "#/components/schemas/DataSet"},
        ]
    },
}
