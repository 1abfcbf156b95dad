"""WADO-RS: rendered resources and thumbnails (PS3.18 10.4.1.1.3, 8.3.5, 8.7.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from aiohttp import web

from pacs import __version__
from pacs.dicom.model import StoredInstance
from pacs.errors import NotAcceptable, NotFound, Undecodable
from pacs.imaging.forms import Form
from pacs.imaging.options import MEDIA_TYPES, RenderOptions
from pacs.index.base import Held
from pacs.services.retrieve import Retrieve
from pacs.services.showing import Document, Rendered
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links, url_of
from pacs.web.multipart import Writer
from pacs.web.negotiate import MediaType, Offer, accepted, choose, none_acceptable
from pacs.web.picture_options import picture_options
from pacs.web.target import frame_numbers, target_of
from pacs.web.warning import warnings

_THUMBNAIL_SIDE = 200

# So many parts are made before the status goes out, so that it can say 206 when some cannot be; past that a failure
# cuts the connection.
_PREPARED_PARTS = 64
_PREPARED_BYTES = 32 << 20

_SUFFIXES = {"application/pdf": "pdf", "text/xml": "xml", "video/mp4": "mp4", "video/mpeg": "mpg", "video/mp2t": "ts"}
# What others wrote is shown to browsers under our address: it must not act there.
_POLICIES = {
    "text/html": "default-src 'none'; style-src 'unsafe-inline'",
    "text/xml": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to send. frame: from 1; None: the instance. held: the instance, where it has been read already."""

    instance: StoredInstance
    frame: int | None
    form: Form
    media_type: str
    held: Held | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a request is about. body: of the only part, where it was made along with the finding."""

    parts: list[Part]
    is_multipart: bool
    wanted: int
    body: Document | None = None


class RenderedResources:
    """What people can look at of a study, series, instance or frame."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._showing = retrieve.showing
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
        """One picture, text or document for an instance or frame; multipart/related of them for more."""
        target = target_of(request)
        frames = _frames(request)
        options = picture_options(request.query)
        ranges = _ranges(request)
        base = self._links.base(request)

        def find() -> _Found:
            held = self._retrieve.held(target, self._links.caller(request)) if target.sop_uid else None
            instances = [held.instance] if held else self._retrieve.instances(target, self._links.caller(request))
            wanted = [(instance, frame) for instance in instances for frame in frames]
            parts, is_multipart = self._plan(wanted, ranges, held)
            body = None if is_multipart else self._body_unless_known(request, parts[0], options, base)
            return _Found(parts, is_multipart, len(wanted), body)

        # In one go: each turn in a thread takes as long as reading the index does.
        found = await self._bridge.run_pixels(find)
        parts = found.parts
        if not found.is_multipart:
            return await self._one(request, parts[0], found.body, options, base)
        made = await self._bridge.run_pixels(self._prepare, parts, options, base)
        parts = [part for part, body in zip(parts, made, strict=False) if body is not None] + parts[len(made) :]
        bodies = [body for body in made if body is not None]
        missing = found.wanted - len(parts)
        response = web.StreamResponse(status=206 if missing else 200)
        if missing:
            response.headers.extend(
                warnings(base, [f"{missing} of {found.wanted} have nothing that can be shown as accepted"])
            )
        writer = Writer()
        response.headers["Content-Type"] = writer.content_type(parts[0].media_type)
        response.headers["Vary"] = "Accept"
        pieces = self._multipart(parts, bodies, options, writer, base)
        return await self._bridge.send(request, response, pieces, waits_for_pixels=len(parts) > len(bodies))

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """A small picture of what stands for the target."""
        target = target_of(request)
        frame = _frames(request)[0]
        options = picture_options(request.query)
        options = replace(
            options,
            media_type=choose(_ranges(request), [Offer(name) for name in MEDIA_TYPES], client_order=True).media_type,
            max_size=max(options.viewport.width, options.viewport.height) if options.viewport else _THUMBNAIL_SIDE,
        )
        base = self._links.base(request)

        def find() -> _Found:
            caller = self._links.caller(request)
            if target.sop_uid:
                held = self._retrieve.held(target, caller)
            else:
                self._retrieve.instances(target, caller)
                held = self._showing.read(self._showing.representative(target, caller.scope).target)
            part = self._thumbnail_part(held, frame, options)
            return _Found([part], False, 1, self._body_unless_known(request, part, options, base))

        found = await self._bridge.run_pixels(find)
        return await self._one(request, found.parts[0], found.body, options, base, "thumbnail")

    def _plan(
        self,
        wanted: Sequence[tuple[StoredInstance, int | None]],
        ranges: Sequence[MediaType],
        held: Held | None,
    ) -> tuple[list[Part], bool]:
        """(what can be sent of all that is wanted, whether as multipart). Raises NotAcceptable when nothing can.

        held: the only instance, when there is one.
        """
        parts = []
        available: list[str] = []
        is_multipart = len(wanted) > 1
        for instance, frame in wanted:
            known = held or self._showing.read(instance.target)
            form = self._showing.form(known)
            if frame is not None:
                form = self._form_of_frame(known, form, frame)
            # Several can only be sent as multipart, also to those who name but the type of a part.
            offers = [Offer(name) for name in form.media_types]
            offers += [Offer(name, multipart=True) for name in form.media_types]
            try:
                offer = choose(ranges, offers, client_order=True)
            except NotAcceptable:
                available += form.media_types
                continue
            is_multipart = is_multipart or offer.multipart
            # Of thousands they would fill the memory.
            parts.append(Part(known.instance, frame, form, offer.media_type, held))
        if not parts:
            raise none_acceptable(tuple(dict.fromkeys(available))) if available else _nothing()
        return parts, is_multipart

    def _form_of_frame(self, held: Held, form: Form, frame: int) -> Form:
        count = self._showing.number_of_frames(held)
        if frame > count > 0:
            raise NotFound(f"There is no frame {frame}: the instance has {count}")
        return form if count else Form("none")

    def _thumbnail_part(self, held: Held, frame: int | None, options: RenderOptions) -> Part:
        form = self._showing.form(held)
        if frame is not None:
            form = self._form_of_frame(held, form, frame)
        if not form.is_picture and not form.label:
            raise _nothing()
        return Part(held.instance, frame, form, options.media_type, held)

    async def _one(
        self,
        request: web.Request,
        part: Part,
        body: Document | None,
        options: RenderOptions,
        base: str,
        kind: str = "rendered",
    ) -> web.StreamResponse:
        """body: None when the client has it."""
        headers = {"Vary": "Accept", "Cache-Control": "private, no-cache"}
        etag = _etag(part, options, base)
        if body is None:
            unchanged = single.not_modified(request, etag, headers)
            assert unchanged is not None, "only what the client has is not made"
            return unchanged
        headers |= {"Content-Location": _location(base, part, kind), **headers_of(part)}
        return await single.answer(
            request,
            self._bridge,
            etag=etag,
            media_type=content_type(part.media_type),
            size_bytes=body.size_bytes,
            read=body.pieces if body.data is None else body.data,
            headers=headers,
        )

    def _body_unless_known(
        self, request: web.Request, part: Part, options: RenderOptions, base: str
    ) -> Document | None:
        """None when the client has it already; blocking."""
        known = single.not_modified(request, _etag(part, options, base))
        return self.body(part, options, base) if known is None else None

    def body(self, part: Part, options: RenderOptions, base: str) -> Document:
        """What is sent for a part; blocking."""
        held = part.held or self._showing.read(part.instance.target)
        if part.media_type in MEDIA_TYPES:
            options = replace(options, media_type=part.media_type)
            if part.form.is_picture:
                picture = self._showing.picture(held, part.frame, options)
            else:
                picture = Rendered(options.media_type, self._showing.icon(part.form.label, options))
            return _in_memory(part.media_type, picture.data)
        if part.form.kind == "report":
            return _in_memory(part.media_type, self._showing.report(held, part.media_type, base))
        return self._showing.document(held, part.media_type)

    def _prepare(self, parts: Sequence[Part], options: RenderOptions, base: str) -> list[Document | None]:
        """Bodies of the first parts, None for those that cannot be made. Raises what the last one did when none can."""
        made: list[Document | None] = []
        size = 0
        failure: Exception | None = None
        for part in parts[:_PREPARED_PARTS]:
            try:
                made.append(self.body(part, options, base))
                size += made[-1].size_bytes if made[-1] and part.form.kind not in ("document", "video") else 0
            except (Undecodable, NotFound, NotAcceptable) as error:
                made.append(None)
                failure = error
            if size > _PREPARED_BYTES:
                break
        if failure is not None and len(made) == len(parts) and not any(made):
            raise failure
        return made

    def _multipart(
        self, parts: Sequence[Part], bodies: Sequence[Document], options: RenderOptions, writer: Writer, base: str
    ) -> Iterator[bytes]:
        """The whole multipart body; blocking."""
        for position, part in enumerate(parts):
            body = bodies[position] if position < len(bodies) else self.body(part, options, base)
            headers = {"Content-Location": _location(base, part, "rendered")}
            yield writer.part(content_type(part.media_type), headers)
            yield from body.pieces(0, None)
        yield writer.end()


