"""Any DICOMweb server: its studies by QIDO-RS, each of them by WADO-RS (PS3.18 10.6, 10.4), straight into the store.

A study is retrieved whole when most of it is missing here, else instance by instance: also the rest of one whose answer
broke off. What the server lists and does not give is reported.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from functools import partial
from typing import Any
from urllib.parse import quote

import aiohttp

from pacs.dicom.model import Caller
from pacs.errors import Invalid, NotFound, Rejected, TooLarge
from pacs.migrate.intake import Intake
from pacs.migrate.remote import Remote, Unanswered, for_each
from pacs.services.spool import Spool
from pacs.services.store import Stored
from pacs.web.multipart import PartBegin, PartEnd, Reader

log = logging.getLogger(__name__)

CALLER = Caller("pacs migrate dicomweb", "", "cli")
_PAGE = 500
_GROUP = 16  # instances a commit
_GROUP_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20
_JSON = "application/dicom+json, application/json;q=0.9"
# As stored, where the server understands that; else as it likes (PS3.18 8.7.3.3.2).
_ACCEPTED = (
    'multipart/related; type="application/dicom"; transfer-syntax=*',
    'multipart/related; type="application/dicom"',
)
# Answers of servers that cannot list the instances of a study.
_CANNOT = frozenset({400, 405, 406, 415, 501})
_FAILURES_IN_A_ROW = 3  # after which the rest of a study is given up


class DicomWeb:
    """One server. query: parameters of the search for studies."""

    def __init__(self, remote: Remote, intake: Intake, query: Mapping[str, str]) -> None:
        self._remote = remote
        self._intake = intake
        self._query = dict(query)
        self._accepted = 0

    async def migrate(self, *, parallel: int) -> None:
        """Take over all studies that the search finds; ``parallel`` at once.

        Raises Invalid when it is no DICOMweb server, OutOfResources when the archive cannot take more, or the server
        cannot be reached any more.
        """
        await for_each(self._studies(), self._take_study, parallel)

    async def _studies(self) -> AsyncIterator[str]:
        try:
            async for row in self._rows("/studies", self._query):
                if study_uid := _uid(row, "0020000D"):
                    yield study_uid
        except (NotFound, Unanswered) as error:
            raise Invalid(f"{self._remote.url} does not answer to a search for studies: {error}", "--url") from error

    async def _rows(self, path: str, query: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """All rows of a search, page by page; ends where a server gives nothing new."""
        seen: set[str] = set()
        offset = 0
        while True:
            parameters = {**query, "limit": str(_PAGE), "offset": str(offset)}
            rows = await self._remote.json(path, parameters, accept=_JSON)
            if rows is not None and not isinstance(rows, list):
                raise Unanswered(f"{path}: the answer is not a list")
            before = len(seen)
            for row in rows or []:
                # A server may have a study twice, under two patients.
                if isinstance(row, dict) and (identity := _identity(row)) not in seen:
                    seen.add(identity)
                    yield row
            if len(seen) == before:
                return
            offset += len(rows or ())

    async def _take_study(self, study_uid: str) -> None:
        self._intake.summary.studies += 1
        try:
            await _Study(self, self._remote, self._intake, study_uid).take()
        except Unanswered as error:
            self._intake.fail(study_uid, str(error))

    async def listed(self, study_path: str) -> dict[str, str]:
        """Series by SOP Instance UID of a study, as the server has them; empty when it cannot tell."""
        try:
            rows = self._rows(f"{study_path}/instances", {})
            return {uid: _uid(row, "0020000E") async for row in rows if (uid := _uid(row, "00080018"))}
        except NotFound:
            return {}
        except Unanswered as error:
            if error.status in _CANNOT:
                return {}
            raise

    def accepted(self) -> str:
        return _ACCEPTED[self._accepted]

    def accept_more(self) -> bool:
        """After the server refused what we accept: whether there is something else."""
        if self._accepted + 1 == len(_ACCEPTED):
            return False
        self._accepted += 1
        return True


class _Study:
    """One study on its way."""

    def __init__(self, server: DicomWeb, remote: Remote, intake: Intake, study_uid: str) -> None:
        self._server = server
        self._remote = remote
        self._intake = intake
        self._study_uid = study_uid
        self._path = f"/studies/{quote(study_uid, safe='')}"
        self._is_listed = False
        self._missing: dict[str, str] = {}  # series by SOP Instance UID, of what has not come yet
        self._seen: set[str] = set()
        self._total = 0

    async def take(self) -> None:
        intake = self._intake
        listed = await self._server.listed(self._path)
        known = await intake.known(self._study_uid)
        self._is_listed, self._total = bool(listed), len(listed)
        self._missing = {sop_uid: series_uid for sop_uid, series_uid in listed.items() if sop_uid not in known}
        intake.summary.instances += len(listed)
        intake.skip(len(listed) - len(self._missing))
        if intake.dry_run:
            intake.want(len(self._missing))
            return
        try:
            await self._remote.attempt(self._take_whole)
        except NotFound:
            if not listed:
                intake.gone()
                return
        except Unanswered as error:
            if not listed:
                raise
            log.warning("study=%s is not given as a whole, asking for its instances: %s", self._study_uid, error)
        await self._take_rest()

    async def _take_whole(self) -> None:
        """In one answer, if that is worth it: when one broke off near its end, the rest is asked for by itself."""
        if not self._is_listed or (self._missing and 2 * len(self._missing) >= self._total):
            await self._retrieve(self._path)

    async def _take_rest(self) -> None:
        failures = 0
        for sop_uid, series_uid in list(self._missing.items()):
            path = f"{self._path}/series/{quote(series_uid, safe='')}/instances/{quote(sop_uid, safe='')}"
            try:
                await self._remote.attempt(partial(self._retrieve, path))
                if sop_uid in self._missing:
                    self._fail(sop_uid, "the server lists it, and does not give it")
                failures = 0
            except NotFound:
                del self._missing[sop_uid]
                self._intake.gone()
            except Unanswered as error:
                self._fail(sop_uid, str(error))
                failures += 1
            if failures == _FAILURES_IN_A_ROW and self._missing:
                self._intake.fail(self._study_uid, f"given up, {len(self._missing)} instances of it are missing")
                return

    def _fail(self, sop_uid: str, reason: str) -> None:
        self._missing.pop(sop_uid, None)
        self._intake.fail(sop_uid, reason)

    async def _retrieve(self, path: str) -> None:
        while True:
            try:
                async with self._remote.get(path, accept=self._server.accepted()) as answer:
                    await self._receive(answer)
                    return
            except Unanswered as error:
                if error.status not in (400, 406) or not self._server.accept_more():
                    raise

    async def _receive(self, answer: aiohttp.ClientResponse) -> None:
        """Store an answer as it comes; what came whole is kept when it breaks off."""
        body = _Body(self._intake, answer.headers.get("Content-Type", ""))
        try:
            async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                body.feed(piece)
                if body.is_group_ready:
                    await self._store(body)
            is_whole = body.close()
            await self._store(body)
            if not is_whole:
                raise aiohttp.ClientPayloadError("the answer ended early")
        finally:
            if body.ready:
                await self._store(body)
            body.discard()

    async def _store(self, body: _Body) -> None:
        spools, body.ready = body.ready, []
        try:
            results = await self._intake.store(spools)
        finally:
            for spool in spools:
                spool.discard()
        for result in results:
            if isinstance(result, Stored):
                sop_uid = result.instance.target.sop_uid or ""
                # What was here before is counted already, also when an answer has it again.
                is_new = self._missing.pop(sop_uid, None) is not None if self._is_listed else sop_uid not in self._seen
                self._seen.add(sop_uid)
                if is_new:
                    self._intake.count(result)
                continue
            sop_uid = result.sop_uid if isinstance(result, Rejected) else ""
            if sop_uid in self._missing or not self._is_listed:
                self._fail(sop_uid or self._study_uid, str(result))


class _Body:
    """Takes an answer apart. ready: whole objects that wait to be stored."""

    def __init__(self, intake: Intake, content_type: str) -> None:
        header = Message()
        header["Content-Type"] = content_type
        boundary = header.get_param("boundary") if content_type.lower().startswith("multipart/") else None
        self._intake = intake
        self._reader = Reader(str(boundary)) if boundary else None
        self._open: Spool | None = None if self._reader else intake.spool()
        self._is_complete = False
        self.ready: list[Spool] = []

    @property
    def is_group_ready(self) -> bool:
        return len(self.ready) >= _GROUP or sum(spool.size_bytes for spool in self.ready) >= _GROUP_BYTES

    def feed(self, piece: bytes) -> None:
        if self._reader is None:
            self._take(memoryview(piece))
            return
        with _framing():
            for event in self._reader.feed(piece):
                self._take(event)

    def close(self) -> bool:
        """The answer is over; whether it is whole, as far as its own form tells."""
        if self._reader is None:
            self._take(PartEnd(complete=True))
            return True
        if self._reader.is_ended:
            return True
        self._is_complete = False
        with _framing():
            for event in self._reader.close():
                self._take(event)
        return self._is_complete  # the last part is whole, though the boundary behind it is not

    def discard(self) -> None:
        """Remove what did not come whole."""
        for spool in [*self.ready, *([self._open] if self._open else [])]:
            spool.discard()

    def _take(self, event: PartBegin | PartEnd | memoryview) -> None:
        if isinstance(event, PartBegin):
            self._open = self._intake.spool()
        elif isinstance(event, PartEnd):
            self._is_complete = event.complete
            if self._open is not None and event.complete:
                self._open.finish()
                self.ready.append(self._open)
            elif self._open is not None:
                self._open.discard()
            self._open = None
        elif self._open is not None:
            try:
                self._open.write(event)
            except TooLarge as error:
                self._open.discard()
                self._open = None
                log.warning("left out: %s", error)


@contextmanager
def _framing() -> Iterator[None]:
    try:
        yield
    except Invalid as error:
        raise Unanswered(f"the answer cannot be taken apart: {error}") from error


def _uid(row: Mapping[str, Any], tag: str) -> str:
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]).strip(" \0") if isinstance(values, list) and values and values[0] else ""


def _identity(row: Mapping[str, Any]) -> str:
    return "/".join(_uid(row, tag) for tag in ("0020000D", "0020000E", "00080018"))
