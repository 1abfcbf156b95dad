"""A file that several processes append whole lines to, and that is rotated when it is large.

Each line is one ``write`` to a descriptor opened for appending, so lines of different processes never mix. Whoever
finds the file too large renames it, under a lock that only one process can hold; the others notice within a second
that the path is another file now. So they do when logrotate has moved it: no signal is needed, though SIGHUP is heeded.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_LOOK_S = 1.0
_LOOK_BYTES = 64 * 1024
_BLOCK_BYTES = 64 * 1024


class SharedFile:
    """Safe to use from any thread and, by the same path, from several processes.

    max_bytes: rotated when it is larger, 0: never. keep: rotated files, ``path.1`` the youngest. Raises OSError when
    the file cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int = 0, keep: int = 5, *, mode: int = 0o640) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._keep = max(1, keep)
        self._mode = mode
        self._lock = threading.Lock()
        self._written = 0
        self._looked = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = self._open()
        self._is_torn = _is_torn(path)

    def is_at(self, path: Path, max_bytes: int, keep: int) -> bool:
        """Whether it was made with these."""
        return (self.path, self._max_bytes, self._keep) == (path, max_bytes, max(1, keep))

    def write(self, data: bytes) -> None:
        """Append whole lines. Raises OSError."""
        with self._lock:
            if self._written >= _LOOK_BYTES or time.monotonic() - self._looked > _LOOK_S:
                self._look()
            left = memoryview(b"\n" + data if self._is_torn else data)
            while left:  # a disk that is full takes part of a line
                self._is_torn = True
                left = left[os.write(self._descriptor, left) :]
            self._is_torn = False
            self._written += len(data)

    def sync(self) -> None:
        """Wait until all that was written is on the disk. Raises OSError."""
        with self._lock:
            os.fsync(self._descriptor)

    def reopen(self) -> None:
        """Go on in the file that the path is now."""
        with self._lock:
            self._renew()

    def close(self) -> None:
        with self._lock:
            os.close(self._descriptor)

    def _look(self) -> None:
        self._written, self._looked = 0, time.monotonic()
        ours = os.fstat(self._descriptor)
        try:
            there: os.stat_result | None = self.path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev):
            self._renew()
        elif self._max_bytes and ours.st_size >= self._max_bytes:
            self._rotate(ours.st_ino)

    def _rotate(self, inode: int) -> None:
        # A file of its own: a lock on the log itself would go with it.
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have been first.
            if self.path.stat().st_ino == inode:
                for number in range(self._keep - 1, 0, -1):
                    if (older := rotated(self.path, number)).exists():
                        older.replace(rotated(self.path, number + 1))
                self.path.replace(rotated(self.path, 1))
            self._renew()
        except FileNotFoundError:
            self._renew()
        finally:
            os.close(lock)

    def _renew(self) -> None:
        before, self._descriptor = self._descriptor, self._open()
        os.close(before)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, self._mode)


class FileHandler(logging.Handler):
    """Log lines into a SharedFile. A disk that is full does not stop the archive: what finds no room is left out."""

    def __init__(self, file: SharedFile) -> None:
        super().__init__()
        self.file = file
        self._has_complained = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.file.write(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
            self._has_complained = False
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                print(f"pacs: the log file cannot be written: {error.strerror}", file=sys.stderr)

    def close(self) -> None:
        self.file.close()
        super().close()


def _is_torn(path: Path) -> bool:
    """Whether the last line has no end: a crash, or a disk that was full, cut it. What follows must not join it."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def lines_backwards(path: Path) -> Iterator[bytes]:
    """Lines of the file and of those rotated out of it, the youngest first, without their ends. Holds one block."""
    number = 0
    file = path
    while file.exists():
        yield from _backwards(file)
        number += 1
        file = rotated(path, number)


def _backwards(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        tail = b""
        while position:
            start = max(0, position - _BLOCK_BYTES)
            file.seek(start)
            first, *others = (file.read(position - start) + tail).split(b"\n")
            yield from (line for line in reversed(others) if line)
            tail, position = first, start
        if tail:
            yield tail
