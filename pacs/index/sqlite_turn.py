"""Whose turn it is to write to the SQLite index, among processes.

SQLite's own waiting for another process's write lock is sleeping: 1, 2, 5, 10 … 100 ms, without any order, so that a
busy process keeps the lock from the others for as long as it has work. Here they wait in the kernel, and are woken.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class Turn:
    """A ``with`` that waits for this process's turn. One thread of a process uses it, and may use it again and again.

    Two locks: who has the turn holds the first, who is next the second. A process that comes back at once has to queue
    behind the one that is next already. The system lets go of both when a process ends. Nobody is kept from writing
    by a file system that has no locks: SQLite's own lock is what keeps the file whole.
    """

    def __init__(self, database: Path) -> None:
        self._turn, self._next = (_opened(path) for path in lock_files(database))

    def __enter__(self) -> Self:
        _lock(self._next, fcntl.LOCK_EX)
        _lock(self._turn, fcntl.LOCK_EX)
        _lock(self._next, fcntl.LOCK_UN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _lock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        for descriptor in (self._turn, self._next):
            if descriptor >= 0:
                os.close(descriptor)
        self._turn = self._next = -1


def lock_files(database: Path) -> list[Path]:
    """Empty files beside the database, that nobody has to keep."""
    return [database.with_name(f"{database.name}-{name}") for name in ("turn", "next")]


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        return -1


def _lock(descriptor: int, operation: int) -> None:
    if descriptor >= 0:
        try:
            fcntl.flock(descriptor, operation)
        except OSError:
            return
