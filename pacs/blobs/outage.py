"""Not waiting again and again for a server that is known to be away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pacs.errors import OutOfResources

_PAUSE_S = 1.0
# What fails faster than this may fail as often as it likes.
_SLOW_S = 1.0


class Outage:
    """After a call that waited in vain, others fail at once until one at a time, in turn, finds the server back.

    Else every thread of the archive would in the end wait for the same server, and what does not need it would wait for
    a thread. message: what the calls that fail at once say.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        self._lock = threading.Lock()
        self._failed_at: float | None = None
        self._is_trying = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A call in a ``with``: OutOfResources out of it means that the server is away, another PacsError, or none,
        that it answers. Raises OutOfResources without entering while it is away.
        """
        begin = time.monotonic()
        with self._lock:
            is_away = self._failed_at is not None
            if self._failed_at is not None:
                if self._is_trying or begin - self._failed_at < _PAUSE_S:
                    raise OutOfResources(self._message)
                self._is_trying = True
        try:
            yield
        except OutOfResources:
            if is_away or time.monotonic() - begin > _SLOW_S:
                self._failed_at = time.monotonic()
            raise
        except BaseException:
            self._failed_at = None
            raise
        else:
            self._failed_at = None
        finally:
            if is_away:
                self._is_trying = False
