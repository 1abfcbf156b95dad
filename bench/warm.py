"""Memory in the state in which a server that has run for a while has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_PIECE_BYTES = 8 << 20


@contextmanager
def filled_page_cache(folder: Path) -> Iterator[None]:
    """Read a file as large as the memory: nothing of it is on the disk, all of it is in the cache.

    A virtual machine gives memory that was never used, or freed, back to its host, and waits for it page by page when
    it is touched: a cost that falls on whoever stores first, and that no archive can help. The cache of an archive that
    has run for a day is full.
    """
    path = folder / "cache-filler"
    try:
        with path.open("wb") as file:
            file.truncate(psutil.virtual_memory().total)
        buffer = bytearray(_PIECE_BYTES)
        file_number = os.open(path, os.O_RDONLY)
        try:
            while os.readv(file_number, [buffer]):
                pass
        finally:
            os.close(file_number)
        yield
    finally:
        path.unlink(missing_ok=True)
