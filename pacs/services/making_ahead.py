"""HTJ2K made ahead: of uncompressed images, in the background, once the archive has a quiet moment.

Nothing is owed to what is noted here: what a crash or a full list leaves out is made when somebody asks for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from pacs.dicom.model import StoredInstance
from pacs.errors import OutOfResources, PacsError
from pacs.services.retrieve import Retrieve

log = logging.getLogger(__name__)

_MOST_NOTED = 20_000
# So many frames in one call of a worker: whoever wants a picture meanwhile waits no longer than for these.
_GROUP = 8


class MakingAhead:
    """Makes frames in the syntax that ``retrieve`` prefers, one instance after the other, in a thread of its own.

    quiet_s: how long nothing may have been stored before it begins; receiving comes first.
    """

    def __init__(self, retrieve: Retrieve, *, quiet_s: float = 1.0) -> None:
        self._retrieve = retrieve
        self._quiet_s = quiet_s
        self._noted: deque[StoredInstance] = deque(maxlen=_MOST_NOTED)
        self._changed = threading.Condition()
        self._last_s = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="making-ahead", daemon=True)
        self._thread.start()

    def note(self, instance: StoredInstance) -> None:
        """Called for each instance that was stored; returns at once. The oldest is forgotten when the list is full."""
        with self._changed:
            self._noted.append(instance)
            self._last_s = time.monotonic()
            self._changed.notify()

    def close(self) -> None:
        """End after the group under way."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (instance := self._next()) is not None:
            try:
                self._make(instance)
            except OutOfResources:
                self._wait(self._quiet_s)  # too busy, or no room: this one is made when it is asked for
            except PacsError as error:
                log.info("not made ahead sop=%s reason=%s", instance.target.sop_uid, error)

    def _make(self, instance: StoredInstance) -> None:
        uid = self._retrieve.preferred_syntax(instance)
        if not uid:
            return
        count = self._retrieve.number_of_frames(instance.target)
        for start in range(1, count + 1, _GROUP):
            if self._closed:
                return
            self._retrieve.frames(instance.target, range(start, min(start + _GROUP, count + 1)), uid)

    def _next(self) -> StoredInstance | None:
        """What was noted first, as soon as it is quiet; None when this ends."""
        with self._changed:
            while not self._closed:
                quiet_in_s = self._last_s + self._quiet_s - time.monotonic()
                if self._noted and quiet_in_s <= 0:
                    return self._noted.popleft()
                self._changed.wait(quiet_in_s if self._noted else None)
            return None

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)
