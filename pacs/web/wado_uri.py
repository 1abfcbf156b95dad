"""WADO-URI: one instance by query parameters (PS3.18 Section 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from pacs import __version__
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom import uids
from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.errors import Invalid, NotAcceptable, NotFound
from pacs.imaging.forms import Form
from pacs.imaging.options import ANNOTATIONS, MAX_SIDE, MEDIA_TYPES, RenderOptions, Viewport, Window
from pacs.index.base import Held
from pacs.services.retrieve import Content, Retrieve
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.negotiate import DICOM, MediaType, Offer, accepted, choose, parse_media_type, split_outside_quotes
from pacs.web.rendered import Part, RenderedResources, content_type, headers_of

# Of a picture only (PS3.18 9.1.2.2).
_OF_PICTURES = (
    *("annotation", "rows", "columns", "region", "windowCenter", "windowWidth", "frameNumber", "imageQuality"),
    *("presentationUID", "presentationSeriesUID"),
)
# PS3.18 9.1.2.2.9: a request shall not ask for these.
_FORBIDDEN_SYNTAXES = frozenset({syntaxes.IMPLICIT_VR_LITTLE_ENDIAN, syntaxes.EXPLICIT_VR_BIG_ENDIAN})
_CHARSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,39}|\*")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parameters of one request, checked. Numbers from 1; region: left, top, right, bottom, each 0 to 1."""

    target: Target
    media_types: tuple[MediaType, ...]
    transfer_syntax_uid: str
    annotation: tuple[str, ...]
    rows: int | None
    columns: int | None
    region: tuple[float, float, float, float] | None
    window: Window | None
    frame: int | None
    quality: int
    presentation: Target | None
    of_pictures: tuple[str, ...]


