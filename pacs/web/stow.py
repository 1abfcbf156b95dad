"""STOW-RS: storing (PS3.18 10.5).

A body is never held: it goes part by part into spool files, written in threads, while whole parts are committed in
groups beside the reception of the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from aiohttp import web

from pacs.dicom.model import Caller, Target
from pacs.errors import Invalid, OutOfResources, PacsError, Rejected, TooLarge, Unreadable
from pacs.services.spool import Spool
from pacs.services.store import Store, Stored
from pacs.web import problem
from pacs.web.bridge import Bridge
from pacs.web.inflate import CODINGS, Inflater
from pacs.web.links import Links, url_of
from pacs.web.multipart import PartBegin, PartEnd, Reader
from pacs.web.negotiate import DICOM, DICOM_JSON, MULTIPART, OCTET_STREAM, MediaType, parse_media_type
from pacs.web.target import uid_of

log = logging.getLogger(__name__)

# How much is received before a thread writes it, and how much is spooled before a group is committed.
_BLOCK_BYTES = 1 << 20
_GROUP_BYTES = 64 << 20
_GROUP_PARTS = 32

_WARNING_COERCION = 0xB000
_ACCEPT_POST = f'{MULTIPART}; type="{DICOM}", {DICOM}'


@dataclass(slots=True)
class Part:
    """One object of a request. result: None until it is stored or refused."""

    spool: Spool | None = None
    result: Stored | PacsError | None = None


class Receiver:
    """Takes a body apart into spools. Blocking; used by one thread at a time. reader None: the body is one object."""

    def __init__(
        self, store: Store, reader: Reader | None, max_bytes: int | None, inflater: Inflater | None = None
    ) -> None:
        self.parts: list[Part] = []
        self._store = store
        self._reader = reader
        self._max_bytes = max_bytes
        self._inflater = inflater
        self._received = 0
        self._open: Part | None = None
        self._ready: list[Part] = []
        self._ready_bytes = 0
        if reader is None:
            self._begin(None)

    @property
    def is_group_ready(self) -> bool:
        return self._ready_bytes >= _GROUP_BYTES or len(self._ready) >= _GROUP_PARTS

    def feed(self, block: Sequence[bytes]) -> None:
        """Raises TooLarge past the limit of a request, OutOfResources for a full disk, Invalid for bad framing."""
        for received in block:
            for data in self._inflater.feed(received) if self._inflater else (received,):
                self._received += len(data)
                if self._max_bytes is not None and self._received > self._max_bytes:
                    raise TooLarge(f"The request is larger than {self._max_bytes} bytes")
                if self._reader is None:
                    self._write(data)
                    continue
                for event in self._reader.feed(data):
                    self._take(event)

    def close(self) -> None:
        """The body is over. Raises Invalid when there was nothing in it."""
        if self._inflater is not None:
            self._inflater.close()
        if self._received == 0:
            raise Invalid("The request has no body", "body")
        if self._reader is None:
            self._end(complete=True)
            return
        for event in self._reader.close():
            self._take(event)
        if not self.parts:
            raise Invalid("The request holds no part: the boundary does not occur in it", "boundary")

    def take_ready(self) -> list[Part]:
        """A group of the whole parts that wait to be stored; they are the caller's now."""
        ready, self._ready = self._ready[:_GROUP_PARTS], self._ready[_GROUP_PARTS:]
        self._ready_bytes = sum(part.spool.size_bytes for part in self._ready if part.spool is not None)
        return ready

    def discard(self) -> None:
        """Remove what was neither taken nor stored."""
        for part in [*self._ready, *([self._open] if self._open else [])]:
            if part.spool is not None:
                part.spool.discard()

    def _take(self, event: PartBegin | PartEnd | memoryview) -> None:
        if isinstance(event, PartBegin):
            self._begin(event.headers.get("content-type"))
        elif isinstance(event, PartEnd):
            self._end(complete=event.complete)
        else:
            self._write(event)

    def _begin(self, content_type: str | None) -> None:
        self._open = Part()
        self.parts.append(self._open)
        if content_type and not _is_dicom(content_type):
            self._open.result = Unreadable(f"the part is {content_type[:64]}; only {DICOM} can be stored")
            return
        self._open.spool = self._store.spool()

    def _write(self, data: bytes | memoryview) -> None:
        part = self._open
        if part is None or part.spool is None:
            return
        try:
            part.spool.write(data)
        except TooLarge as error:
            part.spool.discard()
            part.spool, part.result = None, error

    def _end(self, *, complete: bool) -> None:
        part, self._open = self._open, None
        if part is None or part.spool is None:
            return
        if not complete:
            part.spool.discard()
            part.spool, part.result = None, Unreadable("the request ended before the part did")
            return
        # Closed now: a block can hold thousands of small parts, and a process may not open that many files.
        part.spool.finish()
        self._ready.append(part)
        self._ready_bytes += part.spool.size_bytes


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
        reader, inflater = _reader(request), _inflater(request)
        if self._max_body_bytes is not None and (request.content_length or 0) > self._max_body_bytes:
            raise TooLarge(f"The request is larger than {self._max_body_bytes} bytes")
        caller = self._links.caller(request)
        receiver = await self._bridge.run(Receiver, self._store, reader, self._max_body_bytes, inflater)
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
                async for block in self._blocks(request):
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

    async def _blocks(self, request: web.Request) -> AsyncIterator[list[bytes]]:
        """The body in lists of about a MiB. Raises Invalid when the client sends nothing for too long."""
        block: list[bytes] = []
        size = 0
        while True:
            try:
                async with asyncio.timeout(self._bridge.idle_s):
                    data = await request.content.readany()
            except ConnectionError:
                if block:
                    yield block
                raise
            except TimeoutError as error:
                raise Invalid(f"Nothing came for {self._bridge.idle_s:g} seconds", "body") from error
            if data:
                block.append(data)
                size += len(data)
            if block and (size >= _BLOCK_BYTES or not data):
                yield block
                block, size = [], 0
            if not data:
                return

    def _commit(self, parts: list[Part], caller: Caller, study_uid: str | None) -> None:
        """Store a group; blocking. Raises OutOfResources: then the client must come again with all of it."""
        spools = [part.spool for part in parts if part.spool is not None]
        results = self._store.store_many(spools, caller, study_uid=study_uid)
        for part, result in zip(parts, results, strict=True):
            part.spool, part.result = None, result
        for result in results:
            if isinstance(result, OutOfResources):
                raise result

    def _answer(self, request: web.Request, parts: Sequence[Part], study_uid: str | None) -> web.Response:
        """The Store Instances Response Module (PS3.18 Annex I.2)."""
        base = self._links.base(request)
        stored = [part.result for part in parts if isinstance(part.result, Stored)]
        failed = [part.result for part in parts if isinstance(part.result, PacsError)]
        if failed and not stored and all(isinstance(error, TooLarge) for error in failed):
            raise failed[0]
        studies = {result.instance.target.study_uid for result in stored}
        if len(studies) == 1:
            url = url_of(base, Target(studies.pop()))
        else:
            url = f"{base}/studies" if study_uid is None else url_of(base, Target(study_uid))
        body: dict[str, dict[str, object]] = {"00081190": {"vr": "UR", "Value": [url]}}
        if failed:
            body["00081198"] = {"vr": "SQ", "Value": [_failed_item(error) for error in failed]}
        if stored:
            body["00081199"] = {"vr": "SQ", "Value": [_stored_item(result, base) for result in stored]}
        if not stored:
            status = HTTPStatus.CONFLICT
        elif failed or any(result.warnings for result in stored):
            status = HTTPStatus.ACCEPTED
        else:
            status = HTTPStatus.OK
        return web.Response(status=status, body=orjson.dumps(body), content_type=DICOM_JSON)


