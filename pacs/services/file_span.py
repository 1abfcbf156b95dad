"""Part of a local file on its way out, not read before it is sent: the kernel can then send it without our copying."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pacs.errors import Corrupt, OutOfResources

_PIECE_BYTES = 1 << 20
_LOOK_BYTES = 128 << 10  # what the kernel reads ahead at once, at least


def file_pieces(path: Path, start: int) -> Iterator[bytes]:
    """A file from ``start`` to its end, in pieces of at most 1 MiB."""
    file = os.open(path, os.O_RDONLY)
    try:
        while piece := os.pread(file, _PIECE_BYTES, start):
            start += len(piece)
            yield piece
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class FileSpan:
    """What bytes are to their sender: they have a length, and parts. length: bytes, all of which are to be there."""

    path: Path
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> FileSpan:
        start, stop, _ = part.indices(self.length)
        return FileSpan(self.path, self.offset + start, max(0, stop - start))

    def open(self) -> OpenSpan:
        """Raises Corrupt when the file is not there, OutOfResources when it cannot be read."""
        try:
            return OpenSpan(self.path.open("rb", buffering=0), self.offset, self.length)
        except FileNotFoundError as error:
            raise Corrupt("the stored file is missing; run pacs verify") from error
        except OSError as error:
            raise OutOfResources("the stored file could not be read") from error


Piece = bytes | FileSpan


class OpenSpan:
    """What is left of an open file to be sent. Closed when nothing is left, or by ``close``."""

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        self._file = file
        self._offset = offset
        self.left = length
        if not length:
            self.close()

    def read(self, limit: int) -> bytes:
        """The next bytes, at least one. Raises Corrupt when the file ends before."""
        data = os.pread(self._file.fileno(), min(limit, self.left), self._offset)
        self._advance(len(data))
        return data

    def is_cached(self) -> bool:
        """Whether it is most likely in memory, so that no disk is waited for: it is looked at in some places."""
        flags = getattr(os, "RWF_NOWAIT", 0)
        end = self._offset + self.left
        try:
            return bool(flags) and all(
                os.preadv(self._file.fileno(), [bytearray(1)], offset, flags)
                for offset in (*range(self._offset, end, _LOOK_BYTES), end - 1)
            )
        except OSError:  # not there, or a filesystem that cannot tell
            return False

    def push(self, socket: int) -> int:
        """Have the kernel send as much as the socket takes now; bytes. Raises BlockingIOError when it takes nothing."""
        sent = os.sendfile(socket, self._file.fileno(), self._offset, self.left)
        self._advance(sent)
        return sent

    def close(self) -> None:
        self._file.close()

    def _advance(self, count: int) -> None:
        if not count:
            raise Corrupt("the stored file is shorter than it was; run pacs verify")
        self._offset += count
        self.left -= count
        if not self.left:
            self.close()
