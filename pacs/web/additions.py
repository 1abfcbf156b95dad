"""Resources of services beyond DICOMweb's own: what each offers, and the routes that serve it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.operations import Operation


@dataclass(frozen=True, slots=True)
class Addition:
    """operations: for the OpenAPI document. routes: of the same paths, below the API root.

    root_routes: of those that are outside it, from the server's root. close: ends connections that would last, when
    the server stops. start: begins what goes on beside requests.
    """

    operations: tuple[Operation, ...]
    routes: Callable[[Bridge, Links], list[web.RouteDef]]
    close: Callable[[], Awaitable[None]] | None = None
    root_routes: Callable[[Bridge, Links], list[web.RouteDef]] = lambda bridge, links: []
    start: Callable[[], Awaitable[None]] | None = None
