"""One object being received: bytes go straight to disk, hashed as they pass, never held whole."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from pacs.blobs.early_writing import start_writing
from pacs.dicom import file_meta
from pacs.dicom.buffer import Buffer
from pacs.dicom.file_meta import FileMeta
from pacs.errors import OutOfResources, TooLarge

# Preamble, "DICM" and the element (0002,0000) with its value: what tells where the data set begins (PS3.10 7.1).
_HEAD_BYTES = 144
_GROUP_LENGTH = b"DICM\x02\x00\x00\x00UL\x04\x00"
# What is hashed and written at once. Either lets other threads run and then waits for its turn again, which costs more
# than it does itself for a piece as small as a network packet.
_PIECE_BYTES = 256 * 1024
_BUFFERS_KEPT = 32
_LOOK_BYTES = 8 << 20  # after so many the disk is looked at again


class Spool:
    """An object in the store's incoming folder, open for writing until ``finish``.

    With ``meta`` the bytes written are a bare data set, and a file meta information is put before it; without, they are
    a Part 10 file or a bare data set as the sender had it, except that a preamble is zeroed: nothing executable is
    ever given back (PS3.10 7.5). check_room: raises OutOfResources when there is no room to go on.
    """

    def __init__(
        self,
        folder: Path,
        meta: FileMeta | None = None,
        max_bytes: int | None = None,
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = folder / f"{secrets.token_hex(12)}.part"
        self.meta = meta
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._check_room = check_room
        self._looked_at = 0
        self._hash = hashlib.sha256()
        self._buffer: bytearray | None = None
        self._buffered = 0
        self._written = 0
        self._head = b""
        self._head_done = meta is not None
        # Where hashing began: the offset that the file meta information promises for the data set.
        self.hashed_from: int | None = None
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        except OSError as error:
            raise _out_of_resources(error) from error
        self._is_there = True
        if meta is not None:
            prefix = file_meta.encode(meta)
            self.hashed_from = len(prefix)
            self._add(prefix)

    @property
    def known_meta(self) -> tuple[FileMeta, int] | None:
        """The file meta information that was put before the data set, and how long it is."""
        return None if self.meta is None or self.hashed_from is None else (self.meta, self.hashed_from)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes. Raises TooLarge past the limit, OutOfResources when the disk is full or fails."""
        if not self._head_done:
            self._head += bytes(data)
            if len(self._head) >= _HEAD_BYTES:
                self._write_head()
            return
        self._write(data)

    def finish(self) -> None:
        """No more bytes come; nothing is held open any more. Idempotent. Raises OutOfResources, the file gone then."""
        try:
            self._flush()
        except BaseException:
            self.discard()
            raise
        self._close()

    @contextmanager
    def mapped(self) -> Iterator[Buffer]:
        """All that was written, to read from. Raises OutOfResources."""
        if not self._written and self._head_done and self._buffer is not None:
            yield bytes(memoryview(self._buffer)[: self._buffered])
            return
        self._flush()
        if not self.size_bytes:
            yield b""
            return
        file = self._file if self._file >= 0 else os.open(self.path, os.O_RDONLY)
        try:
            buffer = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
        finally:
            if file != self._file:
                os.close(file)
        with buffer:
            yield buffer

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

    def taken(self) -> None:
        """The store has moved the file: there is nothing left to remove."""
        self._is_there = False

    def discard(self) -> None:
        """Remove the file, unless the store has taken it. Idempotent."""
        self._close()
        if self._is_there:
            self.path.unlink(missing_ok=True)
            self._is_there = False

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
        self._add(data)

    def _add(self, data: bytes | bytearray | memoryview) -> None:
        self.size_bytes += len(data)
        if len(data) >= _PIECE_BYTES:
            self._flush_buffer()
            self._put_down(memoryview(data))
            return
        view = memoryview(data)
        while view:
            if self._buffer is None:
                self._buffer = _taken_buffer()
            taken = min(len(view), _PIECE_BYTES - self._buffered)
            self._buffer[self._buffered : self._buffered + taken] = view[:taken]
            self._buffered += taken
            view = view[taken:]
            if self._buffered == _PIECE_BYTES:
                self._flush_buffer()

    def _flush(self) -> None:
        if not self._head_done:
            self._write_head()
        self._flush_buffer()

    def _flush_buffer(self) -> None:
        if self._buffer is not None and self._buffered:
            with memoryview(self._buffer) as whole, whole[: self._buffered] as view:
                self._put_down(view)
            self._buffered = 0

    def _put_down(self, data: memoryview) -> None:
        """Hash and write."""
        if self.hashed_from is not None:
            skip = self.hashed_from - self._written
            if skip <= 0:
                self._hash.update(data)
            elif skip < len(data):
                self._hash.update(data[skip:])
        if self._written - self._looked_at >= _LOOK_BYTES:
            # What was begun while there was room must not eat up the reserve.
            self._looked_at = self._written
            self._check_room()
        try:
            begin = self._written
            while data:
                written = os.write(self._file, data)
                self._written += written
                data = data[written:]
            # Of the last piece fsync follows at once.
            if self._written - begin >= _PIECE_BYTES:
                start_writing(self._file, begin, self._written - begin)
        except OSError as error:
            raise _out_of_resources(error) from error

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._buffer is not None and len(_idle_buffers) < _BUFFERS_KEPT:
            _idle_buffers.append(self._buffer)
        self._buffer = None
        self._buffered = 0


_idle_buffers: list[bytearray] = []


def _taken_buffer() -> bytearray:
    try:
        return _idle_buffers.pop()
    except IndexError:
        return bytearray(_PIECE_BYTES)


def _out_of_resources(error: OSError) -> OutOfResources:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfResources("the disk is full")
    return OutOfResources(f"the data folder cannot be written: {os.strerror(error.errno or errno.EIO)}")
