"""Room for copies of files: how much is taken, by all processes together, and what goes when it is full."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pacs.errors import OutOfResources

log = logging.getLogger(__name__)

PART = ".part"
_LEDGER = ".used"
# So much of the room is made free at once: looking through all files for a single one would be slow.
_FREED_PART = 10
# A part of this age was left by a process that was killed.
_LEFT_S = 3600.0


class CacheSpace:
    """At most max_bytes in ``folder``; the files that were used longest ago go first.

    The sum is written down in a file, under a lock that processes share; parts that are being filled count in full.
    """

    def __init__(self, folder: Path, max_bytes: int, keep_free_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._keep_free_bytes = keep_free_bytes
        self._lock = threading.Lock()  # the file's lock is one for all threads of a process
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._ledger = os.open(folder / _LEDGER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise OutOfResources(f"the cache folder cannot be used: {error.strerror}") from error
        # The setting may be a smaller one than last time, and a crash may have left anything.
        with self._alone():
            self._write(self._evict(max_bytes))

    def reserve(self, size_bytes: int, source: Path | None = None) -> Path | None:
        """A file of this size to be filled, or another name of ``source``; None when there is no room."""
        part = self._folder / f"{secrets.token_hex(12)}{PART}"
        try:
            with self._alone():
                used = self._read()
                if used + size_bytes > self._max_bytes:
                    used = self._evict(self._max_bytes - max(size_bytes, self._max_bytes // _FREED_PART))
                    self._write(used)
                free = shutil.disk_usage(self._folder).free
                if used + size_bytes > self._max_bytes or free - size_bytes < self._keep_free_bytes:
                    return None
                if source is not None:
                    os.link(source, part)
                else:
                    with part.open("wb") as file:
                        file.truncate(size_bytes)
                self._write(used + size_bytes)
        except OSError as error:
            log.warning("no room for a copy: %s", error.strerror)
            return None
        return part

    def give_back(self, part: Path | None, size_bytes: int) -> None:
        """Of what was reserved: remove the part, None when it became a copy that was there already."""
        with self._alone():
            if part is not None:
                _remove(part)
            self._write(max(0, self._read() - size_bytes))

    def drop(self, path: Path) -> None:
        """Remove a copy, if it is there."""
        with self._alone():
            try:
                size_bytes = path.stat().st_size
            except OSError:
                return
            _remove(path)
            self._write(max(0, self._read() - size_bytes))

    def close(self) -> None:
        os.close(self._ledger)

    def _evict(self, most_bytes: int) -> int:
        """Remove files until at most so much is left; returns what is."""
        found: list[tuple[float, int, Path]] = []
        used = 0
        now = time.time()
        for path in self._folder.rglob("*"):
            with suppress(FileNotFoundError):
                state = path.stat()
                if path.is_dir() or path.name == _LEDGER:
                    continue
                if path.suffix == PART:
                    if now - state.st_mtime > _LEFT_S:
                        path.unlink()
                    else:
                        used += state.st_size
                    continue
                found.append((state.st_atime, state.st_size, path))
                used += state.st_size
        found.sort(key=lambda file: file[0])
        for _, size_bytes, path in found:
            if used <= most_bytes:
                break
            _remove(path)
            used -= size_bytes
        return used

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            fcntl.flock(self._ledger, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._ledger, fcntl.LOCK_UN)

    def _read(self) -> int:
        return int.from_bytes(os.pread(self._ledger, 8, 0), "little")

    def _write(self, used: int) -> None:
        os.pwrite(self._ledger, used.to_bytes(8, "little"), 0)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a copy cannot be removed: %s", error.strerror)
