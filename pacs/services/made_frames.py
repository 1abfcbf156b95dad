"""Codestreams that were made of stored frames, kept for the next who asks: the stored file stays as it came.

A range of a codestream is asked for again and again while a viewer reads on, and must be cut out of the same bytes.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pacs.blobs.cache_space import CacheSpace
from pacs.dicom.model import BlobRef

log = logging.getLogger(__name__)

_CHECK_BYTES = 32  # of the codestream's SHA-256, ahead of it


class MadeFrames:
    """At most max_bytes of codestreams in ``folder``, which processes may share; what was used longest ago goes first.

    maker: what made them, so that nothing made by another version is ever sent in its place. keep_free_bytes: nothing
    is added when less than this would be left on the disk. Safe to call from any thread.
    """

    def __init__(self, folder: Path, max_bytes: int, maker: str, *, keep_free_bytes: int = 0) -> None:
        self.hits = self.misses = 0  # about right, where threads count at once
        self._folder = folder
        self._maker = hashlib.sha256(maker.encode()).hexdigest()[:8]
        self._space = CacheSpace(folder, max_bytes, keep_free_bytes)

    def frames(
        self,
        ref: BlobRef,
        numbers: Sequence[int],
        transfer_syntax_uid: str,
        make: Callable[[list[int]], list[bytes]],
    ) -> list[bytes]:
        """Frames by number; ``make`` gives those that are not here, in the order in which it is asked for them."""
        found = {number: self._read(self._path(ref, number, transfer_syntax_uid)) for number in dict.fromkeys(numbers)}
        absent = [number for number, data in found.items() if data is None]
        self.hits += len(found) - len(absent)
        self.misses += len(absent)
        if absent:
            for number, data in zip(absent, make(absent), strict=True):
                self._keep(self._path(ref, number, transfer_syntax_uid), data)
                found[number] = data
        return [data for data in (found[number] for number in numbers) if data is not None]

    def lacks(self, ref: BlobRef, number: int, transfer_syntax_uid: str) -> bool:
        """Whether a frame would have to be made."""
        return not self._path(ref, number, transfer_syntax_uid).exists()

    def close(self) -> None:
        self._space.close()

    def _path(self, ref: BlobRef, number: int, transfer_syntax_uid: str) -> Path:
        folder, name = _place(self._folder, ref)
        return folder / f"{name}.{number}.{transfer_syntax_uid}.{self._maker}"

    def _read(self, path: Path) -> bytes | None:
        """A codestream that is as it was made; a damaged one is dropped."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("a made frame cannot be read: %s", error.strerror)
            return None
        data = content[_CHECK_BYTES:]
        if hashlib.sha256(data).digest() == content[:_CHECK_BYTES]:
            with suppress(OSError):
                os.utime(path)  # the clock of what was used last
            return data
        log.warning("dropped a made frame that is not as it was made: %s", path.name)
        self._space.drop(path)
        return None

    def _keep(self, path: Path, data: bytes) -> None:
        """For next time, if there is room. Not synced: after a crash the digest tells what is not whole."""
        size_bytes = _CHECK_BYTES + len(data)
        part = self._space.reserve(size_bytes)
        if part is None:
            return
        kept = False
        try:
            with part.open("r+b") as file:
                file.write(hashlib.sha256(data).digest())
                file.write(data)
            path.parent.mkdir(exist_ok=True)
            replaced = path.exists()
            part.replace(path)
            kept = True
            if replaced:  # made by somebody else meanwhile
                self._space.give_back(None, size_bytes)
        except OSError as error:
            log.warning("a made frame cannot be kept: %s", error.strerror)
        finally:
            if not kept:
                self._space.give_back(part, size_bytes)


def drop_frames_of(folder: Path, ref: BlobRef) -> None:
    """Remove what was made of a file that is gone. The room is counted anew when it is full, or at the next start."""
    place, name = _place(folder, ref)
    for path in place.glob(f"{name}.*"):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("a made frame cannot be removed: %s", error.strerror)


def _place(folder: Path, ref: BlobRef) -> tuple[Path, str]:
    name = hashlib.sha256(f"{ref.key}\0{ref.digest}".encode()).hexdigest()
    return folder / name[:2], name
