"""The last lines of this machine's log, as pages or as a stream. For those who look after the archive."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import orjson
from aiohttp import web

from pacs.dicom.model import Role
from pacs.errors import Forbidden, Invalid
from pacs.journal import LEVELS, Journal, Lines, Wanted
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.negotiate import Offer, accepted, choose
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter

_DEFAULT_LIMIT, _MAX_LIMIT = 200, 2000
_LONGEST_TEXT = 200
_STREAM = "text/event-stream"
_LOOK_S = 0.5
_COMMENT_S = 15.0  # proxies cut connections that say nothing
_LISTING = (
    Parameter(
        "after",
        "query",
        "Cursor to go on after; without it the last lines",
        {"type": "string"},
        "",
    ),
    Parameter(
        "level",
        "query",
        "The least severe",
        {"type": "string", "enum": list(LEVELS)},
        "WARNING",
    ),
    Parameter(
        "text",
        "query",
        "What has to be in a line",
        {"type": "string", "maxLength": _LONGEST_TEXT},
        "stored",
    ),
    Parameter(
        *("requests", "query", "Whether HTTP requests that went well are wanted too"),
        {"type": "string", "enum": ["true", "false"]},
        "false",
    ),
    Parameter(
        "limit",
        "query",
        "Lines at most",
        {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT},
        10,
    ),
)
OPERATIONS = (
    Operation(
        *("GET", "/log", "getLog", "Administration", "The last lines of the log", ""),
        {200: (JSON, _STREAM), 406: (PROBLEM,)},
        tuple(parameter.name for parameter in _LISTING),
        own=_LISTING,
        needs=Role.ADMIN,
    ),
)


def addition(journal: Journal | None) -> Addition:
    """journal: None where this is not allowed, and requests are told so."""
    stopping = asyncio.Event()

    async def close() -> None:
        stopping.set()

    offered = OPERATIONS if journal is not None else ()
    return Addition(
        offered,
        lambda bridge, links: LogLines(journal, bridge, stopping).routes(),
        close,
    )


class LogLines:
    """stopping: set when streams have to end."""

    def __init__(self, journal: Journal | None, bridge: Bridge, stopping: asyncio.Event) -> None:
        self._allowed = journal
        self._bridge = bridge
        self._stopping = stopping

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [web.get("/log", self.get)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A page as JSON, or with ``Accept: text/event-stream`` the last lines and all that come, without end."""
        journal = self._journal()
        query = request.query
        level = query.get("level", LEVELS[0])
        if level not in LEVELS:
            raise Invalid(f"level is one of {', '.join(LEVELS)}", "level")
        text = query.get("text", "")
        if len(text) > _LONGEST_TEXT:
            raise Invalid(f"text has at most {_LONGEST_TEXT} characters", "text")
        with_requests = query.get("requests", "true")
        if with_requests not in ("true", "false"):
            raise Invalid("requests is true or false", "requests")
        number = query.get("limit", str(_DEFAULT_LIMIT))
        if not re.fullmatch("[0-9]{1,4}", number, re.ASCII) or not 1 <= int(number) <= _MAX_LIMIT:
            raise Invalid(f"limit is 1 to {_MAX_LIMIT}", "limit")
        wanted, limit, after = Wanted(level, text, with_requests == "true"), int(number), query.get("after", "")
        chosen = choose(
            accepted(request.headers.getall("Accept", [])),
            [Offer(JSON), Offer(_STREAM)],
        )
        if chosen.media_type == _STREAM:
            return await self._stream(request, journal, wanted, limit)
        found = await self._page(journal, after, wanted, limit)
        return json_response({"lines": found.lines, "last": found.last, "more": found.more})

    async def _page(self, journal: Journal, after: str, wanted: Wanted, limit: int) -> Lines:
        if not after:
            return await self._bridge.run(journal.newest, wanted, limit)
        try:
            return await self._bridge.run(journal.after, after, wanted, limit)
        except ValueError:
            raise Invalid("this is no cursor of the log", "after") from None

    async def _stream(self, request: web.Request, journal: Journal, wanted: Wanted, limit: int) -> web.StreamResponse:
        """Each event is a list of lines; its id is the cursor, so that a browser that comes again misses none."""
        after = request.headers.get("Last-Event-ID", "") or request.query.get("after", "")
        found = await self._page(journal, after, wanted, limit)
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = _STREAM
        await response.prepare(request)
        await response.write(b": lines from here\n\n")
        loop = asyncio.get_running_loop()
        spoken = 0.0
        while request.transport is not None and not request.transport.is_closing() and not self._stopping.is_set():
            if found.lines:
                await response.write(b"id: %s\ndata: %s\n\n" % (found.last.encode(), orjson.dumps(found.lines)))
                spoken = loop.time()
            elif loop.time() - spoken > _COMMENT_S:
                await response.write(b": nothing new\n\n")
                spoken = loop.time()
            if not found.more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _LOOK_S)
            found = await self._bridge.run(journal.after, found.last, wanted, limit)
        return response

    def _journal(self) -> Journal:
        if self._allowed is None:
            raise Forbidden("administration over HTTP is switched off here (ADMIN_API)")
        return self._allowed
