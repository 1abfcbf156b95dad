"""WADO-RS: rendered resources and thumbnails (PS3.18 10.4.1.1.3, 8.3.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aiohttp import web
from multidict import MultiMapping

from pacs import __version__
from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.errors import Invalid, NotAcceptable, NotFound
from pacs.imaging.options import MEDIA_TYPES, RenderOptions, Viewport, Window
from pacs.services.retrieve import Rendered as Picture
from pacs.services.retrieve import Retrieve
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links, url_of
from pacs.web.multipart import Writer
from pacs.web.negotiate import Offer, accepted, choose
from pacs.web.target import frame_numbers, target_of
from pacs.web.warning import warnings

_THUMBNAIL_SIDE = 200


class RenderedResources:
    """Pictures of a study, series, instance or frame."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        instance = "/studies/{study}/series/{series}/instances/{instance}"
        found = []
        for path in ("/studies/{study}", "/studies/{study}/series/{series}", instance, f"{instance}/frames/{{frames}}"):
            found += [web.get(f"{path}/rendered", self.rendered), web.get(f"{path}/thumbnail", self.thumbnail)]
        return found

    async def rendered(self, request: web.Request) -> web.StreamResponse:
        """One picture for an instance or frame; multipart/related of them for more."""
        target = target_of(request)
        instances = await self._bridge.run(self._retrieve.instances, target, self._links.caller(request))
        frames = _frames(request)
        is_many = len(instances) > 1 or len(frames) > 1
        options = _options(request, is_many=is_many)
        if not is_many:
            return await self._one(request, instances[0], frames[0], options)
        pictures = [(each, frame) for each in instances for frame in frames]
        shown = await self._bridge.run(self._with_pixels, pictures)
        if not shown:
            raise _no_picture()
        base = self._links.base(request)
        # The first is made before the status goes out: an error in it can still be told.
        first = await self._bridge.run_pixels(self._retrieve.rendered, shown[0][0].target, shown[0][1], options)
        response = web.StreamResponse(status=206 if len(shown) < len(pictures) else 200)
        if len(shown) < len(pictures):
            text = f"{len(pictures) - len(shown)} of {len(pictures)} instances have no pixels and cannot be rendered"
            response.headers.extend(warnings(base, [text]))
        writer = Writer()
        response.headers["Content-Type"] = writer.content_type(options.media_type)
        response.headers["Vary"] = "Accept"
        return await self._bridge.send(request, response, self._parts(shown, first, options, writer, base))

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """A small picture of the frame that stands for the target."""
        options = _options(request, is_many=False)
        if options.viewport is None:
            options = replace(options, max_size=_THUMBNAIL_SIDE)
        frame = _frames(request)[0]
        caller = self._links.caller(request)
        instance = await self._bridge.run(self._representative, target_of(request), caller)
        return await self._one(request, instance, frame, options)

    async def _one(
        self, request: web.Request, instance: StoredInstance, frame: int | None, options: RenderOptions
    ) -> web.StreamResponse:
        etag = single.etag_of(__version__, instance.blob.digest, str(frame), repr(options))
        headers = {"Vary": "Accept", "Cache-Control": "private, no-cache"}
        unchanged = single.not_modified(request, etag, headers)
        if unchanged is not None:
            return unchanged
        data = (await self._bridge.run_pixels(self._picture, instance.target, frame, options)).data
        location = url_of(self._links.base(request), instance.target)
        headers["Content-Location"] = location + (f"/frames/{frame}/rendered" if frame else "/rendered")
        return await single.answer(
            request,
            self._bridge,
            etag=etag,
            media_type=options.media_type,
            size_bytes=len(data),
            read=lambda offset, length: single.cut([data], offset, length),
            headers=headers,
        )

    def _picture(self, target: Target, frame: int | None, options: RenderOptions) -> Picture:
        if self._retrieve.number_of_frames(target) == 0:
            raise _no_picture()
        return self._retrieve.rendered(target, frame, options)

    def _representative(self, target: Target, caller: Caller) -> StoredInstance:
        if target.sop_uid is None:
            self._retrieve.instances(target, caller)  # NotFound of the study or series itself
            try:
                target = self._retrieve.representative(target)
            except NotFound as error:
                raise _no_picture() from error
        return self._retrieve.instances(target, caller)[0]

    def _with_pixels(
        self, pictures: list[tuple[StoredInstance, int | None]]
    ) -> list[tuple[StoredInstance, int | None]]:
        found = []
        for instance, frame in pictures:
            available = self._retrieve.number_of_frames(instance.target)
            if frame is not None and frame > available > 0:
                raise NotFound(f"There is no frame {frame}: the instance has {available}")
            if available:
                found.append((instance, frame))
        return found

    def _parts(
        self,
        pictures: list[tuple[StoredInstance, int | None]],
        first: Picture,
        options: RenderOptions,
        writer: Writer,
        base: str,
    ) -> Iterator[bytes]:
        """The whole multipart body; blocking."""
        for position, (instance, frame) in enumerate(pictures):
            picture = first if position == 0 else self._retrieve.rendered(instance.target, frame, options)
            location = url_of(base, instance.target) + (f"/frames/{frame}/rendered" if frame else "/rendered")
            yield writer.part(options.media_type, {"Content-Location": location})
            yield picture.data
        yield writer.end()


