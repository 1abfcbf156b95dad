"""How a request says who asks: the one interface between ways to log in and the server."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from pacs.services.access import Principal


class Way(Protocol):
    """One way to tell who asks: passwords, tokens, sessions, OpenID Connect, share links."""

    async def identify(self, request: web.Request) -> Principal | None:
        """None when the request carries nothing of this way.

        Raises Unauthorized when it does, and that does not hold.
        """
