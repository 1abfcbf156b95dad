"""Deflated Explicit VR Little Endian (PS3.5 A.5): inflating with bounds on memory and on what a bomb can do."""

from __future__ import annotations

import mmap
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pacs.dicom.buffer import Buffer
from pacs.errors import OutOfResources, Unreadable

MAX_INFLATED_BYTES = 4 << 30
MAX_RATIO = 200  # beyond _ALWAYS_ALLOWED; deflate's own limit is 1032, and blank images of a real size come near it
_ALWAYS_ALLOWED = 64 << 20
_IN_MEMORY = 8 << 20
_CHUNK = 256 << 10


@contextmanager
def inflated(buffer: Buffer, offset: int, max_bytes: int, folder: Path | None) -> Iterator[Buffer]:
    """The inflated data set from ``offset``: small ones in memory, others in a nameless file in ``folder``.

    Raises Unreadable when the stream is broken, ends early or is a bomb (over ``max_bytes`` or MAX_RATIO).
    """
    head = bytearray()
    file: IO[bytes] | None = None
    size = 0
    allowed = min(max_bytes, max(_ALWAYS_ALLOWED, (len(buffer) - offset) * MAX_RATIO))
    try:
        for chunk in chunks(buffer, offset):
            size += len(chunk)
            if size > allowed:
                raise Unreadable(f"The deflated data set is longer than {allowed} bytes when inflated")
            if file is None and size > _IN_MEMORY:
                file = _nameless(folder)
                file.write(head)
            if file is None:
                head += chunk
            else:
                file.write(chunk)
        if file is None:
            yield bytes(head)
        else:
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                yield mapped
    except OSError as error:
        raise OutOfResources("There is no room to inflate the data set") from error
    finally:
        if file is not None:
            file.close()


def chunks(buffer: Buffer, offset: int) -> Iterator[bytes]:
    """Pieces of the inflated data set, at most 256 KiB each. Raises Unreadable."""
    # Raw deflate by the standard; some writers put zlib's two bytes in front.
    with_zlib_header = buffer[offset : offset + 1] == b"\x78" and _is_zlib_header(buffer[offset : offset + 2])
    inflater = zlib.decompressobj(zlib.MAX_WBITS if with_zlib_header else -zlib.MAX_WBITS)
    position = offset
    pending = b""
    try:
        while not inflater.eof:
            if not pending:
                pending = buffer[position : position + _CHUNK]
                position += len(pending)
                if not pending:
                    raise Unreadable("The deflated data set ends early")
            chunk = inflater.decompress(pending, _CHUNK)
            pending = inflater.unconsumed_tail
            if chunk:
                yield chunk
    except zlib.error as error:
        raise Unreadable("The deflated data set cannot be inflated") from error


def _is_zlib_header(head: bytes) -> bool:
    return len(head) == 2 and int.from_bytes(head, "big") % 31 == 0


def _nameless(folder: Path | None) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError:  # a store that is read-only, for example when it is verified
        return tempfile.TemporaryFile()
