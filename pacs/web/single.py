"""Resources that are one body: validators, conditions and byte ranges (RFC 9110 8.8, 13, 14)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import TypeVar

from aiohttp import web

from pacs.services.file_span import FileSpan, Piece
from pacs.web.bridge import Bridge

# Bytes are cut to bytes, parts of files to parts of files.
P = TypeVar("P", bytes, FileSpan, Piece)

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", re.IGNORECASE)


def etag_of(*parts: str) -> str:
    """A strong validator, quotes included: the same parts, the same bytes."""
    return f'"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"'


def not_modified(request: web.Request, etag: str, headers: Mapping[str, str] | None = None) -> web.Response | None:
    """304 when the client has this version (If-None-Match), else None."""
    condition = request.headers.get("If-None-Match")
    if condition is None:
        return None
    known = {value.strip().removeprefix("W/") for value in condition.split(",")}
    if "*" in known or etag in known:
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag, **(headers or {})})
    return None


async def answer(
    request: web.Request,
    bridge: Bridge,
    *,
    etag: str,
    media_type: str,
    size_bytes: Callable[[], int] | int = 0,
    read: Callable[[int, int | None], Iterator[Piece]] | bytes,
    headers: Mapping[str, str] | None = None,
    on_close: Callable[[], None] | None = None,
) -> web.StreamResponse:
    """Send one body, whole or the range that was asked: 200, 206, 304 or 416.

    size_bytes: a function when it is costly to know; it is then only called for a range. read: (offset, length or
    None for the rest) → pieces; or the body itself where it is in memory, whose size need not be told then. on_close:
    called in the end, whatever the answer was. Several ranges in one request are answered with the whole, as RFC 9110
    14.2 allows.
    """
    if isinstance(read, bytes):
        size_bytes = len(read)
    short, status, span = await _outcome(request, bridge, etag, size_bytes, headers)
    if short is not None:
        if on_close is not None:
            await bridge.run(on_close)
        return short
    everything = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": media_type, **(headers or {})}
    response = web.StreamResponse(status=status, headers=everything)
    offset, length, size = span or (0, None, size_bytes if isinstance(size_bytes, int) else None)
    if length is not None:
        response.headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{size}"
    if isinstance(read, bytes):
        assert on_close is None, "what is in memory needs no closing"
        return await bridge.send_bytes(request, response, read if length is None else read[offset : offset + length])
    response.content_length = size if length is None else length
    return await bridge.send(request, response, read(offset, length), on_close)


async def _outcome(
    request: web.Request,
    bridge: Bridge,
    etag: str,
    size_bytes: Callable[[], int] | int,
    headers: Mapping[str, str] | None,
) -> tuple[web.Response | None, HTTPStatus, tuple[int, int, int] | None]:
    """(an answer without body or None, status, (offset, length, size) of the range to send or None for all)."""
    unchanged = not_modified(request, etag, headers)
    if unchanged is not None:
        return unchanged, HTTPStatus.NOT_MODIFIED, None
    wanted = asked_range(request, etag)
    if wanted is None:
        return None, HTTPStatus.OK, None
    size = size_bytes if isinstance(size_bytes, int) else await bridge.run(size_bytes)
    span = resolve_range(wanted, size)
    if span is None:
        fields = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes", "ETag": etag}
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return web.Response(status=status, headers=fields), status, None
    return None, HTTPStatus.PARTIAL_CONTENT, (*span, size)


def asked_range(request: web.Request, etag: str) -> tuple[int | None, int | None] | None:
    """(first, last) of a single byte range; None when there is none that should be heeded."""
    if request.method != "GET":
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition.strip() != etag:
        return None
    match = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if match is None or len(match[1]) > 18 or len(match[2]) > 18 or not (match[1] or match[2]):
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if first is not None and last is not None and last < first:
        return None
    return first, last


def resolve_range(wanted: tuple[int | None, int | None], size: int) -> tuple[int, int] | None:
    """(offset, length) within ``size`` bytes, None when the range lies outside."""
    first, last = wanted
    if first is None:
        length = min(last or 0, size)
        return (size - length, length) if length else None
    if first >= size:
        return None
    return first, (size if last is None else min(last + 1, size)) - first


def cut(pieces: Iterable[P], offset: int, length: int | None) -> Iterator[P]:
    """A range of what ``pieces`` give, which are closed at the end."""
    try:
        for piece in pieces:
            if offset >= len(piece):
                offset -= len(piece)
                continue
            piece = piece[offset:] if offset else piece
            offset = 0
            if length is not None:
                piece = piece[:length]
                length -= len(piece)
            yield piece
            if length == 0:
                return
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
