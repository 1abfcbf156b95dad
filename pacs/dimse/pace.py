"""A limit on how many bytes a second go to one peer, over however many associations."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

_PIECE_BYTES = 64 * 1024


class Pace:
    """bytes_per_s: on average over a second; after a rest no more than a second's worth goes at once."""

    def __init__(self, bytes_per_s: int) -> None:
        self.bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0  # when all that was let through so far will have taken its time

    def of(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same bytes, in small pieces, none sooner than the limit allows."""
        for chunk in chunks:
            for start in range(0, len(chunk), _PIECE_BYTES):
                piece = chunk[start : start + _PIECE_BYTES]
                time.sleep(self._wait_s(len(piece)))
                yield piece

    def _wait_s(self, size: int) -> float:
        now = time.monotonic()
        with self._lock:
            wait_s = max(0.0, self._free_at - now)
            self._free_at = max(self._free_at, now - _BURST_S) + size / self.bytes_per_s
        return wait_s


_BURST_S = 1.0
