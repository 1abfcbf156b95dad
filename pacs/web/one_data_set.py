"""One data set as the body of a request or of an answer (PS3.18 Annex F, PS3.19 Annex A)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from aiohttp import web

from pacs.dicom.charset import UTF_8
from pacs.dicom.encode import SPECIFIC_CHARACTER_SET
from pacs.dicom.json_model import dumps
from pacs.dicom.json_reader import checked, read_json
from pacs.dicom.model import Attributes
from pacs.dicom.xml_model import from_xml, to_xml
from pacs.errors import Invalid, Rejected, TooLarge
from pacs.web.inflate import CODINGS, Inflater
from pacs.web.multipart import Reader
from pacs.web.negotiate import DICOM_JSON, DICOM_XML, MULTIPART, Offer, accepted, choose, parse_media_type
from pacs.web.problem import Answered, problem

_TYPES = (DICOM_JSON, "application/json", DICOM_XML)
_OFFERS = tuple(map(Offer, _TYPES))
_MAX_UNPACKED_BYTES = 4 << 20


async def read_data_set(request: web.Request, *, is_answered: bool = True) -> dict[str, Any]:
    """The body of a request. is_answered: with a data set, too.

    It may be the only part of a multipart/related, and packed. Raises NotAcceptable when the answer could not be sent,
    Invalid for what is not one data set, TooLarge, and Answered (415) for another media type or coding.
    """
    if is_answered:
        answer_type(request)
    media = parse_media_type(request.headers.get("Content-Type") or DICOM_JSON)
    media_type = media.content
    if media_type not in _TYPES:
        raise Answered(problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body must be {' or '.join(_TYPES)}"))
    document = _unpacked(await request.read(), request.headers.get("Content-Encoding", "").strip().lower())
    if media.name == MULTIPART:
        document = _only_part(document, media.parameters.get("boundary", ""))
    try:
        found = [from_xml(document)] if media_type == DICOM_XML else read_json(document)
        if len(found) != 1:
            raise Invalid(f"The body has {len(found)} data sets, and takes one", "body")
        return checked(found[0]).attributes
    except Rejected as error:
        raise Invalid(str(error), "body") from error


def _unpacked(body: bytes, coding: str) -> bytes:
    if coding in ("", "identity"):
        return body
    if coding not in CODINGS:
        raise Answered(problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body may be packed as {', '.join(CODINGS)}"))
    inflater = Inflater(coding)
    found = bytearray()
    for piece in inflater.feed(body):
        found += piece
        if len(found) > _MAX_UNPACKED_BYTES:
            raise TooLarge(f"The body is larger than {_MAX_UNPACKED_BYTES} bytes when it is unpacked")
    inflater.close()
    return bytes(found)


def _only_part(body: bytes, boundary: str) -> bytes:
    reader = Reader(boundary)
    # What it gives is valid until it goes on.
    found = [bytes(event) for event in reader.feed(body) if isinstance(event, memoryview)]
    found += [bytes(event) for event in reader.close() if isinstance(event, memoryview)]
    if reader.parts != 1:
        raise Invalid(f"The body has {reader.parts} parts, and takes one", "body")
    return b"".join(found)


def answer_data_set(
    request: web.Request, attributes: Attributes, status: HTTPStatus = HTTPStatus.OK, location: str = ""
) -> web.Response:
    """The answer in the form that the client accepts. Raises NotAcceptable."""
    media_type = answer_type(request)
    told = in_utf_8(attributes)
    body = to_xml(told) if media_type == DICOM_XML else dumps(told)
    headers = {"Vary": "Accept", "Cache-Control": "no-store", **({"Location": location} if location else {})}
    return web.Response(status=status, body=body, content_type=media_type, headers=headers)


def answer_type(request: web.Request) -> str:
    """The media type of the answer, to be known before anything is changed. Raises NotAcceptable."""
    ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
    return choose(ranges, _OFFERS).media_type


def in_utf_8(attributes: Attributes) -> Attributes:
    """With the character set that JSON and XML are in (PS3.18 F.2), whichever modalities are sent."""
    if SPECIFIC_CHARACTER_SET not in attributes:
        return attributes
    return {**attributes, SPECIFIC_CHARACTER_SET: {"vr": "CS", "Value": [UTF_8]}}
