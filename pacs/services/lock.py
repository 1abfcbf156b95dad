"""Who works in a data folder: servers and imports share it, reindex wants it alone."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pacs.errors import OutOfResources

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"


class InUse(OutOfResources):
    """Others are in the data folder, or one has it to itself."""


class ArchiveLock:
    """``flock`` on ``<data>/.lock`` while in a ``with``; the system lets go of it when the process ends.

    exclusive: work alone. Raises InUse, on entering, when others are in the folder (or one has it alone),
    OutOfResources when the folder cannot be used. Entering makes the folder.
    """

    def __init__(self, data: Path, *, exclusive: bool = False) -> None:
        self._data = data
        self._exclusive = exclusive
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._data / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise OutOfResources(f"the data folder cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_EX if self._exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            if self._exclusive:
                message = "a server or another command is using the data folder; stop it first"
            else:
                message = "another command has the data folder to itself; try again when it is done"
            raise InUse(message) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


def remove_leftovers(data: Path) -> None:
    """Remove what killed processes left half-received: nothing in it was ever acknowledged."""
    try:
        # Alone, so that no file is one that another process is writing just now.
        with ArchiveLock(data, exclusive=True):
            leftovers = list((data / "incoming").glob("*"))
            for path in leftovers:
                path.unlink(missing_ok=True)
    except OutOfResources:
        return
    if leftovers:
        log.warning("removed %d half-received files of an earlier run", len(leftovers))
