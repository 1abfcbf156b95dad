"""Watches the disk, and tells those who look after the archive when it is full and when it has room again."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import orjson

from pacs.errors import PacsError
from pacs.index.work import NewJob, RecordWrite, Work
from pacs.services.following import WEBHOOK
from pacs.services.room import Room

log = logging.getLogger(__name__)

_KIND = "disk"
_LOOK_S = 2.0


class DiskWatch:
    """addresses: webhooks to tell. wake: there may be jobs. place: names the disk among those of several machines."""

    def __init__(
        self, work: Work, room: Room, addresses: Sequence[str], place: str, wake: Callable[[], None] = lambda: None
    ) -> None:
        self._work = work
        self._room = room
        self.addresses = tuple(addresses)
        self._key = f"{socket.gethostname()} {place}"
        self._wake = wake
        self._stop = threading.Event()
        self._told: bool | None = None
        self._thread = threading.Thread(target=self._watch, name="disk-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_LOOK_S)

    def look(self) -> None:
        """Note how the disk is, and tell if that is news: of several processes one does."""
        is_full = self._room.look()
        if is_full == self._told:
            return
        found = self._work.record(_KIND, self._key)
        was_full = found is not None
        if is_full != was_full:
            jobs = [self._job(address, is_full) for address in self.addresses]
            content = orjson.dumps({"since": _now()}) if is_full else None
            version = found.version if found is not None else 0
            if not self._work.write_records([RecordWrite(_KIND, self._key, content, version)], jobs):
                return  # another process was first
            self._wake()
        self._told = is_full

    def _job(self, address: str, is_full: bool) -> NewJob:
        body = {"event": "disk-full" if is_full else "disk-has-room", "at": _now(), "disk": self._key}
        # A key of its own for each moment: the end of an episode does not take the place of its beginning.
        key = f"{body['event']}\\{self._key}\\{body['at']}\\{address}"
        return NewJob(WEBHOOK, key, address, orjson.dumps({"to": address, "body": body}))

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except PacsError as error:  # an index that is away, or has no room even for this: later
                log.debug("the state of the disk could not be told reason=%s", error)
            except Exception:  # the next look may be another matter
                log.exception("the disk cannot be watched")
            self._stop.wait(_LOOK_S)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
