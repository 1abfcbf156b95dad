"""UPS-RS: workitems (PS3.18 11.4 to 11.9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from urllib.parse import quote

from aiohttp import web

from pacs.dicom import keys as query_keys
from pacs.dicom.json_model import dumps
from pacs.dicom.model import Attributes, Caller
from pacs.dicom.uids import is_possible, new_uid
from pacs.dicom.xml_model import to_xml
from pacs.errors import Invalid
from pacs.services import ups_attributes as names
from pacs.services.ups import ProcedureSteps
from pacs.services.ups_attributes import value_of
from pacs.services.ups_outcomes import Caveat, StepRefused
from pacs.web import problem
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.multipart import Writer
from pacs.web.negotiate import DICOM_JSON, DICOM_XML, Offer, accepted, choose
from pacs.web.one_data_set import read_data_set
from pacs.web.searching import DataSetSearch, answer_search, listed, parse_search
from pacs.web.target import uid_of
from pacs.web.warning import warnings

_OFFERS = (Offer(DICOM_JSON), Offer("application/json"), Offer(DICOM_XML, multipart=True), Offer(DICOM_XML))
_CHARACTER_SET = {"vr": "CS", "Value": ["ISO_IR 192"]}
_NOBODY = "ANONYMOUS"  # Requesting AE has to have a value
_ELSEWHERE: Attributes = {}
_STANDARD = frozenset({"accept", "charset"})


class Workitems:
    """default_limit, max_limit: workitems a page when no limit is asked, and at most."""

    def __init__(
        self, steps: ProcedureSteps, bridge: Bridge, links: Links, *, default_limit: int, max_limit: int
    ) -> None:
        self._steps = steps
        self._bridge = bridge
        self._links = links
        self._limits = default_limit, max_limit

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root. The AE title of the requester is that of editions before 2020."""
        one = "/workitems/{workitem}"
        return [
            web.get("/workitems", self.search),
            web.post("/workitems", self.create),
            web.get(one, self.retrieve),
            web.post(one, self.update),
            web.put(f"{one}/state", self.change_state),
            web.put(f"{one}/state/{{aetitle}}", self.change_state),
            web.post(f"{one}/cancelrequest", self.request_cancel),
            web.post(f"{one}/cancelrequest/{{aetitle}}", self.request_cancel),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """201 with Location; 400 for attributes that break the rules, 409 when it is there already (11.4)."""
        attributes = await read_data_set(request, is_answered=False)
        uid = _parameter(request, "workitem", "uid") or value_of(attributes, names.SOP_UID) or new_uid()
        if not is_possible(uid):
            raise Invalid("The UID of the workitem is none", "workitem")
        caveat = await self._bridge.run(self._steps.create, uid, attributes, self._links.caller(request))
        location = f"{self._links.base(request)}/workitems/{quote(uid, safe='')}"
        return self._done(request, caveat, HTTPStatus.CREATED, location)

    async def retrieve(self, request: web.Request) -> web.Response:
        """Without the Transaction UID (11.5)."""
        offer = choose(accepted(request.headers.getall("Accept", []), request.query.getall("accept", [])), _OFFERS)
        found = await self._bridge.run(self._steps.retrieve, _workitem(request), self._links.caller(request))
        attributes = {names.CHARACTER_SET: _CHARACTER_SET, **found}
        content_type, body = offer.media_type, b"[" + dumps(attributes) + b"]"
        if offer.media_type == DICOM_XML:
            body = to_xml(attributes)
        if offer.multipart:
            writer = Writer()
            content_type, body = writer.content_type(DICOM_XML), writer.part(DICOM_XML) + body + writer.end()
        headers = {"Content-Type": content_type, "Vary": "Accept", "Cache-Control": "no-store"}
        return web.Response(body=body, headers=headers)

    async def update(self, request: web.Request) -> web.Response:
        """The Transaction UID in the URL, or in the data set as over DIMSE (11.6)."""
        attributes = await read_data_set(request, is_answered=False)
        transaction = _parameter(request, "transaction-uid", "transactionUID", "transaction")
        transaction = transaction or value_of(attributes, names.TRANSACTION_UID)
        caller = self._links.caller(request)
        change = partial(self._steps.update, _workitem(request), attributes, transaction, caller)
        return await self._answer(request, change)

    async def change_state(self, request: web.Request) -> web.Response:
        """11.7."""
        attributes = await read_data_set(request, is_answered=False)
        state, transaction = value_of(attributes, names.STATE), value_of(attributes, names.TRANSACTION_UID)
        caller = self._links.caller(request)
        change = partial(self._steps.change_state, _workitem(request), state, transaction, caller)
        return await self._answer(request, change)

    async def request_cancel(self, request: web.Request) -> web.Response:
        """202: the performer is told, and may go on all the same (11.8)."""
        attributes = await read_data_set(request, is_answered=False) if request.body_exists else {}
        requester = ae_title_of(request) if "aetitle" in request.match_info else _NOBODY
        caller = self._links.caller(request)
        change = partial(self._steps.request_cancel, _workitem(request), requester, attributes, caller)
        return await self._answer(request, change, HTTPStatus.ACCEPTED)

    async def search(self, request: web.Request) -> web.Response:
        """200, 206 when there are more than these, or 204 for none (11.9)."""
        search = self._parse(request)
        found = await self._bridge.run(self._find, search, self._links.caller(request))
        response = await self._bridge.run(answer_search, request, self._links, search, found)
        if response.status == HTTPStatus.OK and "Link" in response.headers:
            response.set_status(HTTPStatus.PARTIAL_CONTENT)
        return response

    def _find(self, search: DataSetSearch, caller: Caller) -> list[Attributes]:
        """All that match; those that are not on the page stand for themselves, without attributes."""
        page = range(search.offset, search.offset + search.limit)
        return [
            attributes if number in page else _ELSEWHERE
            for number, attributes in enumerate(self._steps.search(search.keys, caller))
        ]

    def _parse(self, request: web.Request) -> DataSetSearch:
        default_limit, max_limit = self._limits
        asked = request.query
        search = parse_search(asked, default_limit=default_limit, max_limit=max_limit, always=names.RETURNED)
        fields = listed(asked, "includefield")
        if any(name.lower() == "all" for name in fields):
            return replace(search, returned=None)
        returned = set(names.RETURNED | names.RETURNED_IF_PRESENT)
        for name in (*fields, *asked):
            try:
                returned.add(query_keys.resolve(name)[0])
            except Invalid:
                continue
        return replace(search, returned=frozenset(returned))

    async def _answer(
        self, request: web.Request, change: Callable[[], Caveat | None], status: HTTPStatus = HTTPStatus.OK
    ) -> web.Response:
        try:
            return self._done(request, await self._bridge.run(change), status)
        except StepRefused as error:
            response = problem.of_error(error)
            response.headers.extend(warnings(self._links.base(request), [problem.warning_of(error)]))
            return response

    def _done(
        self, request: web.Request, caveat: Caveat | None, status: HTTPStatus, location: str = ""
    ) -> web.Response:
        response = web.Response(status=status, headers={"Location": location} if location else None)
        if caveat is not None:
            response.headers.extend(warnings(self._links.base(request), [problem.CAVEATS[caveat]]))
        return response


def ae_title_of(request: web.Request) -> str:
    """The AE title of the path. Raises Invalid."""
    title = request.match_info["aetitle"].strip()
    if not 0 < len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise Invalid("The AE title in the path is none: 1 to 16 printable ASCII characters", "aetitle")
    return title


def _workitem(request: web.Request) -> str:
    return uid_of(request, "workitem") or ""


def _parameter(request: web.Request, *known: str) -> str:
    """A UID in the query: by name, or by itself as the standard's templates write it (``?1.2.3``)."""
    for name in known:
        if request.query.get(name):
            return request.query[name].strip()
    alone = [name for name, value in request.query.items() if not value and name not in _STANDARD]
    return alone[0].strip() if alone else ""
