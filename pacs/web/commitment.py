"""Storage Commitment Service (PS3.18 13): requests of clients, and their results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from pacs.dicom.json_reader import checked, read_json
from pacs.dicom.model import Attributes, Caller
from pacs.dicom.references import (
    FAILED_SOPS,
    FAILED_STUDIES,
    REFERENCED_SOPS,
    REFERENCED_STUDIES,
    Reference,
    failed_sequence,
    references,
    references_by_study,
    sequence,
    study_sequence,
)
from pacs.dicom.xml_model import from_xml, to_xml
from pacs.errors import Invalid, NotFound, Rejected, TooLarge
from pacs.services.commitment import Commitments, Result, Transaction
from pacs.web import problem
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.negotiate import DICOM_JSON, DICOM_XML, Offer, accepted, choose, parse_media_type
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter
from pacs.web.target import uid_of

LIMIT = 16 << 20  # of a request's body
_PATIENCE_S, _FIRST_LOOK_S = 3.0, 0.05
_RETRY_AFTER_S = 5
_OFFERS = (Offer(DICOM_JSON), Offer(JSON), Offer(DICOM_XML))

TRANSACTION = Parameter(
    "transaction",
    "path",
    "Transaction UID",
    {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$", "minLength": 1, "maxLength": 64},
    None,
    required=True,
)
_PATH = "/commitment-requests/{transaction}"
_ANSWERS: Mapping[int, tuple[str, ...]] = {200: (DICOM_JSON, JSON, DICOM_XML), 202: (), 406: (PROBLEM,)}
OPERATIONS = (
    Operation(
        *("POST", _PATH, "requestCommitment", "Storage commitment", "Request storage commitment", "13.4"),
        {**_ANSWERS, **dict.fromkeys((409, 413, 415), (PROBLEM,))},
        bodies=(DICOM_JSON, DICOM_XML),
        own=(TRANSACTION,),
    ),
    Operation(
        *("GET", _PATH, "checkCommitment", "Storage commitment", "Result of a request", "13.5"),
        {**_ANSWERS, 404: (PROBLEM,)},
        own=(TRANSACTION,),
    ),
)


def addition(commitments: Commitments, wake: Callable[[], None]) -> Addition:
    """wake: there is a request to be answered."""
    return Addition(OPERATIONS, lambda bridge, links: CommitmentResources(commitments, wake, bridge, links).routes())


class CommitmentResources:
    def __init__(self, commitments: Commitments, wake: Callable[[], None], bridge: Bridge, links: Links) -> None:
        self._commitments = commitments
        self._wake = wake
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [web.post(_PATH, self.request), web.get(_PATH, self.check)]

    async def request(self, request: web.Request) -> web.Response:
        """200 with the result, 202 when it takes longer; 409 when the Transaction UID is in use for something else."""
        media_type = _answer_type(request)
        body = await _body(request)
        asked = await self._bridge.run(_asked, request.headers.get("Content-Type", DICOM_JSON), body)
        uid = uid_of(request, "transaction") or ""
        await self._bridge.run(self._commitments.accept, uid, self._links.caller(request), asked, 0.0)
        self._wake()
        until, pause_s = time.monotonic() + _PATIENCE_S, _FIRST_LOOK_S
        while True:
            response = await self._response(uid, media_type, self._links.caller(request))
            if response.status == HTTPStatus.OK or time.monotonic() > until:
                return response
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def check(self, request: web.Request) -> web.Response:
        """200 with the result, 202 when there is none yet, 404 when it was never requested here."""
        uid, caller = uid_of(request, "transaction") or "", self._links.caller(request)
        return await self._response(uid, _answer_type(request), caller)

    async def _response(self, uid: str, media_type: str, caller: Caller) -> web.Response:
        transaction = await self._bridge.run(self._commitments.find, uid)
        is_theirs = transaction is not None and (caller.scope.is_everything or transaction.by == caller.name)
        if transaction is None or not transaction.by_web or not is_theirs:
            raise NotFound("there is no request of this Transaction UID")
        if transaction.result is None:
            return web.Response(status=HTTPStatus.ACCEPTED, headers={"Retry-After": str(_RETRY_AFTER_S)})
        result = _module(transaction, transaction.result)
        encoded = to_xml(result) if media_type == DICOM_XML else orjson.dumps(result)
        headers = {"Vary": "Accept", "Cache-Control": "no-store"}
        return web.Response(body=encoded, content_type=media_type, headers=headers)


def _answer_type(request: web.Request) -> str:
    ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
    return choose(ranges, _OFFERS).media_type


async def _body(request: web.Request) -> bytes:
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > LIMIT:
            raise TooLarge(f"The request is larger than {LIMIT} bytes")
    return bytes(body)


def _asked(content_type: str, body: bytes) -> list[Reference]:
    """Of the Storage Commitment Request Module (PS3.18 Table J.1-1)."""
    media = parse_media_type(content_type).name
    if media not in (DICOM_JSON, JSON, DICOM_XML):
        raise problem.Answered(
            problem.problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The request must be {DICOM_JSON} or {DICOM_XML}")
        )
    try:
        attributes = from_xml(body) if media == DICOM_XML else _one_of(read_json(body))
    except Rejected as error:
        raise Invalid(str(error), "body") from error
    found = references(attributes) or references_by_study(attributes)
    if not found:
        raise Invalid("Referenced SOP Sequence (or Referenced Study Sequence) is missing or empty", "body")
    return found


def _one_of(data_sets: list[Any]) -> Attributes:
    if len(data_sets) != 1:
        raise Invalid("The request must hold one data set", "body")
    return checked(data_sets[0]).attributes


def _module(transaction: Transaction, result: Result) -> dict[str, Any]:
    """The Storage Commitment Response Module (PS3.18 Table J.2-1)."""
    committed, failed = list(transaction.committed(result)), list(transaction.failed(result))
    made: dict[str, Any] = {}
    if transaction.references[0].study_uid:
        if committed:
            made[REFERENCED_STUDIES] = study_sequence((each, None) for each in committed)
        if failed:
            made[FAILED_STUDIES] = study_sequence(failed)
        return made
    if failed:
        made[FAILED_SOPS] = failed_sequence(failed)
    if committed:
        made[REFERENCED_SOPS] = sequence(committed)
    return made
