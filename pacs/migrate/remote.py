"""Another archive's HTTP interface, asked patiently: what may pass is tried again, ever more seldom."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import orjson
from yarl import URL

from pacs.errors import Invalid, NotFound, OutOfResources, PacsError

log = logging.getLogger(__name__)
T = TypeVar("T")

_CONNECT_TIMEOUT_S = 15.0
_READ_TIMEOUT_S = 180.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# What another try may change: timeouts, too many requests, and the server's or its proxy's troubles.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_JSON_BYTES = 256 << 20

TROUBLES = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)


class Unanswered(PacsError):
    """The other server answered something that is not what was asked for."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Remote:
    """One server. Use it in an ``async with``.

    login: user and password. headers: sent with every request. ca_file: certificates that its own is checked with.
    attempts: how often a request is made before it counts as failed.
    """

    def __init__(
        self,
        url: str,
        *,
        login: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        ca_file: Path | None = None,
        attempts: int = 7,
        connections: int = 8,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(f"{url!r} is not a URL such as http://server:8042", "--url")
        self.url = url.rstrip("/")
        self._login = aiohttp.BasicAuth(*login, encoding="utf-8") if login else None
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "pacs migrate", **(headers or {})}
        self._ca_file = ca_file
        self._attempts = attempts
        self._connections = connections

    async def __aenter__(self) -> Self:
        try:
            context = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
        except OSError as error:
            raise Invalid(f"{self._ca_file}: {error.strerror or 'no certificates'}", "--cacert") from None
        self._session = aiohttp.ClientSession(
            auth=self._login,
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=context),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_READ_TIMEOUT_S),
            trust_env=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def json(self, path: str, parameters: Mapping[str, str] | None = None, *, accept: str = "*/*") -> Any:
        """A JSON answer; None for one without content. Tried again as ``attempt`` says."""

        async def ask() -> Any:
            async with self.get(path, parameters, accept=accept) as answer:
                body = bytearray()
                async for piece in answer.content.iter_chunked(1 << 20):
                    body += piece
                    if len(body) > _MAX_JSON_BYTES:
                        raise Unanswered(f"{path}: the answer is too long")
                if answer.status == 204 or not body.strip():
                    return None
                try:
                    return orjson.loads(body)
                except orjson.JSONDecodeError:
                    raise Unanswered(f"{path}: the answer is not JSON") from None

        return await self.attempt(ask)

    @asynccontextmanager
    async def get(
        self, path: str, parameters: Mapping[str, str] | None = None, *, accept: str = "*/*"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One answer, to be read in pieces; not tried again. path: below the server's URL, escaped.

        Raises Invalid when the server wants another login, NotFound, Unanswered with other statuses, _Passing for what
        may pass, and what aiohttp raises.
        """
        url = URL(self.url + path, encoded=True)
        if parameters:
            url = url.update_query(parameters)
        async with self._session.get(url, headers={"Accept": accept}) as answer:
            if answer.status in (401, 403):
                raise Invalid(
                    f"{self.url} refuses: {answer.status} {answer.reason} (--user, --token or --header)", "--url"
                )
            if answer.status in (404, 410):
                raise NotFound(f"{path}: {answer.status} {answer.reason}")
            if answer.status in _PASSING:
                raise _Passing(f"{path}: {answer.status} {answer.reason}", answer.status, _retry_after_s(answer))
            if answer.status >= 300 or answer.status == 206:
                raise Unanswered(f"{path}: {answer.status} {answer.reason}", answer.status)
            yield answer

    async def attempt(self, function: Callable[[], Awaitable[T]]) -> T:
        """What ``function`` returns, called until it works.

        Raises OutOfResources when the server cannot be reached any more, Unanswered when it goes on failing.
        """
        pause_s = _FIRST_PAUSE_S
        for attempt in range(1, self._attempts + 1):
            try:
                return await function()
            except (*TROUBLES, _Passing) as error:
                if attempt == self._attempts:
                    if isinstance(error, aiohttp.ClientConnectorError):
                        raise OutOfResources(f"{self.url} cannot be reached; run it again to go on") from error
                    raise Unanswered(str(error) or type(error).__name__, getattr(error, "status", 0)) from error
                wait_s = max(pause_s * random.uniform(0.5, 1.0), getattr(error, "retry_after_s", 0.0))
                log.info("trying again in %.1f s: %s", wait_s, error)
                await asyncio.sleep(wait_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        raise AssertionError("unreachable")


class _Passing(Unanswered):
    """An answer that another try may better."""

    def __init__(self, message: str, status: int, retry_after_s: float) -> None:
        super().__init__(message, status)
        self.retry_after_s = retry_after_s


def _retry_after_s(answer: aiohttp.ClientResponse) -> float:
    """Seconds that the server asks for; a date is not looked at."""
    text = answer.headers.get("Retry-After", "").strip()
    return min(float(text), 120.0) if text.isdecimal() else 0.0


async def for_each(items: AsyncIterable[T], work: Callable[[T], Awaitable[None]], limit: int) -> None:
    """``work`` on all items, ``limit`` at a time. The first exception ends it all, and is raised."""
    slots = asyncio.Semaphore(limit)

    async def run(item: T) -> None:
        try:
            await work(item)
        finally:
            slots.release()

    try:
        async with asyncio.TaskGroup() as group:
            async for item in items:
                await slots.acquire()
                group.create_task(run(item))
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
