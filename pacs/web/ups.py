"""UPS-RS as an addition to the web server (PS3.18 11): what it offers, and who serves it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web

from pacs.services.ups import ProcedureSteps
from pacs.services.ups_events import Notifications
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.negotiate import DICOM_JSON, DICOM_XML, MULTIPART
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter
from pacs.web.subscribers import Connections, Subscribers
from pacs.web.workitems import Workitems

EXAMPLE_WORKITEM = "1.2.826.0.1.3680043.8.498.2"

_GROUP = "UPS-RS"
_UID: dict[str, Any] = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$", "minLength": 1, "maxLength": 64}
_FLAG = {"type": "string", "enum": ["true", "false"]}
_WORKITEM = Parameter(
    *("workitem", "path", "UID of a workitem; to subscribe, 1.2.840.10008.5.1.4.34.5 for all", _UID, EXAMPLE_WORKITEM),
    required=True,
)
_AE_TITLE = Parameter(
    *("aetitle", "path", "AE title", {"type": "string", "minLength": 1, "maxLength": 16}, "EXAMPLE"), required=True
)
_NEW_UID = Parameter("uid", "query", "UID of the new workitem; else the body's, else one is made up", _UID, None)
_TRANSACTION = Parameter(
    "transaction-uid", "query", "Transaction UID of the performer; may be in the body instead", _UID, None
)
_LOCK = Parameter("deletionlock", "query", "Workitems stay until the end of the subscription", _FLAG, "false")
_FILTER = Parameter(
    *("filter", "query", "key=value between commas, of a subscription to 1.2.840.10008.5.1.4.34.5.1"),
    {"type": "string"},
    None,
)
_SEARCH = ("limit", "offset", "fuzzymatching", "includefield", "accept", "attributes")
_BODIES = (DICOM_JSON, JSON, DICOM_XML, MULTIPART)
_FORMS = (DICOM_JSON, JSON, MULTIPART)
_NOTHING: tuple[str, ...] = ()
_MISSING = {404: (PROBLEM,)}
_UNTAKEN = {413: (PROBLEM,), 415: (PROBLEM,)}
_FOUND = {200: _FORMS, 204: _NOTHING, 206: _FORMS, 304: _NOTHING, 406: (PROBLEM,)}
_RETRIEVED = {200: (*_FORMS, DICOM_XML), 406: (PROBLEM,), **_MISSING}
_CHANGED = {200: _NOTHING, 409: (PROBLEM,), **_MISSING, **_UNTAKEN}
_PASSED_ON = {202: _NOTHING, 409: (PROBLEM,), **_MISSING, **_UNTAKEN}
_ONE = "/workitems/{workitem}"
_SUBSCRIPTION = f"{_ONE}/subscribers/{{aetitle}}"


def addition(steps: ProcedureSteps, default_limit: int, max_limit: int) -> Addition:
    """default_limit, max_limit: workitems of a search when no limit is asked, and at most."""
    connections = Connections()

    def routes(bridge: Bridge, links: Links) -> list[web.RouteDef]:
        subscribers = Subscribers(steps, Notifications(steps.work), connections, bridge, links)
        workitems = Workitems(steps, bridge, links, default_limit=default_limit, max_limit=max_limit)
        return [*workitems.routes(), *subscribers.routes()]

    return Addition(OPERATIONS, routes, connections.close)


def _operations() -> Iterator[Operation]:
    yield Operation("GET", "/workitems", "searchForWorkitems", _GROUP, "Search", "11.9", _FOUND, _SEARCH)
    yield Operation(
        *("POST", "/workitems", "createWorkitem", _GROUP, "Create", "11.4"),
        {201: _NOTHING, 409: (PROBLEM,), **_UNTAKEN},
        ("uid",),
        _BODIES,
        own=(_NEW_UID,),
    )
    one = (_WORKITEM,)
    yield Operation("GET", _ONE, "retrieveWorkitem", _GROUP, "Retrieve", "11.5", _RETRIEVED, ("accept",), own=one)
    yield Operation(
        *("POST", _ONE, "updateWorkitem", _GROUP, "Update", "11.6", _CHANGED, ("transaction-uid",), _BODIES),
        own=(*one, _TRANSACTION),
    )
    # With the requester's AE title as the first editions have it.
    for suffix, name in (("", ""), ("/{aetitle}", "As")):
        own = (*one, _AE_TITLE)
        yield Operation(
            *("PUT", f"{_ONE}/state{suffix}", f"changeWorkitemState{name}", _GROUP, "Change the state", "11.7"),
            _CHANGED,
            (),
            _BODIES,
            own=own,
        )
        yield Operation(
            *("POST", f"{_ONE}/cancelrequest{suffix}", f"requestCancellation{name}", _GROUP),
            *("Request cancellation", "11.8"),
            _PASSED_ON,
            (),
            _BODIES,
            own=own,
        )
    own = (*one, _AE_TITLE)
    yield Operation(
        *("POST", _SUBSCRIPTION, "subscribe", _GROUP, "Subscribe", "11.10"),
        {201: _NOTHING, **_MISSING},
        ("deletionlock", "filter"),
        own=(*own, _LOCK, _FILTER),
    )
    done = {200: _NOTHING, **_MISSING}
    yield Operation("DELETE", _SUBSCRIPTION, "unsubscribe", _GROUP, "Unsubscribe", "11.11", done, own=own)
    yield Operation(
        "POST", f"{_SUBSCRIPTION}/suspend", "suspendSubscription", _GROUP, "Suspend", "11.12", done, own=own
    )
    yield Operation(
        *("GET", "/subscribers/{aetitle}", "openNotificationConnection", _GROUP),
        *("Events over a WebSocket", "8.10.4"),
        {101: _NOTHING},
        own=(_AE_TITLE,),
    )


OPERATIONS = tuple(_operations())
