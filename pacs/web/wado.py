"""WADO-RS: whole instances (PS3.18 10.4)."""

from __future__ import annotations

from aiohttp import web

from pacs import __version__
from pacs.dicom.model import StoredInstance
from pacs.errors import NotAcceptable, PacsError
from pacs.imaging.transcode import TARGETS
from pacs.services.retrieve import Content, Retrieve
from pacs.web import archive_zip, single
from pacs.web.bridge import Bridge
from pacs.web.links import Links, url_of
from pacs.web.multipart import Writer
from pacs.web.negotiate import (
    DICOM,
    EXPLICIT_LITTLE_ENDIAN,
    MediaType,
    Offer,
    accepted,
    none_acceptable,
    quality,
)
from pacs.web.outgoing import Outgoing, Planned, close_all
from pacs.web.target import target_of
from pacs.web.warning import warnings

_FORMS = (Offer(DICOM, multipart=True), Offer(DICOM))


class Wado:
    """Study, series and instance, as DICOM files."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._bridge = bridge
        self._links = links
        self._outgoing = Outgoing(retrieve, bridge)
        self._zip = archive_zip.Zip(retrieve, bridge, links)

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        found = []
        for path in (
            "/studies/{study}",
            "/studies/{study}/series/{series}",
            "/studies/{study}/series/{series}/instances/{instance}",
        ):
            found.append(web.get(path, self.instances))
        return found

    async def instances(self, request: web.Request) -> web.StreamResponse:
        """multipart/related of DICOM files, one file by itself when ``application/dicom`` is accepted, or a ZIP."""
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        if archive_zip.is_wanted(ranges):
            return await self._zip.answer(request, ranges)
        instances = await self._bridge.run(self._retrieve.instances, target_of(request), self._links.caller(request))
        is_multipart = _is_multipart(ranges, instances)
        if not is_multipart and len(instances) > 1:
            raise NotAcceptable(
                f"There are {len(instances)} instances: they can only be sent as {_FORMS[0]}", (str(_FORMS[0]),)
            )
        if not is_multipart:
            return await self._one(request, ranges, instances[0])
        base = self._links.base(request)
        writer = Writer()

        def plan() -> tuple[list[Planned], list[PacsError], int | None]:
            planned, failures = self._outgoing.plan(instances, ranges)
            return planned, failures, self._outgoing.size_bytes(planned, writer.boundary, base)

        planned, failures, size_bytes = await self._bridge.run_pixels(plan)
        if not planned:
            raise failures[0]
        response = web.StreamResponse(status=206 if failures else 200)
        if failures:
            text = f"{len(failures)} of {len(instances)} instances cannot be sent as asked: {failures[0]}"
            response.headers.extend(warnings(base, [text]))
        response.headers["Content-Type"] = writer.content_type(DICOM)
        response.headers["Vary"] = "Accept"
        response.content_length = size_bytes
        # Not left to the generator alone: one that was never begun runs no finally.
        return await self._bridge.send(
            request,
            response,
            self._outgoing.parts(planned, writer, base),
            on_close=lambda: close_all(planned),
            waits_for_pixels=any(each.transfer_syntax_uid is not None for each in planned),
        )

    async def _one(
        self, request: web.Request, ranges: tuple[MediaType, ...], instance: StoredInstance
    ) -> web.StreamResponse:
        content = await self._bridge.run_pixels(self._open, instance, ranges)
        uid = content.transfer_syntax_uid
        return await single.answer(
            request,
            self._bridge,
            etag=single.etag_of(__version__, instance.blob.digest, instance.transfer_syntax_uid, uid),
            media_type=f"{DICOM}; transfer-syntax={uid}",
            size_bytes=content.size_bytes,
            read=lambda offset, length: single.cut(content.segments(), offset, length),
            headers={"Vary": "Accept", "Content-Location": url_of(self._links.base(request), instance.target)},
            on_close=content.close,
        )

    def _open(self, instance: StoredInstance, ranges: tuple[MediaType, ...]) -> Content:
        return self._retrieve.file(instance, self._outgoing.syntax(instance, ranges, is_multipart=False))


def _is_multipart(ranges: tuple[MediaType, ...], instances: list[StoredInstance]) -> bool:
    """Multipart unless one instance is wanted by itself. Raises NotAcceptable when neither form is accepted."""
    syntaxes_here = {each.transfer_syntax_uid for each in instances} | {EXPLICIT_LITTLE_ENDIAN}
    best = {
        multipart: max(quality(ranges, Offer(DICOM, uid, multipart))[0] for uid in _makeable(syntaxes_here))
        for multipart in (True, False)
    }
    if len(instances) > 1 and best[True] > 0:
        return True
    if max(best.values()) <= 0:
        available = tuple(
            str(Offer(DICOM, uid, multipart)) for multipart in (True, False) for uid in _makeable(syntaxes_here)
        )
        raise none_acceptable((*available, archive_zip.ZIP))
    return best[True] >= best[False]


def _makeable(stored: set[str]) -> list[str]:
    """Stored syntaxes and those that something decodable can be turned into."""
    return [*sorted(stored), *(uid for uid in TARGETS if uid not in stored)]