class WadoUri:
    """The ``/wado`` resource. rendered: makes what people can look at."""

    def __init__(self, retrieve: Retrieve, rendered: RenderedResources, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._rendered = rendered
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/wado", self.get)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A DICOM file, or what WADO-RS renders."""
        wanted = _wanted(request)
        held, form = await self._bridge.run(self._look, wanted, self._links.caller(request))
        names = [MediaType(media.name, {}, media.q) for media in wanted.media_types]
        is_many = form.kind == "image" and self._retrieve.showing.number_of_frames(held) > 1
        offers = [Offer(name) for name in _offered(form, is_many and not wanted.of_pictures)]
        media_type = choose(names, offers, client_order=True).media_type
        if media_type not in MEDIA_TYPES and wanted.of_pictures:
            name = wanted.of_pictures[0]
            raise Invalid(f"{name} applies to pictures, not to {media_type}", name)
        if media_type == DICOM:
            return await self._file(request, held.instance, wanted)
        if wanted.transfer_syntax_uid:
            raise Invalid(f"transferSyntax applies to {DICOM}, not to {media_type}", "transferSyntax")
        return await self._shown(request, Part(held.instance, wanted.frame, form, media_type, held), wanted)

    def _look(self, wanted: Wanted, caller: Caller) -> tuple[Held, Form]:
        held = self._retrieve.held(wanted.target, caller)
        if wanted.presentation is not None:
            try:
                self._retrieve.instances(wanted.presentation, caller)
            except NotFound as error:
                raise NotFound("There is no such presentation state") from error
            raise NotAcceptable("Presentation states cannot be applied; without presentationUID the image can be sent")
        return held, self._retrieve.showing.form(held)

    async def _file(self, request: web.Request, instance: StoredInstance, wanted: Wanted) -> web.StreamResponse:
        content = await self._bridge.run_pixels(self._open, instance, wanted.transfer_syntax_uid)
        uid = content.transfer_syntax_uid
        return await single.answer(
            request,
            self._bridge,
            etag=single.etag_of(__version__, instance.blob.digest, instance.transfer_syntax_uid, uid),
            media_type=DICOM,
            size_bytes=content.size_bytes,
            read=lambda offset, length: single.cut(content.segments(), offset, length),
            on_close=content.close,
        )

    def _open(self, instance: StoredInstance, asked: str) -> Content:
        """PS3.18 9.1.2.2.9: what was asked if it can be made, else Explicit VR Little Endian; videos only as stored."""
        stored = instance.transfer_syntax_uid
        explicit = syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
        if asked in ("*", stored) or (not asked and syntaxes.find(stored).video):
            return self._retrieve.file(instance)
        makeable = asked and asked in self._retrieve.transfer_syntaxes(instance)
        return self._retrieve.file(instance, asked if makeable else explicit)

    async def _shown(self, request: web.Request, part: Part, wanted: Wanted) -> web.StreamResponse:
        base = self._links.base(request)
        viewport = await self._bridge.run(self._viewport, wanted)
        options = RenderOptions(
            part.media_type if part.media_type in MEDIA_TYPES else MEDIA_TYPES[0],
            wanted.quality,
            wanted.window,
            viewport,
            annotation=wanted.annotation,
        )
        etag = single.etag_of(__version__, "wado", part.instance.blob.digest, repr(part), repr(options), base)
        unchanged = single.not_modified(request, etag)
        if unchanged is not None:
            return unchanged
        body = await self._bridge.run_pixels(self._rendered.body, part, options, base)
        return await single.answer(
            request,
            self._bridge,
            etag=etag,
            media_type=content_type(part.media_type),
            size_bytes=body.size_bytes,
            read=body.pieces if body.data is None else body.data,
            headers=headers_of(part),
        )

    def _viewport(self, wanted: Wanted) -> Viewport | None:
        """rows and columns are maxima, the proportions stay (PS3.18 9.1.2.2.4, 9.1.2.2.5)."""
        columns, rows = wanted.columns, wanted.rows
        if wanted.region is None:
            return None if columns is None and rows is None else Viewport(columns or MAX_SIDE, rows or MAX_SIDE)
        attributes = self._retrieve.attributes(wanted.target)
        height, width = (_first(attributes, tag, 0) for tag in ("00280010", "00280011"))
        left, top, right, bottom = wanted.region
        x, y, w, h = left * width, top * height, (right - left) * width, (bottom - top) * height
        if min(round(w), round(h)) < 1:
            raise Invalid("region is smaller than a pixel", "region")
        if columns is None and rows is None:
            columns = min(round(w), MAX_SIDE)
        return Viewport(columns or MAX_SIDE, rows or MAX_SIDE, x, y, w, h)


def _offered(form: Form, is_many: bool) -> tuple[str, ...]:
    """Media types of an instance, its default first (PS3.18 9.1.2.1, 8.7.2): a picture of an image, a text of a report.

    is_many: of more frames than one, none of which was asked for.
    """
    if form.kind == "report" or (form.kind == "image" and not is_many):
        return (*form.media_types, DICOM)
    return (DICOM, *form.media_types)


def _wanted(request: web.Request) -> Wanted:
    """Raises Invalid naming the parameter that is missing or wrong."""
    given = {name: request.query[name].strip() for name in request.query}
    if given.get("requestType") != "WADO":
        raise Invalid("requestType must be WADO", "requestType")
    target = Target(*(_uid(given, name) for name in ("studyUID", "seriesUID", "objectUID")))
    if given.get("anonymize", "no").lower() not in ("yes", "no"):
        raise Invalid("anonymize must be yes", "anonymize")
    if given.get("anonymize", "no").lower() == "yes":
        raise NotAcceptable("Objects cannot be de-identified here; without anonymize the object can be sent as it is")
    media_types = _media_types(request, given)
    _check_charset(given.get("charset", ""))
    annotation = tuple(piece.strip() for piece in given.get("annotation", "").split(",") if piece.strip())
    if not set(annotation) <= set(ANNOTATIONS):
        raise Invalid(f"annotation must be one or more of {', '.join(ANNOTATIONS)}", "annotation")
    presentation = None
    if "presentationUID" in given or "presentationSeriesUID" in given:
        series_uid, sop_uid = _uid(given, "presentationSeriesUID"), _uid(given, "presentationUID")
        presentation = Target(target.study_uid, series_uid, sop_uid)
    return Wanted(
        target,
        media_types,
        _transfer_syntax(given, media_types),
        annotation,
        _whole(given, "rows", MAX_SIDE),
        _whole(given, "columns", MAX_SIDE),
        _region(given),
        _window(given),
        _whole(given, "frameNumber", 999_999_999),
        _whole(given, "imageQuality", 100) or 90,
        presentation,
        tuple(name for name in _OF_PICTURES if name in given),
    )


def _uid(given: Mapping[str, str], name: str) -> str:
    if not given.get(name):
        raise Invalid(f"{name} is missing", name)
    if not uids.is_possible(given[name]):
        raise Invalid(f"{name} is not a UID", name)
    return given[name]


def _media_types(request: web.Request, given: Mapping[str, str]) -> tuple[MediaType, ...]:
    """contentType is a list in order of preference; without it the Accept header decides (PS3.18 9.1.2.2.1)."""
    text = given.get("contentType", "")
    if not text:
        return accepted(request.headers.getall("Accept", []))
    found = []
    for item in split_outside_quotes(text, ","):
        try:
            media = parse_media_type(item)
        except Invalid as error:
            raise Invalid("contentType must be media types, joined by commas", "contentType") from error
        found.append(media)
    return tuple(found)


def _transfer_syntax(given: Mapping[str, str], media_types: tuple[MediaType, ...]) -> str:
    named = [media.parameters.get("transfer-syntax", "") for media in media_types if media.name == DICOM]
    uid = given.get("transferSyntax", "")
    if "transferSyntax" not in given:
        return named[0] if named else ""
    if uid != "*" and not (re.fullmatch(r"[0-9.]{1,64}", uid) and uids.is_possible(uid)):
        raise Invalid("transferSyntax must be a UID", "transferSyntax")
    if uid in _FORBIDDEN_SYNTAXES:
        raise Invalid("transferSyntax must not be Implicit VR or Big Endian", "transferSyntax")
    return uid


def _check_charset(text: str) -> None:
    """Text is sent in the character set of the document itself; what cannot be a name at all is told."""
    for piece in text.split(",") if text else ():
        if not _CHARSET.fullmatch(piece.partition(";")[0].strip()):
            raise Invalid("charset must be names of character sets, joined by commas", "charset")


def _region(given: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    if "region" not in given:
        return None
    pieces = given["region"].split(",")
    if len(pieces) != 4:
        raise Invalid("region must be xmin,ymin,xmax,ymax", "region")
    left, top, right, bottom = (_number(piece, "region") for piece in pieces)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise Invalid("region must be xmin,ymin,xmax,ymax within 0 and 1, the minima smaller", "region")
    return left, top, right, bottom


def _window(given: Mapping[str, str]) -> Window | None:
    names = ("windowCenter", "windowWidth")
    present = [name for name in names if name in given]
    if not present:
        return None
    for name in names:
        if not given.get(name):
            raise Invalid(f"{name} is missing: windowCenter and windowWidth go together", name)
    center, width = (_number(given[name], name) for name in names)
    if width < 1:
        raise Invalid("windowWidth must be at least 1", "windowWidth")
    return Window(center, width)


def _whole(given: Mapping[str, str], name: str, most: int) -> int | None:
    if name not in given:
        return None
    text = given[name]
    if not (text.isascii() and text.isdigit() and len(text) < 12 and 1 <= int(text) <= most):
        raise Invalid(f"{name} must be a whole number, 1 to {most}", name)
    return int(text)


def _number(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise Invalid(f"{name} must be decimal numbers", name) from error
    if not abs(number) < 1e30:
        raise Invalid(f"{name} must be decimal numbers", name)
    return number


def _first(attributes: Mapping[str, Any], tag: str, default: Any) -> Any:
    values = attributes.get(tag, {}).get("Value")
    return values[0] if values and values[0] is not None else default
