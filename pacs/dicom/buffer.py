"""What the parser reads from: a mapped file or bytes in memory."""

from __future__ import annotations

import mmap

Buffer = bytes | mmap.mmap


def release(buffer: Buffer, start: int, stop: int) -> None:
    """Let the pages of a mapped file between two offsets leave this process's memory; they stay readable."""
    if isinstance(buffer, mmap.mmap):
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = stop // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            buffer.madvise(mmap.MADV_DONTNEED, first, length)
