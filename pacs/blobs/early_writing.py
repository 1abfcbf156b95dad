"""Bytes on their way to the disk while more of them are still being received, so that fsync has less to wait for."""

from __future__ import annotations

import ctypes
import sys

_WRITE = 2  # SYNC_FILE_RANGE_WRITE, sync_file_range(2)


def start_writing(file: int, offset: int = 0, length: int = 0) -> None:
    """Have the system begin to write this part of an open file (0: to its end); where it cannot, nothing happens.

    Nothing is durable by this: failures show when the file is synced.
    """
    if _sync_file_range is not None:
        _sync_file_range(file, offset, length, _WRITE)


_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
