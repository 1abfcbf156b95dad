"""WADO-URI: one instance by query parameters (PS3.18 Section 9)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from aiohttp import web

from pacs import __version__
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom import uids
from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.errors import Invalid, NotAcceptable, NotFound
from pacs.imaging.options import MAX_SIDE, MEDIA_TYPES, RenderOptions, Viewport, Window
from pacs.imaging.transcode import can_transcode
from pacs.services.retrieve import BulkContent, Content, Rendered, Retrieve
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.negotiate import DICOM, MediaType, Offer, accepted, choose, parse_media_type, split_outside_quotes

ANNOTATIONS = ("patient", "technique")
# Of a picture only (PS3.18 9.1.2.2).
_OF_PICTURES = (
    *("annotation", "rows", "columns", "region", "windowCenter", "windowWidth", "frameNumber", "imageQuality"),
    *("presentationUID", "presentationSeriesUID"),
)
# PS3.18 9.1.2.2.9: a request shall not ask for these.
_FORBIDDEN_SYNTAXES = frozenset({syntaxes.IMPLICIT_VR_LITTLE_ENDIAN, syntaxes.EXPLICIT_VR_BIG_ENDIAN})
_DOCUMENT, _DOCUMENT_TYPE = "00420011", "00420012"
_CHARSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,39}|\*")
_ANNOTATES = "annotation" in {field.name for field in fields(RenderOptions)}


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
    """The ``/wado`` resource."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/wado", self.get)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A DICOM file, a picture, or an encapsulated document."""
        wanted = _wanted(request)
        (instance, *_), forms = await self._bridge.run(self._look, wanted, self._links.caller(request))
        names = [MediaType(media.name, {}, media.q) for media in wanted.media_types]
        media_type = choose(names, [Offer(form) for form in forms], client_order=True).media_type
        if media_type not in MEDIA_TYPES and wanted.of_pictures:
            name = wanted.of_pictures[0]
            raise Invalid(f"{name} applies to pictures, not to {media_type}", name)
        if media_type == DICOM:
            return await self._file(request, instance, wanted)
        if wanted.transfer_syntax_uid:
            raise Invalid(f"transferSyntax applies to {DICOM}, not to {media_type}", "transferSyntax")
        if media_type in MEDIA_TYPES:
            return await self._picture(request, instance, wanted, media_type)
        return await self._document(request, instance, media_type)

    def _look(self, wanted: Wanted, caller: Caller) -> tuple[list[StoredInstance], tuple[str, ...]]:
        """The instance, and the media types that it can be sent as, its default first (PS3.18 9.1.2.1, 8.7.2)."""
        found = self._retrieve.instances(wanted.target, caller)
        if wanted.presentation is not None:
            try:
                self._retrieve.instances(wanted.presentation, caller)
            except NotFound as error:
                raise NotFound("There is no such presentation state") from error
            raise NotAcceptable("Presentation states cannot be applied; without presentationUID the image can be sent")
        frames = self._retrieve.number_of_frames(wanted.target)
        if frames == 0:
            document = self._document_type(wanted.target)
            return found, (DICOM, document) if document else (DICOM,)
        is_video = syntaxes.find(found[0].transfer_syntax_uid).video
        if is_video:
            return found, (DICOM,)
        is_picture = frames == 1 or bool(wanted.of_pictures)
        return found, (*MEDIA_TYPES, DICOM) if is_picture else (DICOM, *MEDIA_TYPES)

    async def _file(self, request: web.Request, instance: StoredInstance, wanted: Wanted) -> web.StreamResponse:
        content = await self._bridge.run_pixels(self._open, instance, wanted.transfer_syntax_uid)
        uid = content.transfer_syntax_uid
        return await single.answer(
            request,
            self._bridge,
            etag=single.etag_of(__version__, instance.blob.digest, instance.transfer_syntax_uid, uid),
            media_type=DICOM,
            size_bytes=content.size_bytes,
            read=lambda offset, length: single.cut(content.chunks(), offset, length),
            on_close=content.close,
        )

    def _open(self, instance: StoredInstance, asked: str) -> Content:
        """PS3.18 9.1.2.2.9: what was asked if it can be made, else Explicit VR Little Endian; videos only as stored."""
        stored = instance.transfer_syntax_uid
        explicit = syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
        if asked in ("*", stored) or (not asked and syntaxes.find(stored).video):
            return self._retrieve.file(instance)
        return self._retrieve.file(instance, asked if asked and can_transcode(stored, asked) else explicit)

    async def _picture(
        self, request: web.Request, instance: StoredInstance, wanted: Wanted, media_type: str
    ) -> web.StreamResponse:
        options = await self._bridge.run(self._options, wanted, media_type)
        etag = single.etag_of(__version__, "wado", instance.blob.digest, str(wanted.frame), repr(options))
        unchanged = single.not_modified(request, etag)
        if unchanged is not None:
            return unchanged
        picture: Rendered = await self._bridge.run_pixels(
            self._retrieve.rendered, instance.target, wanted.frame, options
        )
        return await single.answer(
            request,
            self._bridge,
            etag=etag,
            media_type=picture.media_type,
            size_bytes=len(picture.data),
            read=lambda offset, length: single.cut([picture.data], offset, length),
        )

    def _options(self, wanted: Wanted, media_type: str) -> RenderOptions:
        more: dict[str, Any] = {}
        if wanted.annotation:
            if not _ANNOTATES:
                raise NotAcceptable("Nothing can be written onto pictures; without annotation the image can be sent")
            more["annotation"] = wanted.annotation
        return RenderOptions(media_type, wanted.quality, wanted.window, self._viewport(wanted), **more)

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

    async def _document(self, request: web.Request, instance: StoredInstance, media_type: str) -> web.StreamResponse:
        """The encapsulated document as it is (PS3.3 C.24.2)."""
        size_bytes = await self._bridge.run(lambda: self._document_of(instance.target).size_bytes)

        def read(offset: int, length: int | None) -> Iterator[bytes]:
            yield from self._document_of(instance.target, offset, length).chunks

        return await single.answer(
            request,
            self._bridge,
            etag=single.etag_of(__version__, instance.blob.digest, _DOCUMENT),
            media_type=media_type,
            size_bytes=size_bytes,
            read=read,
            # What a sender made must not run as ours.
            headers={"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"},
        )

    def _document_of(self, target: Target, offset: int = 0, length: int | None = None) -> BulkContent:
        attributes = self._retrieve.attributes(target)
        inline = attributes.get(_DOCUMENT, {}).get("InlineBinary")
        # Its exact length, where it is told: the value is padded to an even one.
        exact = _first(attributes, "00420015", 0)
        if inline is None:
            whole = self._retrieve.bulkdata(target, _DOCUMENT)
            size = exact if 0 < exact <= whole.size_bytes else whole.size_bytes
            wanted = size - offset if length is None else min(length, size - offset)
            part = self._retrieve.bulkdata(target, _DOCUMENT, offset, wanted)
            return BulkContent(size, offset, wanted, part.media_type, part.transfer_syntax_uid, part.chunks)
        data = base64.b64decode(inline)
        data = data[:exact] if 0 < exact <= len(data) else data
        part_of_it = data[offset:] if length is None else data[offset : offset + length]
        return BulkContent(len(data), offset, len(part_of_it), "", "", iter([part_of_it]))

    def _document_type(self, target: Target) -> str:
        attributes = self._retrieve.attributes(target)
        element = attributes.get(_DOCUMENT, {})
        if "BulkDataURI" not in element and "InlineBinary" not in element:
            return ""
        try:
            return parse_media_type(str(_first(attributes, _DOCUMENT_TYPE, ""))).name
        except Invalid:
            return ""


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
