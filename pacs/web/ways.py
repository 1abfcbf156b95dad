"""The ways to say who asks that are always there: Basic credentials (RFC 7617), API tokens (RFC 6750), sessions."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from aiohttp import web

from pacs.errors import OutOfResources, PacsError, Unauthorized
from pacs.services.access import Principal
from pacs.services.authentication import Authentication
from pacs.services.roster import Account
from pacs.services.sessions import Session, Sessions
from pacs.services.tokens import PREFIX, Tokens

# Where a request keeps its Session, when it has one.
SESSION = "pacs.session"
_MOST_WAITING = 100  # for a password to be looked at


class Hashing:
    """The thread in which passwords are looked at, apart from all others: who guesses makes only guessers wait."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication
        self._thread = ThreadPoolExecutor(1, "passwords")
        self._waiting = 0

    async def verify(self, name: str, password: str, address: str) -> Account:
        """Raises Unauthorized, TooOften; OutOfResources when more are waiting than can be served soon."""
        known = self._authentication.remembered(name, password)
        if known is not None:
            return known
        if self._waiting >= _MOST_WAITING:
            raise OutOfResources("too many are logging in at once")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._authentication.verify, name, password, address)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class BasicWay:
    """address: of whoever sent a request."""

    def __init__(self, hashing: Hashing, address: Callable[[web.Request], str]) -> None:
        self._hashing = hashing
        self._address = address

    async def identify(self, request: web.Request) -> Principal | None:
        given = credentials(request, "basic")
        if given is None:
            return None
        name, password = _unpacked(given)
        account = await self._hashing.verify(name, password, self._address(request))
        return Principal(account.name, account.role, account.scope, "password")


class TokenWay:
    def __init__(self, tokens: Tokens, note_use: Callable[..., None]) -> None:
        self._tokens = tokens
        self._note_use = note_use

    async def identify(self, request: web.Request) -> Principal | None:
        given = credentials(request, "bearer")
        if given is None or not given.startswith(PREFIX):
            return None
        now = datetime.now(UTC)
        found = self._tokens.principal(given, now)
        if found is None:
            raise Unauthorized("the token is not known here, or is over")
        principal, token = found
        if token.used != now.date():
            with suppress(PacsError):  # who asks need not wait for the index to be written
                await asyncio.to_thread(self._note_use, token, now.date())
        return principal


class SessionWay:
    """A cookie that does not hold is as good as none: whoever has it may still be let in as nobody."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def identify(self, request: web.Request) -> Principal | None:
        text = request.cookies.get(self._sessions.cookie) if "Cookie" in request.headers else None
        found = self._sessions.read(text) if text else None
        if found is None and text and self._sessions.may_be_too_new(text):
            await asyncio.to_thread(self._sessions.look_again)
            found = self._sessions.read(text)
        if found is None:
            return None
        request[SESSION], principal = found
        return principal


def session_of(request: web.Request) -> Session | None:
    found = request.get(SESSION)
    return found if isinstance(found, Session) else None


def credentials(request: web.Request, scheme: str) -> str | None:
    """What follows the scheme in Authorization; None for another scheme, or no such header."""
    name, _, rest = request.headers.get("Authorization", "").partition(" ")
    return rest.strip() if name.lower() == scheme else None


def _unpacked(given: str) -> tuple[str, str]:
    try:
        data = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unauthorized("the Basic credentials cannot be read") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # what old clients send
    name, colon, password = text.partition(":")
    if not colon:
        raise Unauthorized("the Basic credentials cannot be read")
    return name, password
