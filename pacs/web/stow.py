"""STOW-RS: storing (PS3.18 10.5).

A body is never held: it goes part by part into files, written in threads, while whole instances are committed in
groups beside the reception of the next. Instances that come as metadata and bulk data (10.5.1.2) are put together when
all of it is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

import orjson
from aiohttp import web

from pacs.dicom.model import Caller, Target
from pacs.dicom.xml_model import to_xml
from pacs.errors import Invalid, NotAcceptable, OutOfResources, PacsError, Rejected, TooLarge
from pacs.services.store import Store, Stored
from pacs.web import problem
from pacs.web.bridge import Bridge
from pacs.web.inflate import CODINGS, Inflater
from pacs.web.links import Links, url_of
from pacs.web.multipart import Reader
from pacs.web.negotiate import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MULTIPART,
    MediaType,
    Offer,
    accepted,
    choose,
    parse_media_type,
)
from pacs.web.receive import InstanceSink, Part, Receiver
from pacs.web.receive_metadata import MetadataSink
from pacs.web.target import uid_of

log = logging.getLogger(__name__)

# How much is received before a thread writes it.
_BLOCK_BYTES = 1 << 20

# Warning Reason (0008,1196): PS3.18 Table I.2-1.
_WARNING_COERCION, _WARNING_DISCARDED, _WARNING_MISMATCH = 0xB000, 0xB006, 0xB007
_METADATA_TYPES = (DICOM_JSON, DICOM_XML)
_ACCEPT_POST = ", ".join([*(f'{MULTIPART}; type="{kind}"' for kind in (DICOM, *_METADATA_TYPES)), DICOM])
_ANSWERS = (Offer(DICOM_JSON), Offer("application/json"), Offer(DICOM_XML))
# The standard's answer does not say which part each of its items is about, nor what was there already.
_PARTS_HEADER, _PARTS_TOLD = "X-Pacs-Parts", 100


class Stow:
    """max_body_bytes: of one request, None for no limit."""

    def __init__(self, store: Store, bridge: Bridge, links: Links, *, max_body_bytes: int | None = None) -> None:
        self._store = store
        self._bridge = bridge
        self._links = links
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [web.post("/studies", self.store), web.post("/studies/{study}", self.store)]

    async def store(self, request: web.Request) -> web.Response:
        """200, 202 or 409 with what became of each part; 400, 413, 415 or 503 for the request as a whole."""
        study_uid = uid_of(request, "study")
        media, inflater = _media_type(request), inflater_of(request)
        reader = Reader(media.parameters.get("boundary", "")) if media.name == MULTIPART else None
        if self._max_body_bytes is not None and (request.content_length or 0) > self._max_body_bytes:
            raise TooLarge(f"The request is larger than {self._max_body_bytes} bytes")
        caller = self._links.caller(request)
        kind = _kind(media)
        sink = (
            InstanceSink(self._store) if kind == DICOM else MetadataSink(self._store, kind, self._links.here(request))
        )
        receiver = await self._bridge.run(Receiver, sink, reader, self._max_body_bytes, inflater, media.name)
        try:
            await self._receive(request, receiver, caller, study_uid)
        finally:
            await asyncio.shield(self._bridge.run(receiver.discard))
        return self._answer(request, receiver.parts, study_uid)

    async def _receive(self, request: web.Request, receiver: Receiver, caller: Caller, study_uid: str | None) -> None:
        """Take in the body; on return every part has its result. What was whole when the client went is kept."""
        committing: asyncio.Future[None] | None = None
        try:
            try:
                async for block in blocks(request, self._bridge.idle_s):
                    await self._bridge.run(receiver.feed, block)
                    while receiver.is_group_ready:
                        if committing is not None:
                            await committing
                        group = receiver.take_ready()
                        committing = asyncio.ensure_future(self._bridge.run(self._commit, group, caller, study_uid))
                await self._bridge.run(receiver.close)
            finally:
                if committing is not None:
                    await asyncio.shield(committing)
                while group := receiver.take_ready():
                    await asyncio.shield(self._bridge.run(self._commit, group, caller, study_uid))
        except (ConnectionError, web.RequestPayloadError) as error:
            log.warning("upload ended early from=%s parts=%d", caller.address, len(receiver.parts))
            if isinstance(error, ConnectionError):
                raise
            raise Invalid("The body cannot be read: its chunks are malformed", "body") from error

    def _commit(self, parts: list[Part], caller: Caller, study_uid: str | None) -> None:
        """Store a group; blocking. Raises OutOfResources: then the client must come again with all of it."""
        for part in parts:
            if part.make is not None:
                try:
                    part.spool = part.make(part)
                except PacsError as error:
                    part.result = error
                part.make = None
        spooled = [part for part in parts if part.spool is not None]
        results = self._store.store_many([part.spool for part in spooled if part.spool], caller, study_uid=study_uid)
        for part, result in zip(spooled, results, strict=True):
            part.spool, part.result = None, result
        for part in parts:
            if isinstance(part.result, OutOfResources):
                raise part.result

    def _answer(self, request: web.Request, parts: Sequence[Part], study_uid: str | None) -> web.Response:
        """The Store Instances Response Module (PS3.18 Annex I.2)."""
        base = self._links.base(request)
        stored = [(part.result, part.discarded) for part in parts if isinstance(part.result, Stored)]
        failed = [part.result for part in parts if isinstance(part.result, PacsError)]
        if failed and not stored and all(isinstance(error, TooLarge) for error in failed):
            raise failed[0]
        studies = {result.instance.target.study_uid for result, _ in stored}
        if len(studies) == 1:
            url = url_of(base, Target(studies.pop()))
        else:
            url = f"{base}/studies" if study_uid is None else url_of(base, Target(study_uid))
        body: dict[str, dict[str, object]] = {"00081190": {"vr": "UR", "Value": [url]}}
        if failed:
            body["00081198"] = {"vr": "SQ", "Value": [_failed_item(error) for error in failed]}
        if stored:
            body["00081199"] = {"vr": "SQ", "Value": [_stored_item(*each, base) for each in stored]}
        if not stored:
            status = HTTPStatus.CONFLICT
        elif failed or any(result.warnings or result.mismatches or discarded for result, discarded in stored):
            status = HTTPStatus.ACCEPTED
        else:
            status = HTTPStatus.OK
        media_type = _answer_type(request)
        encoded = to_xml(body) if media_type == DICOM_XML else orjson.dumps(body)
        headers = {"Vary": "Accept"}
        if len(parts) <= _PARTS_TOLD:
            headers[_PARTS_HEADER] = " ".join(_word(part.result) for part in parts)
        return web.Response(status=status, body=encoded, content_type=media_type, headers=headers)


async def blocks(request: web.Request, idle_s: float) -> AsyncIterator[list[bytes]]:
    """The body of an upload in lists of about a MiB. Raises Invalid when the client sends nothing for too long."""
    block: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(idle_s):
                data = await request.content.readany()
        except ConnectionError:
            if block:
                yield block
            raise
        except TimeoutError as error:
            raise Invalid(f"Nothing came for {idle_s:g} seconds", "body") from error
        if data:
            block.append(data)
            size += len(data)
        if block and (size >= _BLOCK_BYTES or not data):
            yield block
            block, size = [], 0
        if not data:
            return


def _media_type(request: web.Request) -> MediaType:
    """What the body is. Raises UnsupportedMediaType for anything but DICOM files and metadata with bulk data."""
    text = request.headers.get("Content-Type", "")
    try:
        media = parse_media_type(text) if text else MediaType("")
    except Invalid:
        media = MediaType("")
    if media.name != MULTIPART and media.name not in (DICOM, *_METADATA_TYPES):
        raise _unsupported(f'The request must be {MULTIPART}; type="{DICOM}" or {DICOM}')
    kind = _kind(media)
    if kind not in (DICOM, *_METADATA_TYPES):
        raise _unsupported(f'Parts of type {kind[:64]} cannot be stored; {MULTIPART}; type="{DICOM}" can')
    return media


def _kind(media: MediaType) -> str:
    """What the parts, or the first of them, are."""
    return media.parameters.get("type", DICOM).lower() if media.name == MULTIPART else media.name


def _answer_type(request: web.Request) -> str:
    """What is stored is stored: a client that accepts neither form gets the default one."""
    ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
    try:
        return choose(ranges, _ANSWERS).media_type
    except NotAcceptable:
        return DICOM_JSON


def inflater_of(request: web.Request) -> Inflater | None:
    """How to unpack the body. Raises UnsupportedMediaType for a coding that is not known (RFC 9110 15.5.16)."""
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in CODINGS:
        raise _unsupported(f"Content-Encoding {coding[:40]} is not supported; gzip and deflate are")
    return Inflater(coding)


def _unsupported(detail: str) -> problem.Answered:
    return problem.Answered(problem.problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, {"Accept-Post": _ACCEPT_POST}))


def _word(result: Stored | PacsError | None) -> str:
    """What became of one part: stored, same, replaced, or its Failure Reason in hexadecimal."""
    if isinstance(result, Stored):
        return result.outcome.value
    return f"{problem.failure_reason(result or PacsError()):04X}"


def _stored_item(result: Stored, discarded: Sequence[str], base: str) -> dict[str, object]:
    instance = result.instance
    item: dict[str, object] = {}
    remarks = [*result.warnings, *result.mismatches, *([f"left out: {' '.join(discarded)}"] if discarded else [])]
    if remarks:
        item["00000902"] = {"vr": "LO", "Value": [_comment("; ".join(remarks))]}
    item["00081150"] = {"vr": "UI", "Value": [instance.sop_class_uid]}
    item["00081155"] = {"vr": "UI", "Value": [instance.target.sop_uid]}
    item["00081190"] = {"vr": "UR", "Value": [url_of(base, instance.target)]}
    if remarks:
        reason = _WARNING_COERCION if result.warnings else _WARNING_MISMATCH
        item["00081196"] = {
            "vr": "US",
            "Value": [reason if result.warnings or result.mismatches else _WARNING_DISCARDED],
        }
    return item


def _failed_item(error: PacsError) -> dict[str, object]:
    item: dict[str, object] = {"00000902": {"vr": "LO", "Value": [_comment(str(error))]}}
    if isinstance(error, Rejected):
        if error.sop_class_uid:
            item["00081150"] = {"vr": "UI", "Value": [error.sop_class_uid]}
        if error.sop_uid:
            item["00081155"] = {"vr": "UI", "Value": [error.sop_uid]}
    item["00081197"] = {"vr": "US", "Value": [problem.failure_reason(error)]}
    return item


def _comment(text: str) -> str:
    return text[:64]  # LO
