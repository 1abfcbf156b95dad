"""WADO-RS: frames (PS3.18 10.4.1.1.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from aiohttp import web

from pacs import __version__
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.model import StoredInstance, Target
from pacs.errors import NotAcceptable, NotFound
from pacs.services.file_span import Piece
from pacs.services.retrieve import Retrieve
from pacs.services.stored_frame import StoredFrame
from pacs.web import single
from pacs.web.body import Body
from pacs.web.bridge import Bridge
from pacs.web.links import Links, url_of
from pacs.web.multipart import Writer
from pacs.web.negotiate import EXPLICIT_LITTLE_ENDIAN, OCTET_STREAM, MediaType, Offer, accepted, choose
from pacs.web.target import frame_numbers, target_of

# Frames are read in groups of about this size, so that a list of a thousand takes no more memory than one of ten.
_GROUP_BYTES = 8 << 20
_MOST_A_GROUP = 64


@dataclass(frozen=True, slots=True)
class _Whole:
    """A multipart answer of one frame as it is stored, begun already."""

    writer: Writer
    body: Body
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Found:
    """What goes out. stored, whole: of a single frame that lies in a file."""

    instance: StoredInstance
    offer: Offer
    stored: StoredFrame | None = None
    whole: _Whole | None = None


class Frames:
    """Frames of an instance."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        instance = "/studies/{study}/series/{series}/instances/{instance}"
        return [web.get(f"{instance}/frames/{{frames}}", self.frames)]

    async def frames(self, request: web.Request) -> web.StreamResponse:
        """A stored codestream goes out as it is when the client takes it, else native pixels."""
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        target = target_of(request)
        numbers = frame_numbers(request.match_info["frames"])
        base = f"{url_of(self._links.base(request), target)}/frames"

        def find() -> _Found:
            instance, layout, _ = self._retrieve.held(target, self._links.caller(request))
            available = layout.pixels.number_of_frames if layout.pixels else 0
            if available == 0:
                raise NotFound("The instance has no frames")
            if max(numbers) > available:
                raise NotFound(f"There is no frame {max(numbers)}: the instance has {available}")
            offer = frame_offer(self._retrieve, instance, ranges, is_single=len(numbers) == 1)
            if len(numbers) > 1:
                return _Found(instance, offer)
            stored = self._retrieve.stored_frame(instance, layout, numbers[0], offer.transfer_syntax_uid)
            if stored is None or not offer.multipart:
                return _Found(instance, offer, stored)
            return _Found(instance, offer, stored, _whole(stored, offer, f"{base}/{numbers[0]}"))

        # In one go: each turn in a thread takes as long as reading the index does.
        found = await self._bridge.run(find)
        if not found.offer.multipart:
            return await self._one(request, found, numbers[0], f"{base}/{numbers[0]}")
        writer = found.whole.writer if found.whole else Writer()
        content_type = writer.content_type(found.offer.media_type)
        response = web.StreamResponse(headers={"Content-Type": content_type, "Vary": "Accept"})
        # Of known length: browsers are quicker with a body that they can make room for.
        if found.whole is not None:
            response.content_length = found.whole.size_bytes
            return await self._bridge.send(request, response, found.whole.body)
        # The first group is read before the status goes out: an error in it can still be told.
        uid = found.offer.transfer_syntax_uid
        first = (await self._bridge.run_pixels(self._retrieve.frames, target, numbers[:1], uid)).frames[0]
        pieces = self._parts(target, numbers, first, found.offer, writer, base)
        if len(numbers) == 1:
            return await self._bridge.send_bytes(request, response, b"".join(pieces))
        is_stored = uid == found.instance.transfer_syntax_uid and is_codestream(found.offer)
        return await self._bridge.send(request, response, pieces, waits_for_pixels=not is_stored)

    async def _one(self, request: web.Request, found: _Found, number: int, location: str) -> web.StreamResponse:
        etag = single.etag_of(__version__, found.instance.blob.digest, str(number), str(found.offer))
        headers = {"Vary": "Accept", "Content-Location": location}
        unchanged = single.not_modified(request, etag, headers)
        if unchanged is not None:
            return unchanged
        read: bytes | Callable[[int, int | None], Iterator[Piece]]
        if (stored := found.stored) is None:
            uid = found.offer.transfer_syntax_uid
            made = await self._bridge.run_pixels(self._retrieve.frames, found.instance.target, [number], uid)
            read = made.frames[0]
        else:
            pieces = stored.pieces
            read = stored.data or (lambda offset, length: single.cut(pieces(), offset, length))
        return await single.answer(
            request,
            self._bridge,
            etag=etag,
            media_type=str(found.offer),
            size_bytes=stored.size_bytes if stored else 0,
            read=read,
            headers=headers,
        )

    def _parts(
        self, target: Target, numbers: Sequence[int], first: bytes, offer: Offer, writer: Writer, base: str
    ) -> Iterator[bytes]:
        """The whole multipart body; blocking."""
        part_type, uid = str(Offer(offer.media_type, offer.transfer_syntax_uid)), offer.transfer_syntax_uid
        yield writer.part(part_type, {"Content-Location": f"{base}/{numbers[0]}"})
        yield first
        for number, frame in frames_in_groups(self._retrieve, target, numbers[1:], uid, first):
            yield writer.part(part_type, {"Content-Location": f"{base}/{number}"})
            yield frame
        yield writer.end()


