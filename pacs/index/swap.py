"""Putting one SQLite database file in the place of another, so that a crash leaves one of the two."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from pacs.errors import OutOfResources

# What SQLite keeps beside a database in WAL mode.
_COMPANIONS = ("-wal", "-shm")


def replace_database(current: Path, fresh: Path) -> None:
    """``fresh`` becomes ``current``; nobody may have either open. Raises OutOfResources when the disk fails."""
    try:
        for companion in _COMPANIONS:
            left = fresh.with_name(fresh.name + companion)
            if left.exists() and left.stat().st_size:
                raise OutOfResources("the new index was not closed properly")
        _fold_in_log(current)
        # A log of the old database would be replayed into the new one: SQLite cannot tell that it is not its own.
        for companion in _COMPANIONS:
            current.with_name(current.name + companion).unlink(missing_ok=True)
        _fsync(current.parent)
        _fsync(fresh)
        fresh.replace(current)
        _fsync(current.parent)
    except OSError as error:
        raise OutOfResources(f"the index could not be replaced: {error.strerror}") from error


def remove_database(path: Path) -> None:
    """Remove a database file and what SQLite keeps beside it; nothing happens when it is not there."""
    for companion in ("", *_COMPANIONS):
        path.with_name(path.name + companion).unlink(missing_ok=True)


def _fold_in_log(database: Path) -> None:
    """Write the log's transactions into the file itself, so that it stays whole should the next step never come."""
    if not database.exists():
        return
    # A damaged database is the very reason to make a new one.
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fsync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
