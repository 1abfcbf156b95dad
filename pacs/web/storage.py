"""What the archive holds and how it grows, over HTTP. For those who look after it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from pacs.dicom.model import Role
from pacs.errors import Forbidden, Invalid
from pacs.services.growth import Growth, Span
from pacs.services.holdings import Holdings
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.operations import JSON, Operation, Parameter

_GROUP = "Administration"
_SPANS = {"hour": Span.HOUR, "day": Span.DAY}
_USUAL = {Span.HOUR: 48, Span.DAY: 365}
_HISTORY = (
    Parameter(
        "by",
        "query",
        "hour or day, of UTC",
        {"type": "string", "enum": list(_SPANS)},
        "hour",
    ),
    Parameter(
        "buckets",
        "query",
        "Hours or days up to now; 48 and 365 when not given",
        {"type": "integer", "minimum": 1, "maximum": Span.DAY.most},
        48,
    ),
)
OPERATIONS = (
    Operation(
        *(
            "GET",
            "/storage",
            "getStorage",
            _GROUP,
            "What is stored, by modality too, and the disk's space",
            "",
        ),
        {200: (JSON,)},
        needs=Role.ADMIN,
    ),
    Operation(
        *(
            "GET",
            "/storage/history",
            "getStorageHistory",
            _GROUP,
            "What was stored and deleted, by hour or day",
            "",
        ),
        {200: (JSON,)},
        tuple(parameter.name for parameter in _HISTORY),
        own=_HISTORY,
        needs=Role.ADMIN,
    ),
)


@dataclass(frozen=True, slots=True)
class Storage:
    """disk: total, free and reserve in bytes, and where. May block."""

    holdings: Holdings
    growth: Growth
    disk: Callable[[], Mapping[str, Any]]


def addition(storage: Storage | None) -> Addition:
    """storage: None where this is not allowed, and requests are told so."""
    return Addition(
        OPERATIONS if storage is not None else (),
        lambda bridge, links: StorageResources(storage, bridge).routes(),
    )


class StorageResources:
    def __init__(self, storage: Storage | None, bridge: Bridge) -> None:
        self._storage = storage
        self._bridge = bridge

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/storage", self.get),
            web.get("/storage/history", self.history),
        ]

    async def get(self, request: web.Request) -> web.Response:
        storage = self._allowed()
        held = await self._bridge.run(storage.holdings.told, datetime.now(UTC))
        return json_response({**held, "disk": await self._bridge.run(storage.disk)})

    async def history(self, request: web.Request) -> web.Response:
        storage = self._allowed()
        by = request.query.get("by", "hour")
        if by not in _SPANS:
            raise Invalid(f"by is one of {', '.join(_SPANS)}", "by")
        span = _SPANS[by]
        number = request.query.get("buckets", str(_USUAL[span]))
        if not re.fullmatch("[0-9]{1,4}", number, re.ASCII) or not 1 <= int(number) <= span.most:
            raise Invalid(f"buckets is 1 to {span.most}", "buckets")
        found = await self._bridge.run(storage.growth.history, span, int(number), datetime.now(UTC))
        return json_response({"by": by, "buckets": found})

    def _allowed(self) -> Storage:
        if self._storage is None:
            raise Forbidden("administration over HTTP is switched off here (ADMIN_API)")
        return self._storage
