"""Searches over HTTP: parameters that all of them know, and the forms of an answer (PS3.18 8.3.4, 10.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web
from multidict import CIMultiDict, MultiMapping

from pacs.dicom import keys as query_keys
from pacs.dicom.json_model import dumps
from pacs.dicom.matchers import Matcher, TagPath
from pacs.dicom.matching import element_at, is_universal
from pacs.dicom.model import Attributes
from pacs.dicom.xml_model import to_xml
from pacs.errors import Invalid
from pacs.web import single
from pacs.web.links import Links
from pacs.web.multipart import Writer, boundary_of
from pacs.web.negotiate import DICOM_JSON, DICOM_XML, Offer, accepted, choose
from pacs.web.one_data_set import in_utf_8
from pacs.web.warning import warnings

OFFERS = (Offer(DICOM_JSON), Offer("application/json"), Offer(DICOM_XML, multipart=True))
# Parameters that are no keys; those of the later editions that change nothing here are known by name, so that they do
# not draw a warning.
CONTROLS = frozenset({"limit", "offset", "fuzzymatching", "includefield", "accept", "charset"})


@dataclass(frozen=True, slots=True)
class DataSetSearch:
    """A search over data sets that are kept whole. returned: top-level attributes that come back; None for all.

    ignored: names of parameters that mean nothing here.
    """

    keys: dict[TagPath, Matcher]
    returned: frozenset[str] | None
    limit: int
    offset: int
    ignored: tuple[str, ...]


def parse_search(
    parameters: MultiMapping[str], *, default_limit: int, max_limit: int, always: frozenset[str]
) -> DataSetSearch:
    """All attributes come back unless ``includefield`` names some; always: those that do even so.

    Raises Invalid naming a parameter whose value cannot be meant.
    """
    ignored: list[str] = []
    found: dict[TagPath, Matcher] = {}
    returned: set[str] = set(always)
    for tag, path, matcher in asked_keys(parameters, ignored):
        returned.add(tag)
        if not is_universal(matcher):
            found[path] = matcher
    fields = listed(parameters, "includefield")
    for name in fields:
        try:
            returned.add(query_keys.resolve(name)[0])
        except Invalid:
            if name.lower() != "all":
                ignored.append(name)
    is_all = not fields or any(name.lower() == "all" for name in fields)
    return DataSetSearch(
        query_keys.combine(found),
        None if is_all else frozenset(returned),
        min(number(parameters, "limit", default_limit, least=1), max_limit),
        number(parameters, "offset", 0, least=0),
        tuple(ignored),
    )


def asked_keys(
    parameters: MultiMapping[str], ignored: list[str], controls: frozenset[str] = CONTROLS
) -> Iterator[tuple[str, TagPath, Matcher]]:
    """Each key among the parameters: the top-level tag that it leads through, its path, and what it asks.

    ignored: names that mean nothing here are added to it. controls: names that are no keys. Raises Invalid naming a
    key whose value cannot be meant.
    """
    is_fuzzy = flag(parameters, "fuzzymatching")
    for name in dict.fromkeys(parameters):
        if name.lower() in controls:
            continue
        try:
            tag = query_keys.resolve(name)[0]
        except Invalid:
            ignored.append(name)
            continue
        if tag not in query_keys.CONTROLS:
            yield tag, *query_keys.from_parameter(name, parameters.getall(name), fuzzy=is_fuzzy)


def answer_search(
    request: web.Request, links: Links, search: DataSetSearch, found: Sequence[Attributes]
) -> web.Response:
    """The page of what was found that the search asks for: 200, 204 or 304."""
    offer = choose(accepted(request.headers.getall("Accept", []), request.query.getall("accept", [])), OFFERS)
    page = found[search.offset : search.offset + search.limit]
    texts = []
    if search.ignored:
        texts.append(f"These parameters are not supported and were ignored: {', '.join(search.ignored)}")
    headers: CIMultiDict[str] = CIMultiDict()
    remaining = len(found) - search.offset - len(page)
    if page and remaining > 0:
        texts.append(f"There are {remaining} additional results that can be requested")
        following = next_url(request, links, search.limit, search.offset + len(page))
        headers.add("Link", f'<{following}>; rel="next"')
    headers.extend(warnings(links.base(request), texts))
    headers["Vary"] = "Accept"
    if not page:
        return web.Response(status=204, headers=headers)
    rows = [dumps(in_utf_8(_returned(item, search.returned))) for item in page]
    headers["ETag"] = single.etag_of(str(offer), *map(str, headers.items()), *map(bytes.hex, rows))
    unchanged = single.not_modified(request, headers["ETag"], headers)
    if unchanged is not None:
        return unchanged
    headers["Content-Type"], body = body_of(rows, offer, headers["ETag"])
    return web.Response(body=body, headers=headers)


def _returned(item: Attributes, tags: frozenset[str] | None) -> Mapping[str, Any]:
    if tags is None:
        return item
    found = {tag: element_at(item, tag) for tag in tags}
    return {tag: element for tag, element in sorted(found.items()) if element is not None and "@" not in tag}


def next_url(request: web.Request, links: Links, limit: int, offset: int) -> str:
    """The same search, from another row on."""
    kept = [(name, value) for name, value in request.query.items() if name.lower() not in ("limit", "offset")]
    kept += [("limit", str(limit)), ("offset", str(offset))]
    return f"{links.here(request)}?{urlencode(kept)}"


def body_of(rows: Sequence[bytes], offer: Offer, etag: str) -> tuple[str, bytes]:
    """(Content-Type, body): one JSON array, or a part for each row (PS3.18 10.6.3.3.2)."""
    if not offer.multipart:
        return offer.media_type, b"[" + b",".join(rows) + b"]"
    writer = Writer(boundary_of(etag))
    parts = [writer.part(DICOM_XML) + to_xml(orjson.loads(row)) for row in rows]
    return writer.content_type(DICOM_XML), b"".join(parts) + writer.end()


def listed(parameters: MultiMapping[str], name: str) -> Sequence[str]:
    """Values of a parameter that may be repeated and may hold a list."""
    values = [piece.strip() for value in parameters.getall(name, []) for piece in value.split(",")]
    return [value for value in dict.fromkeys(values) if value]


def number(parameters: MultiMapping[str], name: str, default: int, *, least: int) -> int:
    if name not in parameters:
        return default
    text = parameters[name].strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 1000 or int(text) < least:
        raise Invalid(f"{name} must be a whole number, at least {least}", name)
    return int(text)


def flag(parameters: MultiMapping[str], name: str) -> bool:
    text = parameters.get(name, "").strip().lower()
    if text not in ("", "true", "false", "1", "0"):
        raise Invalid(f"{name} must be true or false", name)
    return text in ("true", "1")