def _options(request: web.Request, *, is_many: bool) -> RenderOptions:
    """Media type by Accept, the rest by query (PS3.18 8.3.5.1). Parameters that mean nothing here are left alone."""
    ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
    offers = [Offer(media_type) for media_type in MEDIA_TYPES]
    if is_many:
        # Several pictures can only be sent as multipart, also to those who name but the type of the picture.
        offers += [Offer(media_type, multipart=True) for media_type in MEDIA_TYPES]
    media_type = choose(ranges, offers, client_order=True).media_type
    quality = request.query.get("quality", "90").strip()
    if not (quality.isascii() and quality.isdigit() and 1 <= int(quality[:4]) <= 100):
        raise Invalid("quality must be 1 to 100", "quality")
    return RenderOptions(media_type, int(quality), _window(request.query), _viewport(request.query))


def _window(parameters: MultiMapping[str]) -> Window | None:
    text = parameters.get("window")
    if text is None or not text.strip():
        return None
    pieces = [piece.strip() for piece in text.split(",")]
    if len(pieces) not in (2, 3):
        raise Invalid("window must be center,width or center,width,function", "window")
    function = pieces[2].upper().replace("-", "_") if len(pieces) == 3 else "LINEAR"
    return Window(_number(pieces[0], "window"), _number(pieces[1], "window"), function or "LINEAR")


def _viewport(parameters: MultiMapping[str]) -> Viewport | None:
    text = parameters.get("viewport")
    if text is None or not text.strip():
        return None
    pieces = [piece.strip() for piece in text.split(",")]
    if len(pieces) not in (2, 4, 6):
        raise Invalid("viewport must be vw,vh or vw,vh,sx,sy,sw,sh", "viewport")
    pieces += [""] * (6 - len(pieces))
    width, height = (_number(piece, "viewport") for piece in pieces[:2])
    if width != int(width) or height != int(height):
        raise Invalid("viewport width and height must be whole numbers", "viewport")
    x, y, source_width, source_height = (_number(piece, "viewport") if piece else None for piece in pieces[2:])
    return Viewport(int(width), int(height), x or 0.0, y or 0.0, source_width, source_height)


def _number(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise Invalid(f"{name} must hold numbers", name) from error
    if not abs(number) < 1e30:
        raise Invalid(f"{name} must hold numbers", name)
    return number


def _frames(request: web.Request) -> list[int | None]:
    text = request.match_info.get("frames")
    return [None] if text is None else list(frame_numbers(text))


def _no_picture() -> NotAcceptable:
    return NotAcceptable("There are no pixels here, so nothing can be rendered as a picture")
