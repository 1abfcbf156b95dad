"""Compressed request bodies, unpacked piece by piece (RFC 9110 8.4.1)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from pacs.errors import Invalid

CODINGS = ("gzip", "x-gzip", "deflate")
_PIECE_BYTES = 1 << 20


class Inflater:
    """Unpacks in pieces of at most a MiB, so that a bomb meets the limit of a request before it meets the memory."""

    def __init__(self, coding: str) -> None:
        self._is_gzip = coding != "deflate"
        self._packed: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises Invalid when the data are not what their coding says."""
        try:
            while data:
                if self._packed is None:
                    self._packed = zlib.decompressobj(self._window_bits(data))
                piece = self._packed.decompress(data, _PIECE_BYTES)
                if piece:
                    yield piece
                if not self._packed.eof:
                    data = self._packed.unconsumed_tail
                    if not piece and not data:
                        return
                    continue
                data = self._packed.unused_data
                # gzip members may follow each other; after deflate there is nothing.
                self._packed = None
                if not self._is_gzip:
                    return
        except zlib.error as error:
            raise Invalid("The body is not what its Content-Encoding says", "Content-Encoding") from error

    def close(self) -> None:
        """Raises Invalid when the body ended within the packed data."""
        if self._packed is not None:
            raise Invalid("The packed body ends early", "Content-Encoding")

    def _window_bits(self, data: bytes) -> int:
        if self._is_gzip:
            return zlib.MAX_WBITS | 16
        # RFC 9110 means zlib's format; some clients send bare deflate data.
        return zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS
