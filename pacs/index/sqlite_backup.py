"""Copies of the SQLite index: made while others write, checked, and read back."""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from isal import igzip

from pacs.errors import Corrupt, NotFound
from pacs.index.sqlite_schema import SCHEMA_VERSION
from pacs.index.sqlite_writer import translated

_STEP_PAGES = 1024
_PAUSE_S = 0.002  # between steps: the disk is the writers' too
_PIECE_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"

Progress = Callable[[int, int], None]  # so much is done, of so much


class Contents(NamedTuple):
    """What a copy holds."""

    schema: int
    instances: int
    studies: int


def copy_index(source: Path, destination: Path, progress: Progress = lambda done, total: None) -> None:
    """Copy the index as it is now, to a file of its own without a log beside it. Writers go on meanwhile.

    Raises NotFound when there is no index, OutOfResources or Corrupt when it, or the copy, fails.
    """
    if not source.exists():
        raise NotFound("there is no index to back up")
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as index,
            closing(sqlite3.connect(destination, isolation_level=None)) as copy,
        ):
            # One snapshot for all steps: else each commit of a writer would make the copy begin anew.
            index.execute("BEGIN")
            index.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            copy.execute("PRAGMA synchronous = OFF")  # synced once, when it is complete
            index.backup(
                copy,
                pages=_STEP_PAGES,
                sleep=_PAUSE_S,
                progress=lambda status, remaining, total: progress(total - remaining, total),
            )
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise translated(error) from error


def check_index(path: Path) -> Contents:
    """Look at all pages of a copy that nobody writes to. Raises Corrupt when it is damaged, or no index of ours."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
            schema = int(copy.execute("PRAGMA user_version").fetchone()[0])
            if schema > SCHEMA_VERSION:
                raise Corrupt(
                    f"it has schema {schema}, known are up to {SCHEMA_VERSION}: it was made by a newer version"
                )
            wrong = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if wrong != "ok":
                raise Corrupt(f"it is damaged: {wrong}")
            instances = copy.execute("SELECT COUNT(*) FROM instances").fetchone()[0]
            studies = copy.execute("SELECT COUNT(*) FROM studies").fetchone()[0]
            return Contents(schema, instances, studies)
    except sqlite3.Error as error:
        raise Corrupt("it is not an index of this archive, or damaged") from error


def pack(source: Path, destination: Path) -> None:
    """Compress with gzip, and read the result back. Raises Corrupt when it is not the same."""
    packing = igzip.open(destination, "wb")  # type: ignore[no-untyped-call]  # isal says no types here
    with source.open("rb") as plain, packing as packed:
        shutil.copyfileobj(plain, packed, _PIECE_BYTES)
    with source.open("rb") as plain, gzip.open(destination, "rb") as packed:
        while True:
            wanted = plain.read(_PIECE_BYTES)
            if wanted != packed.read(_PIECE_BYTES):
                raise Corrupt("the compressed copy is not the same as the index")
            if not wanted:
                return


def unpack(source: Path, destination: Path) -> None:
    """Copy a backup, compressed or not. Raises Corrupt when it ends early or is damaged, and OSError."""
    try:
        with source.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
        with gzip.open(source, "rb") if packed else source.open("rb") as plain, destination.open("wb") as copy:
            shutil.copyfileobj(plain, copy, _PIECE_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Corrupt("the backup is damaged, or was cut short") from error


def put_in_place(new: Path, old: Path) -> None:
    """Let a complete index, which nobody has open, take another's place in one step."""
    # An index in place with the write-ahead log of another would be corrupt: the old one's is folded in first.
    _fold_log(old)
    for log_file in log_files(old):
        log_file.unlink(missing_ok=True)
    fsync(new)
    new.replace(old)
    fsync(old.parent)


def set_aside(index: Path) -> Path | None:
    """A second name for an index that is about to be replaced; with its log, when that cannot be folded in."""
    if not index.exists():
        return None
    aside = index.with_name(f"{index.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    _fold_log(index)
    wal, _ = log_files(index)
    for path, other in ((index, aside), (wal, log_files(aside)[0])):
        if path.exists() and path.stat().st_size:
            try:
                other.hardlink_to(path)
            except OSError:  # a filesystem without links
                shutil.copyfile(path, other)
    return aside


def log_files(database: Path) -> list[Path]:
    """What SQLite keeps beside a database in WAL mode."""
    return [database.with_name(f"{database.name}{suffix}") for suffix in ("-wal", "-shm")]


def _fold_log(index: Path) -> None:
    if index.exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(index)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fsync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
