"""One object being received: bytes go straight to disk, hashed as they pass, never held whole."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from pathlib import Path
from types import TracebackType

from pacs.dicom import file_meta
from pacs.dicom.file_meta import FileMeta
from pacs.errors import OutOfResources, TooLarge

# Preamble, "DICM" and the element (0002,0000) with its value: what tells where the data set begins (PS3.10 7.1).
_HEAD_BYTES = 144
_GROUP_LENGTH = b"DICM\x02\x00\x00\x00UL\x04\x00"


class Spool:
    """An object in the store's incoming folder, open for writing until ``finish``.

    With ``meta`` the bytes written are a bare data set, and a file meta information is put before it; without, they are
    a Part 10 file or a bare data set as the sender had it, except that a preamble is zeroed: nothing executable is
    ever given back (PS3.10 7.5).
    """

    def __init__(self, folder: Path, meta: FileMeta | None = None, max_bytes: int | None = None) -> None:
        self.path = folder / f"{secrets.token_hex(12)}.part"
        self.meta = meta
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._head = b""
        self._head_done = meta is not None
        # Where hashing began: the offset that the file meta information promises for the data set.
        self.hashed_from: int | None = None
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        except OSError as error:
            raise _out_of_resources(error) from error
        if meta is not None:
            prefix = file_meta.encode(meta)
            try:
                self._append(prefix)
            except OutOfResources:
                # Nobody holds this object yet who could discard it; the file's name was created all the same.
                self.discard()
                raise
            self.hashed_from = len(prefix)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes. Raises TooLarge past the limit, OutOfResources when the disk is full or fails."""
        if not self._head_done:
            self._head += bytes(data)
            if len(self._head) >= _HEAD_BYTES:
                self._write_head()
            return
        self._write(data)

    def finish(self) -> None:
        """No more bytes come. Idempotent."""
        if not self._head_done:
            self._write_head()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def digest(self, data_set_offset: int) -> str:
        """ "sha256:…" of the data set; reads the file again when it does not begin where its meta information said."""
        if self.hashed_from == data_set_offset:
            return f"sha256:{self._hash.hexdigest()}"
        with self.path.open("rb") as file:
            file.seek(data_set_offset)
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def rewrite(self, meta: FileMeta, data_set_offset: int) -> Spool:
        """The same data set behind a fresh file meta information; this spool is gone."""
        renewed = Spool(self.path.parent, meta)
        try:
            with self.path.open("rb") as file:
                file.seek(data_set_offset)
                while piece := file.read(1 << 20):
                    renewed.write(piece)
            renewed.finish()
        except BaseException:
            renewed.discard()
            raise
        self.discard()
        return renewed

    def discard(self) -> None:
        """Remove the file, unless the store has taken it. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _write_head(self) -> None:
        head, self._head, self._head_done = self._head, b"", True
        if head[128:132] == b"DICM":
            head = bytes(128) + head[128:]
            if head[128:140] == _GROUP_LENGTH:
                offset = _HEAD_BYTES + int.from_bytes(head[140:144], "little")
                self.hashed_from = offset
        self._write(head)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if self._max_bytes is not None and self.size_bytes + len(data) > self._max_bytes:
            raise TooLarge(f"the object is larger than {self._max_bytes} bytes")
        if self.hashed_from is not None:
            skip = self.hashed_from - self.size_bytes
            if skip <= 0:
                self._hash.update(data)
            elif skip < len(data):
                self._hash.update(memoryview(data)[skip:])
        self._append(data)

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.write(self._file, view)
                self.size_bytes += written
                view = view[written:]
        except OSError as error:
            raise _out_of_resources(error) from error


def _out_of_resources(error: OSError) -> OutOfResources:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfResources("the disk is full")
    return OutOfResources(f"the data folder cannot be written: {os.strerror(error.errno or errno.EIO)}")
