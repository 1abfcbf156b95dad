"""The change feed: what was stored, replaced and deleted, in order, as pages or as a stream.

Every change has a cursor, greater than those of all changes before it. A reader keeps the last cursor that it has dealt
with and asks for what came after: nothing is left out, nothing comes twice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress

import orjson
from aiohttp import web

from pacs.errors import Gone, Invalid, PacsError
from pacs.index.work import Change
from pacs.services.change_feed import ChangeFeed
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.negotiate import Offer, accepted, choose
from pacs.web.operations import PROBLEM, Operation, Parameter

_DEFAULT_LIMIT, _MAX_LIMIT = 1000, 5000
_STREAM_PAGE = 500
_LOOK_S = 0.5
_COMMENT_S = 15.0  # proxies cut connections that say nothing
_NOW = "now"
_JSON, _STREAM = "application/json", "text/event-stream"


OPERATIONS = (
    Operation(
        "GET",
        "/changes",
        "getChanges",
        "Follow-up",
        "What was stored, replaced and deleted, in order",
        "",
        {200: (_JSON, _STREAM), 406: (PROBLEM,), 410: (PROBLEM,)},
        ("since", "limit"),
        own=(
            Parameter(
                "since",
                "query",
                "Cursor to go on after; `now`: the newest there is",
                {
                    "oneOf": [
                        {"type": "integer", "minimum": 0},
                        {"type": "string", "enum": ["now"]},
                    ]
                },
                0,
            ),
            Parameter(
                "limit",
                "query",
                "Changes at most",
                {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT},
                10,
            ),
        ),
    ),
)


def addition(feed: ChangeFeed) -> Addition:
    stopping = asyncio.Event()

    async def close() -> None:
        stopping.set()

    return Addition(
        OPERATIONS,
        lambda bridge, links: Changes(feed, bridge, links, stopping).routes(),
        close,
    )


class Changes:
    """stopping: set when streams have to end."""

    def __init__(self, feed: ChangeFeed, bridge: Bridge, links: Links, stopping: asyncio.Event) -> None:
        self._feed = feed
        self._bridge = bridge
        self._links = links
        self._stopping = stopping

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [web.get("/changes", self.get)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A page as JSON, or with ``Accept: text/event-stream`` all that comes from then on, without end."""
        offers = [Offer(_JSON), Offer(_STREAM)]
        chosen = choose(accepted(request.headers.getall("Accept", [])), offers)
        if chosen.media_type == _STREAM:
            return await self._stream(request)
        since = _since(request)
        asked = _number(request, "limit")
        limit = _DEFAULT_LIMIT if asked is None else asked
        if not 1 <= limit <= _MAX_LIMIT:
            raise Invalid(f"limit is 1 to {_MAX_LIMIT}", "limit")
        after = await self._bridge.run(self._start, since)
        page = await self._bridge.run(self._feed.page, after, limit, self._links.caller(request))
        body = {
            "changes": [change.as_json() for change in page.changes],
            "last": page.last,
            "more": page.looked_at == limit and await self._bridge.run(self._is_more, page.last),
        }
        return json_response(body)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        since = _since(request)
        header = request.headers.get("Last-Event-ID", "")
        if re.fullmatch("[0-9]{1,18}", header):
            since = int(header)
        after = await self._bridge.run(self._start, since)
        caller = self._links.caller(request)
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = _STREAM
        await response.prepare(request)
        await response.write(b": changes from here\n\n")
        loop = asyncio.get_running_loop()
        spoken = loop.time()
        while request.transport is not None and not request.transport.is_closing() and not self._stopping.is_set():
            try:
                page = await self._bridge.run(self._feed.page, after, _STREAM_PAGE, caller)
            except PacsError:
                break  # the client comes again, with the last cursor that it has seen
            if page.looked_at:
                after = page.last
                if page.changes:
                    await response.write(b"".join(_event(change) for change in page.changes))
                    spoken = loop.time()
                continue
            if loop.time() - spoken > _COMMENT_S:
                await response.write(b": nothing new\n\n")
                spoken = loop.time()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_S)
        return response

    def _is_more(self, after: int) -> bool:
        _, newest = self._feed.span()
        return newest > after

    def _start(self, since: int | str | None) -> int:
        """The cursor to go on after. Raises Gone when what followed it has been forgotten, Invalid when it is none."""
        oldest, newest = self._feed.span()
        if since is None:
            return oldest
        if isinstance(since, str):
            return newest
        if since < oldest:
            raise Gone(
                "changes after this cursor are not kept any more: look through the studies (QIDO-RS), then go on from "
                f"the newest cursor, {newest}"
            )
        if since > newest:
            raise Invalid(
                f"there has been no change with this cursor; the newest is {newest}",
                "since",
            )
        return since


def _event(change: Change) -> bytes:
    kind = change.kind.name.lower()
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        change.cursor,
        kind.encode(),
        orjson.dumps(change.as_json()),
    )


def _since(request: web.Request) -> int | str | None:
    return _NOW if request.query.getall("since", []) == [_NOW] else _number(request, "since")


def _number(request: web.Request, name: str) -> int | None:
    values: Sequence[str] = request.query.getall(name, [])
    if not values:
        return None
    if len(values) > 1 or not values[0].isascii() or not values[0].isdigit() or len(values[0]) > 18:
        raise Invalid(f"{name} is one whole number", name)
    return int(values[0])
