"""``GET /metrics``: what the server counts, as Prometheus reads it; OpenMetrics where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from aiohttp import web

from pacs.dicom.model import Role
from pacs.errors import Forbidden
from pacs.metrics import Sample
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.operations import Operation

_OPENMETRICS = "application/openmetrics-text"
OPERATIONS = (
    Operation(
        *("GET", "/metrics", "getMetrics", "Server", "Metrics, for Prometheus", ""),
        {200: ("text/plain", _OPENMETRICS)},
        is_outside=True,
        needs=Role.ADMIN,
    ),
)


def addition(measures: Callable[[], Sequence[Sample]], *, is_allowed: bool, is_public: bool) -> Addition:
    """measures: all there is to tell, may block. is_allowed: False where nobody may ask, who are told so."""
    resource = MetricsResource(measures if is_allowed else None)
    operations = tuple(replace(operation, is_public=is_public) for operation in OPERATIONS if is_allowed)
    return Addition(operations, lambda bridge, links: [], root_routes=resource.routes)


class MetricsResource:
    def __init__(self, measures: Callable[[], Sequence[Sample]] | None) -> None:
        self._measures = measures

    def routes(self, bridge: Bridge, links: Links) -> list[web.RouteDef]:
        """Paths from the server's root."""

        async def get(request: web.Request) -> web.Response:
            if self._measures is None:
                raise Forbidden("metrics are not shown here (METRICS_PUBLIC, ADMIN_API)")
            samples = await bridge.run(self._measures)
            # Here, not above: a server that nobody asks does without its megabytes.
            from pacs.web.exposition import exposed

            body, content_type = exposed(samples, request.headers.get("Accept", ""))
            return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

        return [web.get("/metrics", get)]
