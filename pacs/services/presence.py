"""Which processes serve this archive, on whatever machines: each says from time to time that it is there."""

from __future__ import annotations

import logging
import os
import platform
import secrets
import socket
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from pacs.errors import PacsError
from pacs.index.work import RecordWrite, Work

log = logging.getLogger(__name__)

_KIND = "process"
_BEAT_S = 20.0
_STOP_S = 2.0
_GONE = timedelta(seconds=90)  # clocks of machines differ a little


class Presence:
    """about: what else is said of this process, such as its version."""

    def __init__(self, work: Work, about: Mapping[str, Any]) -> None:
        self._work = work
        self._key = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._fixed = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "python": platform.python_version(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **about,
        }
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_saying, name="presence", daemon=True)

    def start(self) -> None:
        """On return it has been said for the first time."""
        self._try_to_say()
        self._thread.start()

    def stop(self) -> None:
        """Say nothing more. Nothing is written: a process that ends does not wait for others that write."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def processes(self, now: datetime) -> list[dict[str, Any]]:
        """Those at work, as JSON, by machine and age."""
        found = [orjson.loads(record.content) for record in self._work.records(_KIND)]
        return sorted(
            (one for one in found if _is_at_work(one, now)), key=lambda one: (one["host"], one["started"], one["pid"])
        )

    def _keep_saying(self) -> None:
        while not self._stop.wait(_BEAT_S):
            self._try_to_say()

    def _try_to_say(self) -> None:
        try:
            self._say(datetime.now(UTC))
        except PacsError as error:
            log.info("could not say that this process is at work: %s", error)

    def _say(self, now: datetime) -> None:
        content = orjson.dumps({**self._fixed, "at": now.isoformat(), "memory_bytes": _memory_bytes()})
        gone = [
            RecordWrite(_KIND, record.key, None)
            for record in self._work.records(_KIND)
            if not _is_at_work(orjson.loads(record.content), now)
        ]
        self._work.write_records([RecordWrite(_KIND, self._key, content), *gone])


def _is_at_work(one: Mapping[str, Any], now: datetime) -> bool:
    """A process of this machine is looked for; one of another has to have spoken lately."""
    if now - datetime.fromisoformat(one["at"]) >= _GONE:
        return False
    if one["host"] != socket.gethostname():
        return True
    try:
        os.kill(one["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, which is there
    return True


def _memory_bytes() -> int | None:
    """Resident memory of this process; None where that cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
