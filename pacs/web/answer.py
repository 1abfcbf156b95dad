"""Answers in JSON that no cache keeps: of resources that change, or that not everybody may see."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from aiohttp import web

from pacs.web.operations import JSON


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type=JSON,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