def _in_memory(media_type: str, data: bytes) -> Document:
    return Document(media_type, len(data), lambda offset, length: single.cut([data], offset, length), data)


def _etag(part: Part, options: RenderOptions, base: str) -> str:
    options = replace(options, media_type=part.media_type) if part.media_type in MEDIA_TYPES else options
    return single.etag_of(__version__, part.instance.blob.digest, repr(part), repr(options), base)


def _location(base: str, part: Part, kind: str) -> str:
    return url_of(base, part.instance.target) + (f"/frames/{part.frame}" if part.frame else "") + f"/{kind}"


def content_type(media_type: str) -> str:
    """The media type with its charset."""
    return f"{media_type}; charset=utf-8" if media_type in ("text/html", "text/plain") else media_type


def headers_of(part: Part) -> dict[str, str]:
    """Of what is no picture."""
    if part.media_type in MEDIA_TYPES:
        return {}
    headers = {"X-Content-Type-Options": "nosniff"}
    if part.media_type in _POLICIES:
        headers["Content-Security-Policy"] = _POLICIES[part.media_type]
    if part.form.kind in ("document", "video"):
        suffix = _SUFFIXES.get(part.media_type) or part.media_type.rpartition("/")[2].lower()
        headers["Content-Disposition"] = f'inline; filename="{part.instance.target.sop_uid}.{suffix}"'
    return headers


def _ranges(request: web.Request) -> tuple[MediaType, ...]:
    return accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))


def _frames(request: web.Request) -> list[int | None]:
    text = request.match_info.get("frames")
    return [None] if text is None else list(frame_numbers(text))


def _nothing() -> NotAcceptable:
    return NotAcceptable("There is nothing here that can be shown; the attributes are at …/metadata")
