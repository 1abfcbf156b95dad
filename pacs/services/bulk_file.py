"""One value of bulk data being received, in a temporary file: it is never held whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from pacs.errors import OutOfResources

_PIECE_BYTES = 1 << 20


class BulkFile:
    """A file in the store's incoming folder, open for writing until ``finish``; ``discard`` it in the end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{secrets.token_hex(12)}.bulk"
        self.size_bytes = 0
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        except OSError as error:
            raise OutOfResources("the data folder cannot be written") from error

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes. Raises OutOfResources when the disk is full or fails."""
        view = memoryview(data)
        try:
            while view:
                written = os.write(self._file, view)
                self.size_bytes += written
                view = view[written:]
        except OSError as error:
            raise OutOfResources("the data folder cannot be written") from error

    def finish(self) -> None:
        """No more bytes come. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def head(self, length: int) -> bytes:
        """The first bytes, all there are at most."""
        with self.path.open("rb") as file:
            return file.read(length)

    def pieces(self, offset: int = 0) -> Iterator[bytes]:
        """What was written, from an offset on, in pieces of a MiB."""
        with self.path.open("rb") as file:
            file.seek(offset)
            while piece := file.read(_PIECE_BYTES):
                yield piece

    def discard(self) -> None:
        """Remove the file. Idempotent."""
        self.finish()
        self.path.unlink(missing_ok=True)
