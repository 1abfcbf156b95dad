"""How a request says who asks: the one interface between ways to log in and the server."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from pacs.dicom.model import Role, Scope
from pacs.services.access import Principal

# Where a request keeps its Principal once that is known; ``Links.caller`` reads it.
PRINCIPAL = "pacs.principal"
# Of requests to what everybody may see: whatever they reach by mistake shows them nothing.
NOBODY = Principal("anonymous", Role.READER, Scope(frozenset(), frozenset(), frozenset()))


class Way(Protocol):
    """One way to tell who asks: passwords, tokens, sessions, OpenID Connect, share links."""

    async def identify(self, request: web.Request) -> Principal | None:
        """None when the request carries nothing of this way.

        Raises Unauthorized when it does, and that does not hold.
        """
