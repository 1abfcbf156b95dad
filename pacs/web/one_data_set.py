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
from pacs.errors import Invalid, Rejected
from pacs.web.negotiate import DICOM_JSON, DICOM_XML, Offer, accepted, choose, parse_media_type
from pacs.web.problem import Answered, problem

_TYPES = (DICOM_JSON, "application/json", DICOM_XML)
_OFFERS = tuple(map(Offer, _TYPES))


async def read_data_set(request: web.Request) -> dict[str, Any]:
    """The body of a request that is answered with a data set too.

    Raises NotAcceptable when that could not be sent, Invalid for what is not one data set, and Answered (415) for
    another media type.
    """
    answer_type(request)
    media_type = parse_media_type(request.headers.get("Content-Type") or DICOM_JSON).name
    if media_type not in _TYPES:
        raise Answered(problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body must be {' or '.join(_TYPES)}"))
    document = await request.read()
    try:
        found = [from_xml(document)] if media_type == DICOM_XML else read_json(document)
        if len(found) != 1:
            raise Invalid(f"The body has {len(found)} data sets, and takes one", "body")
        return checked(found[0]).attributes
    except Rejected as error:
        raise Invalid(str(error), "body") from error


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
