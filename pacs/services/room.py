"""Whether there is room on the disk to take anything in: noticed before the disk is full, and told once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pacs.errors import OutOfResources, PacsError

log = logging.getLogger(__name__)

_MARGIN = 16  # a sixteenth more than the reserve has to be free before it counts as over
_LONGEST_MARGIN_BYTES = 64 << 20


class Room:
    """Safe to call from any thread. free_bytes: of the disk that files are received on, None when that is not known.

    min_free_bytes: below this nothing is taken in; may be changed while it is in use. Reading, deleting and purging
    never ask. An episode begins when less is free and ends when clearly more is, so that a disk at the brink is
    reported once.
    """

    def __init__(self, free_bytes: Callable[[], int | None], min_free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self.min_free_bytes = min_free_bytes
        self._lock = threading.Lock()  # guards what follows
        self._is_full = False

    def check(self) -> None:
        """Raises OutOfResources while less than the reserve is free. Costs one system call."""
        free = self._free_bytes()
        if free is None:
            return
        self._note(free)
        if free < self.min_free_bytes:
            raise OutOfResources("the disk is full")

    def look(self) -> bool:
        """Whether an episode is on. A disk that cannot be asked changes nothing."""
        try:
            free = self._free_bytes()
        except PacsError:
            free = None
        if free is not None:
            self._note(free)
        return self._is_full

    def problem(self) -> str | None:
        """A sentence for the health check; None when there is room. Raises OutOfResources when that cannot be told."""
        free = self._free_bytes()
        if free is None:
            return None
        self._note(free)
        if free >= self.min_free_bytes:
            return None
        return (
            f"the disk is full: {free >> 20} MiB are free, and MIN_FREE_BYTES keeps {self.min_free_bytes >> 20} MiB; "
            "nothing is taken in, reading goes on"
        )

    def _note(self, free: int) -> None:
        least = self.min_free_bytes
        with self._lock:
            if not self._is_full and free < least:
                self._is_full = True
                log.error(
                    "the disk is full: new objects are refused, reading goes on free_bytes=%d min_free_bytes=%d",
                    *(free, least),
                )
            elif self._is_full and free >= least + min(least // _MARGIN, _LONGEST_MARGIN_BYTES):
                self._is_full = False
                log.warning("the disk has room again: objects are taken in free_bytes=%d", free)
