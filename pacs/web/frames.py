"""WADO-RS: frames and bulk data (PS3.18 10.4.1.1.4 to 10.4.1.1.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus

from aiohttp import web

from pacs import __version__
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.model import StoredInstance, Target
from pacs.errors import NotFound
from pacs.services.retrieve import BulkContent, FrameSet, Retrieve
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links, url_of
from pacs.web.multipart import Writer
from pacs.web.negotiate import EXPLICIT_LITTLE_ENDIAN, OCTET_STREAM, Offer, accepted, choose
from pacs.web.target import frame_numbers, target_of

# Frames are read in groups of about this size, so that a list of a thousand takes no more memory than one of ten.
_GROUP_BYTES = 8 << 20
_MOST_A_GROUP = 64


class Frames:
    """Frames of an instance, and values that its metadata name by BulkDataURI."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        instance = "/studies/{study}/series/{series}/instances/{instance}"
        return [
            web.get(f"{instance}/frames/{{frames}}", self.frames),
            web.get(f"{instance}/bulkdata/{{path:.+}}", self.bulkdata),
        ]

    async def frames(self, request: web.Request) -> web.StreamResponse:
        """A stored codestream goes out as it is when the client takes it, else native pixels."""
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        target = target_of(request)
        numbers = frame_numbers(request.match_info["frames"])
        (instance, *_), available = await self._bridge.run(self._look, request, target)
        if available == 0:
            raise NotFound("The instance has no frames")
        if max(numbers) > available:
            raise NotFound(f"There is no frame {max(numbers)}: the instance has {available}")
        offer = choose(ranges, _frame_offers(instance.transfer_syntax_uid, is_single=len(numbers) == 1))
        is_stored = offer.transfer_syntax_uid == instance.transfer_syntax_uid and _is_codestream(offer)
        # The first group is read before the status goes out: an error in it can still be told.
        first = await self._bridge.run_pixels(self._retrieve.frames, target, numbers[:1], decode=not is_stored)
        base = f"{url_of(self._links.base(request), target)}/frames"
        if not offer.multipart:
            frame = first.frames[0]
            return await single.answer(
                request,
                self._bridge,
                etag=single.etag_of(__version__, instance.blob.digest, str(numbers[0]), str(offer)),
                media_type=str(offer),
                size_bytes=len(frame),
                read=lambda offset, length: single.cut([frame], offset, length),
                headers={"Vary": "Accept", "Content-Location": f"{base}/{numbers[0]}"},
            )
        writer = Writer()
        response = web.StreamResponse(headers={"Content-Type": writer.content_type(offer.media_type), "Vary": "Accept"})
        part_type = str(Offer(offer.media_type, offer.transfer_syntax_uid))
        pieces = self._parts(target, numbers, first, is_stored, writer, part_type, base)
        return await self._bridge.send(request, response, pieces)

    async def bulkdata(self, request: web.Request) -> web.StreamResponse:
        """One value; a byte range of it also within a multipart answer, as clients ask for that too."""
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        target = target_of(request)
        path = "/".join(
            piece.upper() if len(piece) == 8 else piece for piece in request.match_info["path"].strip("/").split("/")
        )
        (instance, *_), _ = await self._bridge.run(self._look, request, target)
        content = await self._bridge.run(self._retrieve.bulkdata, target, path)
        offer = choose(ranges, _bulk_offers(content))
        etag = single.etag_of(__version__, instance.blob.digest, path, str(offer))
        if not offer.multipart:

            def read(offset: int, length: int | None) -> Iterator[bytes]:
                if (offset, length) == (0, None):
                    return content.chunks
                # Deferred to the thread that reads: opening may decode.
                return _later(self._retrieve, target, path, offset, length)

            return await single.answer(
                request,
                self._bridge,
                etag=etag,
                media_type=str(offer),
                size_bytes=content.size_bytes,
                read=read,
                headers={"Vary": "Accept", "Content-Location": self._links.here(request)},
            )
        writer = Writer()
        fields = {"Content-Location": self._links.here(request)}
        status = HTTPStatus.OK
        wanted = single.asked_range(request, etag)
        if wanted is not None:
            span = single.resolve_range(wanted, content.size_bytes)
            if span is None:
                outside = {"Content-Range": f"bytes */{content.size_bytes}"}
                return web.Response(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=outside)
            content = await self._bridge.run(self._retrieve.bulkdata, target, path, *span)
            status = HTTPStatus.PARTIAL_CONTENT
            fields["Content-Range"] = f"bytes {span[0]}-{span[0] + span[1] - 1}/{content.size_bytes}"
        headers = {"Content-Type": writer.content_type(offer.media_type), "Vary": "Accept"}
        response = web.StreamResponse(status=status, headers=headers)
        part_type = str(Offer(offer.media_type, offer.transfer_syntax_uid))
        return await self._bridge.send(request, response, _one_part(writer, part_type, fields, content.chunks))

    def _look(self, request: web.Request, target: Target) -> tuple[list[StoredInstance], int]:
        found = self._retrieve.instances(target, self._links.caller(request))
        return found, self._retrieve.number_of_frames(target)

    def _parts(
        self,
        target: Target,
        numbers: Sequence[int],
        first: FrameSet,
        is_stored: bool,
        writer: Writer,
        part_type: str,
        base: str,
    ) -> Iterator[bytes]:
        """The whole multipart body; blocking."""
        yield writer.part(part_type, {"Content-Location": f"{base}/{numbers[0]}"})
        yield first.frames[0]
        size = max((_GROUP_BYTES // max(len(first.frames[0]), 1)), 1)
        size = min(size, _MOST_A_GROUP)
        for start in range(1, len(numbers), size):
            group = numbers[start : start + size]
            found = self._retrieve.frames(target, group, decode=not is_stored)
            for number, frame in zip(group, found.frames, strict=True):
                yield writer.part(part_type, {"Content-Location": f"{base}/{number}"})
                yield frame
        yield writer.end()


def _frame_offers(stored_uid: str, *, is_single: bool) -> list[Offer]:
    """Forms in which frames can be sent, what costs least first (PS3.18 Tables 8.7.3-2 to 8.7.3-5)."""
    syntax = syntaxes.find(stored_uid)
    types: list[tuple[str, str]] = []
    if syntax.encapsulated:
        types.append((syntax.media_type, stored_uid))
        types.append((OCTET_STREAM, stored_uid))
    if not syntax.video:
        types.append((OCTET_STREAM, EXPLICIT_LITTLE_ENDIAN))
        types.append((OCTET_STREAM, syntaxes.IMPLICIT_VR_LITTLE_ENDIAN))  # the same bytes under another name
    offers = [Offer(media_type, uid, multipart=True) for media_type, uid in dict.fromkeys(types)]
    if is_single:
        offers += [Offer(media_type, uid) for media_type, uid in dict.fromkeys(types)]
    return offers


def _is_codestream(offer: Offer) -> bool:
    return syntaxes.find(offer.transfer_syntax_uid).encapsulated


def _bulk_offers(content: BulkContent) -> list[Offer]:
    types = dict.fromkeys((content.media_type, OCTET_STREAM))
    # A transfer syntax says something about encapsulated pixel data only; any other value has none.
    uid = content.transfer_syntax_uid if syntaxes.find(content.transfer_syntax_uid).encapsulated else ""
    forms = [Offer(media_type, uid, multipart) for multipart in (False, True) for media_type in types]
    # Asked without a transfer syntax, an encapsulated value is still the only one there is.
    return forms + [Offer(form.media_type, "", form.multipart) for form in forms if uid]


def _later(retrieve: Retrieve, target: Target, path: str, offset: int, length: int | None) -> Iterator[bytes]:
    yield from retrieve.bulkdata(target, path, offset, length).chunks


def _one_part(writer: Writer, part_type: str, fields: dict[str, str], chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield writer.part(part_type, fields)
    yield from chunks
    yield writer.end()
