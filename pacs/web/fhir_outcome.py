"""Errors of the FHIR resources: problems as OperationOutcome (http://hl7.org/fhir/R4/operationoutcome.html)."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from aiohttp import web
from multidict import CIMultiDict

from pacs.web.operations import PROBLEM

FHIR_JSON = "application/fhir+json"
_CODES = {
    HTTPStatus.BAD_REQUEST: "invalid",
    HTTPStatus.UNAUTHORIZED: "login",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.REQUEST_TIMEOUT: "timeout",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.GONE: "deleted",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too-long",
    HTTPStatus.TOO_MANY_REQUESTS: "throttled",
    HTTPStatus.SERVICE_UNAVAILABLE: "transient",
    HTTPStatus.INTERNAL_SERVER_ERROR: "exception",
}


def of_problem(response: web.StreamResponse) -> web.StreamResponse:
    """The same answer in FHIR's form; anything but a problem passes through."""
    if not isinstance(response, web.Response) or response.content_type != PROBLEM:
        return response
    assert isinstance(response.body, bytes)
    problem = orjson.loads(response.body)
    code = _CODES.get(HTTPStatus(response.status), "not-supported")
    kept = ((name, value) for name, value in response.headers.items() if not name.startswith("Content-"))
    headers = CIMultiDict(kept)  # a header may be there twice
    body = orjson.dumps(outcome("error", code, str(problem["detail"]), str(problem.get("parameter", ""))))
    return web.Response(status=response.status, body=body, content_type=FHIR_JSON, headers=headers)


def outcome(severity: str, code: str, detail: str, parameter: str = "") -> dict[str, object]:
    issue: dict[str, object] = {"severity": severity, "code": code, "diagnostics": detail}
    if parameter:
        issue["expression"] = [f"http.{parameter}"]
    return {"resourceType": "OperationOutcome", "issue": [issue]}