def _whole(stored: StoredFrame, offer: Offer, location: str) -> _Whole:
    writer = Writer()
    part_type = str(Offer(offer.media_type, offer.transfer_syntax_uid))
    head, end = writer.part(part_type, {"Content-Location": location}), writer.end()
    pieces = stored.pieces() if stored.data is None else (stored.data,)
    body = Body(chain((head,), pieces, (end,)))
    return _Whole(writer, body.begin_all(), len(head) + stored.size_bytes + len(end))


def frames_in_groups(
    retrieve: Retrieve, target: Target, numbers: Sequence[int], transfer_syntax_uid: str, like: bytes
) -> Iterator[tuple[int, bytes]]:
    """Frames with their numbers, read some at a time. like: a frame that tells how large they are. Blocking."""
    size = min(max(_GROUP_BYTES // max(len(like), 1), 1), _MOST_A_GROUP)
    for start in range(0, len(numbers), size):
        group = numbers[start : start + size]
        yield from zip(group, retrieve.frames(target, group, transfer_syntax_uid).frames, strict=True)


def frame_offer(
    retrieve: Retrieve, instance: StoredInstance, ranges: Sequence[MediaType], *, is_single: bool, is_list: bool = True
) -> Offer:
    """In what form frames go out. is_single, is_list: by itself, in a multipart. Blocking.

    Raises NotAcceptable, naming what can be made.
    """
    cheap = frame_forms(instance.transfer_syntax_uid)
    if preferred := retrieve.preferred_syntax(instance):
        cheap = [(syntaxes.find(preferred).media_type, preferred), (OCTET_STREAM, preferred), *cheap]
    if not any(_may_want_encoding(media) for media in ranges):
        try:
            return choose(ranges, _offers(cheap, is_single, is_list))
        except NotAcceptable:
            pass  # said again, with what there really is
    makeable = retrieve.transfer_syntaxes(instance)
    # A media type without transfer syntax means the lossless one of its family (PS3.18 Table 8.7.3-5): it comes first.
    encoded = [(syntaxes.find(uid).media_type, uid) for uid in makeable if syntaxes.find(uid).encapsulated]
    return choose(ranges, _offers([*cheap, *encoded], is_single, is_list))


def frame_forms(stored_uid: str) -> list[tuple[str, str]]:
    """Media types and transfer syntaxes of frames that need no encoder, what costs least first (PS3.18 8.7.3.3)."""
    syntax = syntaxes.find(stored_uid)
    types: list[tuple[str, str]] = []
    if syntax.encapsulated:
        types.append((syntax.media_type, stored_uid))
        types.append((OCTET_STREAM, stored_uid))
    if not syntax.video:
        types.append((OCTET_STREAM, EXPLICIT_LITTLE_ENDIAN))
        types.append((OCTET_STREAM, syntaxes.IMPLICIT_VR_LITTLE_ENDIAN))  # the same bytes under another name
    return types


def is_codestream(offer: Offer) -> bool:
    """Whether frames go out compressed."""
    return syntaxes.find(offer.transfer_syntax_uid).encapsulated


def _offers(forms: Sequence[tuple[str, str]], is_single: bool, is_list: bool) -> list[Offer]:
    different = dict.fromkeys(forms)
    offers = [Offer(media_type, uid, multipart=True) for media_type, uid in different] if is_list else []
    if is_single:
        offers += [Offer(media_type, uid) for media_type, uid in different]
    return offers


def _may_want_encoding(media: MediaType) -> bool:
    if media.q <= 0:
        return False
    return media.content.startswith("image/") or media.parameters.get("transfer-syntax", "*") != "*"
