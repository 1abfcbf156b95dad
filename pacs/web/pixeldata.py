"""WADO-RS: all pixel data of a study, series or instance (PS3.18 10.4.1.1.6, 10.4.3.3.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiohttp import web

from pacs.dicom.layout import PixelLayout
from pacs.dicom.model import StoredInstance
from pacs.errors import NotAcceptable, NotFound, PacsError
from pacs.services.retrieve import Retrieve
from pacs.web.bridge import Bridge
from pacs.web.frames import frame_offer, frames_in_groups, is_codestream
from pacs.web.links import Links, url_of
from pacs.web.multipart import Writer
from pacs.web.negotiate import MediaType, Offer, accepted
from pacs.web.target import target_of
from pacs.web.warning import warnings


@dataclass(frozen=True, slots=True)
class _Planned:
    instance: StoredInstance
    pixels: PixelLayout
    offer: Offer


class PixelData:
    """One part an instance when it goes out uncompressed, else one a frame."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        series = "/studies/{study}/series/{series}"
        paths = ("/studies/{study}", series, f"{series}/instances/{{instance}}")
        return [web.get(f"{path}/pixeldata", self.pixeldata) for path in paths]

    async def pixeldata(self, request: web.Request) -> web.StreamResponse:
        """Instances without pixels are left out; 206 when others cannot be sent as asked."""
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        instances = await self._bridge.run(self._retrieve.instances, target_of(request), self._links.caller(request))
        planned, failures = await self._bridge.run(self._plan, instances, ranges)
        if not planned:
            raise failures[0] if failures else NotFound("There are no pixel data here")
        base = self._links.base(request)
        response = web.StreamResponse(status=206 if failures else 200)
        if failures:
            text = f"{len(failures)} of {len(failures) + len(planned)} instances cannot be sent as asked: {failures[0]}"
            response.headers.extend(warnings(base, [text]))
        writer = Writer()
        media_types = {each.offer.media_type for each in planned}
        response.headers["Content-Type"] = writer.content_type(media_types.pop() if len(media_types) == 1 else "*/*")
        response.headers["Vary"] = "Accept"
        parts = self._parts(planned, writer, base)
        # The first part is made before the status goes out: an error in it can still be told.
        first = await self._bridge.run_pixels(lambda: [next(parts), next(parts)])
        return await self._bridge.send(request, response, _joined(first, parts), waits_for_pixels=True)

    def _plan(
        self, instances: Sequence[StoredInstance], ranges: Sequence[MediaType]
    ) -> tuple[list[_Planned], list[PacsError]]:
        planned: list[_Planned] = []
        failures: list[PacsError] = []
        for instance in instances:
            pixels = self._retrieve.layout(instance.target).pixels
            if pixels is None:
                continue
            try:
                offer = frame_offer(self._retrieve, instance, ranges, is_single=False)
            except NotAcceptable as error:
                failures.append(error)
            else:
                planned.append(_Planned(instance, pixels, offer))
        return planned, failures

    def _parts(self, planned: Sequence[_Planned], writer: Writer, base: str) -> Iterator[bytes]:
        """The whole multipart body; blocking."""
        for each in planned:
            url = url_of(base, each.instance.target)
            part_type = str(Offer(each.offer.media_type, each.offer.transfer_syntax_uid))
            if is_codestream(each.offer):
                for number, frame in self._frames(each):
                    yield writer.part(part_type, {"Content-Location": f"{url}/frames/{number}"})
                    yield frame
                continue
            yield writer.part(part_type, {"Content-Location": f"{url}/bulkdata/{each.pixels.tag}"})
            if each.pixels.encapsulated:
                for _, frame in self._frames(each):
                    yield frame
            else:
                yield from self._retrieve.bulkdata(each.instance.target, each.pixels.tag).chunks
        yield writer.end()

    def _frames(self, each: _Planned) -> Iterator[tuple[int, bytes]]:
        target, uid = each.instance.target, each.offer.transfer_syntax_uid
        first = self._retrieve.frames(target, [1], uid).frames[0]
        yield 1, first
        numbers = range(2, each.pixels.number_of_frames + 1)
        yield from frames_in_groups(self._retrieve, target, numbers, uid, first)


def _joined(first: Sequence[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    yield from first
    yield from rest
