"""Errors as HTTP: the one place that decides a status, and a STOW-RS failure reason.

Bodies are RFC 9457 problem details. What was not foreseen is logged with its trace and told to the client without one.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

import orjson
from aiohttp import web

from pacs.errors import (
    Cancelled,
    ClassMismatch,
    Conflict,
    Corrupt,
    Forbidden,
    Gone,
    Invalid,
    InvalidValue,
    MissingAttribute,
    MissingValue,
    NotAcceptable,
    NotFound,
    NotStorable,
    OutOfResources,
    PacsError,
    PeerFailed,
    Rejected,
    StudyMismatch,
    TooLarge,
    TooOften,
    Unauthorized,
    Unchangeable,
    Undecodable,
    Unreadable,
)
from pacs.services import ups_outcomes as ups
from pacs.services.ups_outcomes import Caveat

log = logging.getLogger(__name__)

RETRY_AFTER_S = 30

# Most derived kinds first: the first that fits decides.
_STATUS: tuple[tuple[type[PacsError], HTTPStatus], ...] = (
    (Invalid, HTTPStatus.BAD_REQUEST),
    (Gone, HTTPStatus.GONE),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (TooOften, HTTPStatus.TOO_MANY_REQUESTS),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (NotAcceptable, HTTPStatus.NOT_ACCEPTABLE),
    (Undecodable, HTTPStatus.NOT_ACCEPTABLE),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (OutOfResources, HTTPStatus.SERVICE_UNAVAILABLE),
    (Cancelled, HTTPStatus.SERVICE_UNAVAILABLE),
    (Rejected, HTTPStatus.CONFLICT),
    (Unchangeable, HTTPStatus.CONFLICT),
    (Corrupt, HTTPStatus.INTERNAL_SERVER_ERROR),
    (PeerFailed, HTTPStatus.BAD_GATEWAY),
    # PS3.18 11.6.3.1, 11.7.3.1, 11.8.3.1
    (ups.StepFinalUpdate, HTTPStatus.BAD_REQUEST),
    (ups.WrongTransaction, HTTPStatus.BAD_REQUEST),
    (ups.StepRefused, HTTPStatus.CONFLICT),
)
# What Warning headers say of Unified Procedure Steps (PS3.18 11.4.3.2, 11.6.3.2, 11.7.3.2).
CAVEATS = {
    Caveat.CREATED_OTHERWISE: "The Workitem was created with modifications.",
    Caveat.UPDATED_OTHERWISE: "The Workitem was updated with modifications.",
    Caveat.ALREADY_CANCELED: "The UPS is already in the requested state of CANCELED.",
    Caveat.ALREADY_COMPLETED: "The UPS is already in the requested state of COMPLETED.",
}

# Failure Reason (0008,1197): PS3.18 Table I.2-2, PS3.7 Annex C.
_FAILURE_REASON: tuple[tuple[type[PacsError], int], ...] = (
    (StudyMismatch, 0xA901),
    (ClassMismatch, 0xA900),
    (Conflict, 0x0111),
    (NotStorable, 0x0122),
    (MissingAttribute, 0x0120),
    (MissingValue, 0x0121),
    (InvalidValue, 0x0106),
    (Unreadable, 0xC000),
    (OutOfResources, 0xA700),
    (TooLarge, 0xA700),
)
_PROCESSING_FAILURE = 0x0110


class Answered(Exception):
    """Carries an answer that no PacsError stands for up to where answers are sent."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.reason)
        self.response = response


def status_of(error: PacsError) -> HTTPStatus:
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def warning_of(error: ups.StepRefused) -> str:
    """The Warning header that goes with a refusal of a Unified Procedure Step."""
    if isinstance(error, ups.WrongTransaction):
        return f"The Transaction UID is {'missing' if error.is_missing else 'incorrect'}."
    if isinstance(error, ups.StepUnclaimed) and error.is_update:
        return "The target URI did not reference a claimed Workitem."
    return "The submitted request is inconsistent with the state of the UPS Instance."


def failure_reason(error: PacsError) -> int:
    """Value of Failure Reason (0008,1197) for one instance of a STOW-RS request."""
    for kind, reason in _FAILURE_REASON:
        if isinstance(error, kind):
            return reason
    return _PROCESSING_FAILURE


def of_error(error: PacsError) -> web.Response:
    """The answer to a request that ended in ``error``."""
    status = status_of(error)
    members: dict[str, object] = {}
    headers: dict[str, str] = {}
    if isinstance(error, Invalid) and error.subject:
        members["parameter"] = error.subject
    if isinstance(error, NotAcceptable) and error.available:
        members["available"] = list(error.available)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, TooOften):
        headers["Retry-After"] = str(error.retry_after_s)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed: %s", error, exc_info=error)
    return problem(status, str(error), headers, **members)


def of_http_exception(error: web.HTTPException) -> web.Response:
    """What the router says (404, 405 …) in the same form; Allow and Location stay."""
    headers = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    return problem(HTTPStatus(error.status), error.reason, headers)


def of_bug(error: Exception) -> web.Response:
    """Nothing foreseen: the log has the trace, the client has not."""
    log.error("unexpected %s", type(error).__name__, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "An unexpected error happened; the server's log says more.")


def problem(status: HTTPStatus, detail: str, headers: dict[str, str] | None = None, **members: object) -> web.Response:
    """An ``application/problem+json`` answer (RFC 9457)."""
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, **members}
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/problem+json", headers=headers
    )
