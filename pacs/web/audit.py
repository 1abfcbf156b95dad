"""``GET /audit``: the youngest messages of the audit trail, for administrators."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from pacs.dicom.model import Role
from pacs.errors import Forbidden, Invalid, NotFound
from pacs.services.accesses import Access, Action, Hear
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter

_DEFAULT_LIMIT, _MAX_LIMIT = 100, 1000
_TEXT = {"type": "string", "maxLength": 200}
_OWN = (
    Parameter("event", "query", "Event code or meaning (PS3.16 CID 400)", _TEXT, "110112"),
    Parameter("user", "query", "AE title or account that took part", _TEXT, "CT1"),
    Parameter("study", "query", "Study Instance UID", _TEXT, "1.2.826.0.1.3680043.8.498.1"),
    Parameter("patient", "query", "Patient ID", _TEXT, "EXAMPLE-1"),
    Parameter("since", "query", "Not before: ISO 8601 in UTC, or how it begins", _TEXT, "2026-01-31"),
    Parameter("until", "query", "Not after", _TEXT, "2099-12-31"),
    Parameter("text", "query", "What the message has to hold", _TEXT, "DICOM"),
    Parameter("limit", "query", "Messages at most", {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT}, 10),
)
OPERATIONS = (
    Operation(
        *("GET", "/audit", "readAudit", "Server", "The audit trail, the youngest first", "PS3.15 A.5"),
        {200: (JSON,), 404: (PROBLEM,)},
        tuple(parameter.name for parameter in _OWN),
        own=_OWN,
        needs=Role.ADMIN,
    ),
)

# Values of the query by name, and how many messages; gives them, and whether all were looked at.
Read = Callable[[Mapping[str, str], int], tuple[list[dict[str, Any]], bool]]


def addition(read: Read | None, hear: Hear, *, is_allowed: bool) -> Addition:
    """read: None where no audit file is written. hear: that somebody has read is an event of its own."""

    def routes(bridge: Bridge, links: Links) -> list[web.RouteDef]:
        async def get(request: web.Request) -> web.Response:
            if not is_allowed:
                raise Forbidden("administration over HTTP is switched off here (ADMIN_API)")
            if read is None:
                raise NotFound("no audit file is written here (AUDIT_FILE)")
            names = {parameter.name for parameter in _OWN}
            unknown = [name for name in request.query if name not in names]
            if unknown:
                raise Invalid(f"there is no parameter {unknown[0][:64]}", unknown[0][:64])
            limit = request.query.get("limit", str(_DEFAULT_LIMIT))
            if not re.fullmatch("[0-9]{1,4}", limit) or not 1 <= int(limit) <= _MAX_LIMIT:
                raise Invalid(f"limit is 1 to {_MAX_LIMIT}", "limit")
            wanted = {name: value for name, value in request.query.items() if name != "limit"}
            messages, is_complete = await bridge.run(read, wanted, int(limit))
            asked = " ".join(f"{name}={value}" for name, value in wanted.items())
            hear(Access(Action.AUDIT_READ, links.caller(request), detail=asked))
            return json_response({"messages": messages, "isComplete": is_complete})

        return [web.get("/audit", get)]

    return Addition(OPERATIONS if is_allowed else (), routes)
