"""QIDO-RS: searching (PS3.18 10.6)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson
from aiohttp import web
from multidict import CIMultiDict

from pacs.dicom import keys as query_keys
from pacs.dicom.matchers import Matcher, Single, TagPath, UidList
from pacs.dicom.matching import is_universal
from pacs.dicom.model import Caller, Level, Target
from pacs.errors import Invalid
from pacs.index.base import Fields, Order, Page, Query
from pacs.index.listing import RECEIVED
from pacs.services.query import QueryService
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links, url_of
from pacs.web.negotiate import accepted, choose
from pacs.web.searching import CONTROLS, OFFERS, asked_keys, body_of, flag, listed, next_url, number
from pacs.web.target import uid_of
from pacs.web.warning import warnings

_RETRIEVE_URL, _RETRIEVE_AE_TITLE, _AVAILABILITY = "00081190", "00080054", "00080056"
_MODALITIES = "00080061"
_PATIENT_ID, _STUDY_UID, _SERIES_UID, _SOP_UID = "00100020", "0020000D", "0020000E", "00080018"
_UNIQUE = {
    Level.PATIENT: frozenset({_PATIENT_ID}),
    Level.STUDY: frozenset({_STUDY_UID}),
    Level.SERIES: frozenset({_STUDY_UID, _SERIES_UID}),
    Level.IMAGE: frozenset({_STUDY_UID, _SERIES_UID, _SOP_UID}),
}
_LARGEST_OFFSET = 1 << 62
# Parameters that the standard does not have.
_CONTROLS = CONTROLS | {"orderby", "search", "count", "labels"}


@dataclass(frozen=True, slots=True)
class Search:
    """What one request asks. ignored: names that mean nothing here; paging: limit and offset as they are used."""

    query: Query
    ignored: tuple[str, ...]
    limit: int
    offset: int


class Qido:
    """default_limit, max_limit: rows a page when no limit is asked, and at most."""

    def __init__(
        self,
        query: QueryService,
        bridge: Bridge,
        links: Links,
        *,
        retrieve_ae_title: str,
        default_limit: int = 100,
        max_limit: int = 5000,
    ) -> None:
        self._query = query
        self._bridge = bridge
        self._links = links
        self._retrieve_ae_title = retrieve_ae_title
        self._default_limit = default_limit
        self._max_limit = max_limit

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/patients", self.patients),
            web.get("/studies", self.studies),
            web.get("/series", self.series),
            web.get("/instances", self.instances),
            web.get("/patients/{patient}/studies", self.studies),
            web.get("/studies/{study}/series", self.series),
            web.get("/studies/{study}/instances", self.instances),
            web.get("/series/{series}/instances", self.instances),
            web.get("/studies/{study}/series/{series}/instances", self.instances),
        ]

    async def patients(self, request: web.Request) -> web.Response:
        return await self._search(request, Level.PATIENT, {Level.PATIENT})

    async def studies(self, request: web.Request) -> web.Response:
        return await self._search(request, Level.STUDY, {Level.PATIENT, Level.STUDY})

    async def series(self, request: web.Request) -> web.Response:
        levels = {Level.SERIES}
        if "study" not in request.match_info:
            levels |= {Level.PATIENT, Level.STUDY}
        return await self._search(request, Level.SERIES, levels)

    async def instances(self, request: web.Request) -> web.Response:
        """PS3.18 10.6.3.3: what the path does not pin down comes with each row."""
        levels = {Level.IMAGE}
        if "series" not in request.match_info:
            levels |= {Level.SERIES}
        if "study" not in request.match_info:
            levels |= {Level.PATIENT, Level.STUDY, Level.SERIES}
        return await self._search(request, Level.IMAGE, levels)

    async def _search(self, request: web.Request, level: Level, levels: set[Level]) -> web.Response:
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        offer = choose(ranges, OFFERS)
        search = self._parse(request, level, frozenset(levels))
        base = self._links.base(request)
        caller = self._links.caller(request)
        page, total, rows = await self._bridge.run(self._find, search, caller, base)
        texts = []
        if search.ignored:
            texts.append(f"These parameters are not supported and were ignored: {', '.join(search.ignored)}")
        headers: CIMultiDict[str] = CIMultiDict()
        if search.query.count:
            headers["X-Total-Count"] = str(total or 0)
        if total is not None and page.next is not None:
            remaining = max(total - search.offset - len(page.rows), 1)
            texts.append(f"There are {remaining} additional results that can be requested")
            headers.add(
                "Link", f'<{next_url(request, self._links, search.limit, search.offset + len(page.rows))}>; rel="next"'
            )
        if page.inconsistent:
            texts.append("Study attributes differ between instances of a study; those stored last are shown")
        headers.extend(warnings(base, texts))
        headers["Vary"] = "Accept"
        if not rows:
            return web.Response(status=204, headers=headers)
        headers["ETag"] = single.etag_of(str(offer), *(str(field) for field in headers.items()), *map(bytes.hex, rows))
        unchanged = single.not_modified(request, headers["ETag"], headers)
        if unchanged is not None:
            return unchanged
        headers["Content-Type"], body = await self._bridge.run(body_of, rows, offer, headers["ETag"])
        return web.Response(body=body, headers=headers)

    def _parse(self, request: web.Request, level: Level, levels: frozenset[Level]) -> Search:
        parameters = request.query
        ignored: list[str] = []
        limit = min(number(parameters, "limit", self._default_limit, least=1), self._max_limit)
        offset = min(number(parameters, "offset", 0, least=0), _LARGEST_OFFSET)
        fields = Fields(levels, _UNIQUE[level])
        for name in listed(parameters, "includefield"):
            if name.lower() == "all":
                fields = replace(fields, everything=True)
                continue
            try:
                fields = replace(fields, tags=fields.tags | {query_keys.resolve(name)[0]})
            except Invalid:
                ignored.append(name)
        found: dict[TagPath, Matcher] = {}
        for tag, path, matcher in asked_keys(parameters, ignored, _CONTROLS):
            # What is searched by comes back too (PS3.18 10.6.3.3).
            fields = replace(fields, tags=fields.tags | {tag})
            if not is_universal(matcher):
                found[path] = matcher
        keys = dict(query_keys.combine(found))
        # A private attribute comes back from the block of its creator, wherever an instance has that.
        tags = fields.tags | {path[0] for path in keys if "@" in path[0]}
        # One that is asked for without it comes with whom it belongs to.
        creators = {f"{tag[:4]}00{tag[4:6]}" for tag in tags if tag[3] in "13579BDF" and "@" not in tag}
        fields = replace(fields, tags=tags | creators)
        within = None
        study_uid = uid_of(request, "study")
        series_uid = uid_of(request, "series")
        if study_uid is not None:
            within = Target(study_uid, series_uid)
        elif series_uid is not None:
            keys[(_SERIES_UID,)] = UidList((series_uid,))
        if "patient" in request.match_info:
            keys[(_PATIENT_ID,)] = Single(request.match_info["patient"])
        query = Query(
            level,
            keys,
            within,
            fields,
            limit=limit,
            offset=offset,
            count=flag(parameters, "count"),
            labels=frozenset(listed(parameters, "labels")),
            text=" ".join(parameters.getall("search", [])),
            order=_order(parameters.getall("orderby", [])),
        )
        return Search(query, tuple(ignored), limit, offset)

    def _find(self, search: Search, caller: Caller, base: str) -> tuple[Page, int | None, list[bytes]]:
        """(page, total when asked or when there is more, its rows as they are sent); runs in a thread."""
        page = self._query.search(search.query, caller)
        total = page.total
        if page.next is not None and total is None:
            # Counting all is only worth its time when there is more than what is sent.
            total = self._query.search(replace(search.query, limit=1, offset=0, count=True), caller).total or 0
        return page, total, [self._decorated(row, search.query, base) for row in page.rows]

    def _decorated(self, row: bytes, query: Query, base: str) -> bytes:
        """The row with where and from whom it can be retrieved, in ascending tag order (PS3.18 F.2.2)."""
        if query.level is Level.PATIENT:
            return row
        attributes = orjson.loads(row)
        if not _value(attributes, _MODALITIES):
            # Without a value it is left out: it is counted, not stored, and OHIF's study list fails on an empty one.
            attributes.pop(_MODALITIES, None)
        within = query.within
        study_uid = _value(attributes, _STUDY_UID) or (within.study_uid if within else "")
        series_uid = sop_uid = None
        if query.level >= Level.SERIES:
            series_uid = _value(attributes, _SERIES_UID) or (within.series_uid if within else None)
        if query.level is Level.IMAGE:
            sop_uid = _value(attributes, _SOP_UID)
        attributes[_RETRIEVE_AE_TITLE] = {"vr": "AE", "Value": [self._retrieve_ae_title]}
        attributes[_AVAILABILITY] = {"vr": "CS", "Value": ["ONLINE"]}
        attributes[_RETRIEVE_URL] = {"vr": "UR", "Value": [url_of(base, Target(study_uid, series_uid, sop_uid))]}
        return orjson.dumps(attributes, option=orjson.OPT_SORT_KEYS)


def _order(asked: list[str]) -> Order | None:
    """Raises Invalid."""
    if not asked:
        return None
    name = asked[0].strip()
    plain = name.removeprefix("-")
    path = () if plain.lower() == "received" else query_keys.resolve(plain)
    if len(asked) > 1 or len(path) > 1:
        raise Invalid("rows can be ordered by one attribute", "orderby")
    return Order(path[0] if path else RECEIVED, name != plain)


def _value(attributes: dict[str, dict[str, list[str]]], tag: str) -> str | None:
    values = attributes.get(tag, {}).get("Value")
    return values[0] if values else None