def _reader(request: web.Request) -> Reader | None:
    """How to read the body: None when it is one object. Raises UnsupportedMediaType for anything but DICOM files."""
    text = request.headers.get("Content-Type", "")
    try:
        media = parse_media_type(text) if text else MediaType("")
    except Invalid:
        media = MediaType("")
    if media.name == DICOM:
        return None
    if media.name != MULTIPART:
        raise _unsupported(f'The request must be {MULTIPART}; type="{DICOM}" or {DICOM}')
    kind = media.parameters.get("type", DICOM).lower()
    if kind != DICOM:
        raise _unsupported(f'Parts of type {kind[:64]} cannot be stored yet; {MULTIPART}; type="{DICOM}" can')
    return Reader(media.parameters.get("boundary", ""))


def _inflater(request: web.Request) -> Inflater | None:
    """How to unpack the body. Raises UnsupportedMediaType for a coding that is not known (RFC 9110 15.5.16)."""
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in CODINGS:
        raise _unsupported(f"Content-Encoding {coding[:40]} is not supported; gzip and deflate are")
    return Inflater(coding)


def _unsupported(detail: str) -> problem.Answered:
    return problem.Answered(problem.problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, {"Accept-Post": _ACCEPT_POST}))


def _is_dicom(content_type: str) -> bool:
    try:
        return parse_media_type(content_type).name in (DICOM, OCTET_STREAM)
    except Invalid:
        return True  # the bytes will tell


def _stored_item(result: Stored, base: str) -> dict[str, object]:
    instance = result.instance
    item: dict[str, object] = {}
    if result.warnings:
        item["00000902"] = {"vr": "LO", "Value": [_comment("; ".join(result.warnings))]}
    item["00081150"] = {"vr": "UI", "Value": [instance.sop_class_uid]}
    item["00081155"] = {"vr": "UI", "Value": [instance.target.sop_uid]}
    item["00081190"] = {"vr": "UR", "Value": [url_of(base, instance.target)]}
    if result.warnings:
        item["00081196"] = {"vr": "US", "Value": [_WARNING_COERCION]}
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
