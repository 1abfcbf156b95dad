"""Who works in a data folder: servers and imports share it, reindex wants it alone.

A lock of ``flock`` on ``<data>/.lock``: the system lets go of it when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pacs.errors import OutOfResources

LOCK_NAME = ".lock"


@contextmanager
def shared(data: Path) -> Iterator[None]:
    """Work beside others. Makes the folder. Raises OutOfResources while someone has it alone."""
    with _locked(data, fcntl.LOCK_SH, "another command has the data folder to itself; try again when it is done"):
        yield


@contextmanager
def exclusive(data: Path) -> Iterator[None]:
    """Work alone. Makes the folder. Raises OutOfResources while a server or another command is in it."""
    with _locked(data, fcntl.LOCK_EX, "a server or another command is using the data folder; stop it first"):
        yield


@contextmanager
def _locked(data: Path, kind: int, busy: str) -> Iterator[None]:
    try:
        data.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise OutOfResources(f"the data folder cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutOfResources(busy) from None
        yield
    finally:
        os.close(descriptor)
