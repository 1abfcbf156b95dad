"""Storage commitment that this archive asks of its peers: to be asked for, and what they answered."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from aiohttp import web

from pacs.dicom import uids
from pacs.dicom.model import Role, Target
from pacs.errors import Forbidden, Invalid, NotFound
from pacs.services.commitment_requests import CommitmentRequests, State
from pacs.services.retrieve import Retrieve
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.commitment import TRANSACTION
from pacs.web.links import Links
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter
from pacs.web.target import uid_of

_DEFAULT_LIMIT, _MAX_LIMIT = 100, 1000
_STATES = [state.value for state in State]
_LISTING = (
    Parameter("state", "query", "Only those in a state", {"type": "string", "enum": _STATES}, "failed"),
    Parameter("after", "query", "Transaction UID of the last of the page before", {"type": "string"}, ""),
    Parameter("limit", "query", "At most", {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT}, 10),
)
_GROUP = "Storage commitment"
OPERATIONS = (
    Operation(
        *("GET", "/commitments", "listCommitments", _GROUP, "What peers were asked to commit", "", {200: (JSON,)}),
        tuple(parameter.name for parameter in _LISTING),
        own=_LISTING,
        needs=Role.ADMIN,
    ),
    Operation(
        *("POST", "/commitments", "askCommitment", _GROUP, "Ask a peer to commit what it was sent", ""),
        {202: (JSON,), 404: (PROBLEM,), 410: (PROBLEM,), 413: (PROBLEM,)},
        bodies=(JSON,),
        needs=Role.ADMIN,
    ),
    Operation(
        *("GET", "/commitments/{transaction}", "getCommitment", _GROUP, "One of them", ""),
        {200: (JSON,), 404: (PROBLEM,)},
        own=(TRANSACTION,),
        needs=Role.ADMIN,
    ),
)


def addition(
    asked: CommitmentRequests | None, retrieve: Retrieve, is_known: Callable[[str], bool], wake: Callable[[], None]
) -> Addition:
    """asked: None where this is not allowed, and requests are told so. is_known: whether there is a peer of this name.

    wake: there is somebody to be asked.
    """
    return Addition(
        OPERATIONS if asked is not None else (),
        lambda bridge, links: AskedResources(asked, retrieve, is_known, wake, bridge, links).routes(),
    )


class AskedResources:
    def __init__(
        self,
        asked: CommitmentRequests | None,
        retrieve: Retrieve,
        is_known: Callable[[str], bool],
        wake: Callable[[], None],
        bridge: Bridge,
        links: Links,
    ) -> None:
        self._allowed = asked
        self._retrieve = retrieve
        self._is_known = is_known
        self._wake = wake
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/commitments", self.list),
            web.post("/commitments", self.ask),
            web.get("/commitments/{transaction}", self.get),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """A page, in the order of Transaction UIDs; rounds that others followed are left out unless asked for."""
        asked, query = self._asked(), request.query
        state = query.get("state")
        if state is not None and state not in _STATES:
            raise Invalid(f"state is one of {', '.join(_STATES)}", "state")
        limit = query.get("limit", str(_DEFAULT_LIMIT))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= _MAX_LIMIT):
            raise Invalid(f"limit is 1 to {_MAX_LIMIT}", "limit")
        wanted = {State(state)} if state else set(State) - {State.REPEATED}
        found = await self._bridge.run(asked.page, wanted, query.get("after", ""), int(limit))
        following = found[-1].uid if len(found) == int(limit) else None
        return json_response({"commitments": [each.as_json() for each in found], "next": following})

    async def get(self, request: web.Request) -> web.Response:
        """With all that failed. 404 for a Transaction UID that no peer was asked with."""
        found = await self._bridge.run(self._asked().find, uid_of(request, "transaction") or "")
        if found is None:
            raise NotFound("no peer has been asked with this Transaction UID")
        return json_response(found.as_json(with_failed=True))

    async def ask(self, request: web.Request) -> web.Response:
        """202 with the Transaction UID, when the peer is to be asked. 404 for what is not stored here."""
        asked = self._asked()
        peer, target = _wanted(await request.read())
        if not await self._bridge.run(self._is_known, peer):
            raise Invalid("peer is the AE title of a known peer", "peer")
        instances = await self._bridge.run(self._retrieve.instances, target, self._links.caller(request))
        uid = await self._bridge.run(asked.ask, peer, instances)
        self._wake()
        headers = {"Location": f"{self._links.base(request)}/commitments/{uid}"}
        return json_response({"transaction": uid}, status=202, headers=headers)

    def _asked(self) -> CommitmentRequests:
        if self._allowed is None:
            raise Forbidden("administration over HTTP is switched off here (ADMIN_API)")
        return self._allowed


def _wanted(body: bytes) -> tuple[str, Target]:
    """Of ``{"peer": …, "study": …, "series": …, "instance": …}``, the latter two optional. Raises Invalid."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The request is not JSON: {str(error)[:100]}", "body") from error
    if not isinstance(found, dict) or not isinstance(found.get("peer"), str):
        raise Invalid('The request must be an object with "peer" and "study"', "body")
    named = [found.get(name) for name in ("study", "series", "instance")]
    for name, uid in zip(("study", "series", "instance"), named, strict=True):
        if uid is not None and not (isinstance(uid, str) and uids.is_possible(uid)):
            raise Invalid(f"{name} is not a UID", name)
    study_uid, series_uid, sop_uid = named
    if study_uid is None or (sop_uid is not None and series_uid is None):
        raise Invalid("study is missing, or the series of the instance", "study")
    return found["peer"], Target(study_uid, series_uid, sop_uid)
