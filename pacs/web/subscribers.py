"""UPS-RS: subscriptions, and the connections that events go out by (PS3.18 11.10 to 11.13, 8.10.4, 8.10.5)."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import quote

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from pacs.errors import NotFound, PacsError
from pacs.services.ups import ProcedureSteps
from pacs.services.ups_attributes import UPS_PUSH
from pacs.services.ups_events import Notifications, Pending
from pacs.services.ups_subscriptions import FILTERED_STEPS, check_sees_all
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.searching import flag
from pacs.web.target import uid_of
from pacs.web.workitems import ae_title_of

log = logging.getLogger(__name__)

_LOOK_S = 0.5  # for new events: any node may have made them
_CLOSE_S = 2.0
_PING_S = 30.0  # so that a connection that is dead is known to be
_NO_KEYS = frozenset({"deletionlock", "filter", "accept", "charset"})
_FILTER_KEY = re.compile(r",(?=[A-Za-z0-9.]+=)")


class Connections(set[web.WebSocketResponse]):
    """Those that are open."""

    async def close(self) -> None:
        """The server stops: subscribers may connect to another node."""
        closing = [one.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops") for one in self]
        await asyncio.gather(*closing, return_exceptions=True)


class Subscribers:
    """Subscriptions over HTTP, and one WebSocket a subscriber. connections: where those that are open are noted."""

    def __init__(
        self,
        steps: ProcedureSteps,
        notifications: Notifications,
        connections: Connections,
        bridge: Bridge,
        links: Links,
    ) -> None:
        self._steps = steps
        self._notifications = notifications
        self._connections = connections
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        one = "/workitems/{workitem}/subscribers/{aetitle}"
        return [
            web.post(one, self.subscribe),
            web.delete(one, self.unsubscribe),
            web.post(f"{one}/suspend", self.suspend),
            web.get("/subscribers/{aetitle}", self.connect),
        ]

    async def subscribe(self, request: web.Request) -> web.Response:
        """201 with where to connect to (11.10)."""
        sop_uid, ae_title = uid_of(request, "workitem") or "", ae_title_of(request)
        asked = _filter_of(request) if sop_uid == FILTERED_STEPS else None
        await self._bridge.run(
            self._steps.subscriptions.subscribe,
            sop_uid,
            ae_title,
            "web",
            self._links.caller(request),
            has_lock=flag(request.query, "deletionlock"),
            asked=asked,
        )
        base = re.sub("^http", "ws", self._links.base(request))
        place = f"{base}/subscribers/{quote(request.match_info['aetitle'], safe='')}"
        return web.Response(status=HTTPStatus.CREATED, headers={"Content-Location": place})

    async def unsubscribe(self, request: web.Request) -> web.Response:
        """11.11."""
        sop_uid, ae_title = uid_of(request, "workitem") or "", ae_title_of(request)
        caller = self._links.caller(request)
        if not await self._bridge.run(self._steps.subscriptions.unsubscribe, sop_uid, ae_title, caller):
            raise NotFound("There is no such subscription")
        return web.Response(status=HTTPStatus.OK)

    async def suspend(self, request: web.Request) -> web.Response:
        """11.12."""
        sop_uid, ae_title = uid_of(request, "workitem") or "", ae_title_of(request)
        caller = self._links.caller(request)
        if not await self._bridge.run(self._steps.subscriptions.suspend, sop_uid, ae_title, caller):
            raise NotFound("There is no such subscription")
        return web.Response(status=HTTPStatus.OK)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Open Notification Connection (8.10.4): events come as text messages, each in DICOM JSON.

        What waits comes first. An event is done with when the client has answered a ping that was sent after it, as
        every WebSocket library does while it is read from. The newest connection of an AE is the one that is served.
        """
        ae_title = ae_title_of(request)
        check_sees_all(self._links.caller(request))
        socket = web.WebSocketResponse(autoping=False, max_msg_size=4096, timeout=_CLOSE_S)
        await socket.prepare(request)
        channel = await self._bridge.run(self._notifications.open, ae_title)
        log.info("subscriber connected ae=%s from=%s", ae_title, self._links.caller(request).address)
        self._connections.add(socket)
        pongs: asyncio.Queue[bytes] = asyncio.Queue()
        sending = asyncio.create_task(self._send(socket, ae_title, channel, pongs))
        try:
            await _listen(socket, pongs)
        finally:
            self._connections.discard(socket)
            sending.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await sending
            with suppress(PacsError):
                await self._bridge.run(self._notifications.close, ae_title, channel)
            log.info("subscriber went ae=%s", ae_title)
        return socket

    async def _send(
        self, socket: web.WebSocketResponse, ae_title: str, channel: str, pongs: asyncio.Queue[bytes]
    ) -> None:
        """Until the connection ends, or is not the AE's any more."""
        loop = asyncio.get_running_loop()
        number = 0
        heard = loop.time()
        try:
            while not socket.closed:
                events = await self._look(ae_title, channel)
                if events is None:
                    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"connected anew elsewhere")
                    return
                if not events and loop.time() - heard < _PING_S:
                    await asyncio.sleep(_LOOK_S)
                    continue
                for each in events:
                    number += 1
                    await socket.send_str(_report(each, number))
                if not await self._is_answered(socket, str(number).encode(), pongs):
                    await socket.close(code=WSCloseCode.GOING_AWAY, message=b"no answer")
                    return
                heard = loop.time()
                await self._bridge.run(self._notifications.received, events)
        except PacsError as error:
            log.warning("events wait ae=%s reason=%s", ae_title, error)
        finally:
            await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)

    async def _look(self, ae_title: str, channel: str) -> list[Pending] | None:
        """The next events; none while the index cannot be reached. None: the connection is not the AE's any more."""
        try:
            return await self._bridge.run(self._notifications.pending, ae_title, channel)
        except PacsError as error:
            log.warning("events wait ae=%s reason=%s", ae_title, error)
            return []

    async def _is_answered(self, socket: web.WebSocketResponse, token: bytes, pongs: asyncio.Queue[bytes]) -> bool:
        """Whether the client answers a ping in time."""
        await socket.ping(token)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._bridge.idle_s):
                while await pongs.get() != token:
                    continue
                return True
        return False


async def _listen(socket: web.WebSocketResponse, pongs: asyncio.Queue[bytes]) -> None:
    """Answer pings and note pongs until the connection ends; what else a client says means nothing here."""
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type is WSMsgType.PONG:
            pongs.put_nowait(bytes(message.data))
        elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            return


def _report(each: Pending, number: int) -> str:
    """One event (PS3.18 11.13, PS3.7 10.3.1)."""
    command = {
        "00000002": {"vr": "UI", "Value": [UPS_PUSH]},
        "00000110": {"vr": "US", "Value": [(number - 1) % 0xFFFF + 1]},
        "00001000": {"vr": "UI", "Value": [each.event.sop_uid]},
        "00001002": {"vr": "US", "Value": [each.event.kind]},
    }
    return orjson.dumps({**command, **each.event.attributes}).decode()


def _filter_of(request: web.Request) -> list[tuple[str, str]]:
    """Keys of a filtered subscription: filter=key=value,key=value, or parameters as a search has them."""
    found = [(name, value) for name, value in request.query.items() if name.lower() not in _NO_KEYS]
    for text in request.query.getall("filter", []):
        for pair in _FILTER_KEY.split(text):
            name, _, value = pair.partition("=")
            found.append((name.strip(), value))
    return found
