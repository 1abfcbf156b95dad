"""A folder of worklist files, as DCMTK's wlmscpfs serves it: ``AETITLE/*.wl``, or ``*.wl`` for every called title."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacs.dicom import file_meta, worklist_item
from pacs.dicom.encode import SPECIFIC_CHARACTER_SET
from pacs.dicom.guess import guessed_transfer_syntax
from pacs.dicom.header import parse_in_memory
from pacs.dicom.matching import items_of
from pacs.errors import Invalid, PacsError, TooLarge

log = logging.getLogger(__name__)

_SUFFIX = ".wl"
_LOCK_FILE = "lockfile"
_LOCK_WAIT_S, _LOCK_POLL_S = 1.0, 0.02
_LARGEST_BYTES = 4 << 20  # real ones have 2 kB

Stamp = tuple[int, int, int]  # changes whenever the file does: time of modification in ns, size, inode


@dataclass(frozen=True, slots=True)
class FileItem:
    """called: the AE title whose subfolder holds the file, "" for the folder itself."""

    called: str
    attributes: dict[str, Any]


class WorklistFolder:
    """Items of a folder's files as they are now. Only files that changed are read. Safe to call from any thread.

    Who writes files either renames them into place or holds ``lockfile`` meanwhile, as for wlmscpfs; a file that cannot
    be read is named once in the log, and looked at again when it changes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[Path, dict[Path, tuple[Stamp, tuple[FileItem, ...]]]] = {}
        self._is_missing = False

    def items(self) -> list[FileItem]:
        """All items, in the order of folders and file names."""
        with self._lock:
            folders = self._folders()
            self._files = {path: self._read_folder(path, called) for path, called in folders.items()}
            return [item for files in self._files.values() for _, items in files.values() for item in items]

    def _folders(self) -> dict[Path, str]:
        try:
            with os.scandir(self._folder) as entries:
                found = sorted(entry.name for entry in entries if entry.is_dir())
        except OSError as error:
            if not self._is_missing:
                log.error("worklist folder cannot be read path=%s reason=%s", self._folder, error.strerror)
            self._is_missing = True
            return {}
        self._is_missing = False
        return {self._folder: "", **{self._folder / name: name for name in found}}

    def _read_folder(self, folder: Path, called: str) -> dict[Path, tuple[Stamp, tuple[FileItem, ...]]]:
        known = self._files.get(folder, {})
        with _reading(folder / _LOCK_FILE) as is_free:
            if not is_free:
                return known
            try:
                with os.scandir(folder) as entries:
                    names = sorted(entry.name for entry in entries if entry.name.lower().endswith(_SUFFIX))
            except OSError as error:
                log.warning("worklist folder cannot be read path=%s reason=%s", folder, error.strerror)
                return {}
            found = {}
            for path in (folder / name for name in names):
                try:
                    stamp = _stamp(path)
                    if path in known and known[path][0] == stamp:
                        found[path] = known[path]
                    else:
                        found[path] = (stamp, self._read(path, called))
                except FileNotFoundError:
                    continue  # gone since it was listed
                except OSError as error:
                    log.warning("worklist file skipped path=%s reason=%s", path, error.strerror)
            return found

    def _read(self, path: Path, called: str) -> tuple[FileItem, ...]:
        """The items of one file, none of a broken one. Raises OSError."""
        try:
            return tuple(FileItem(called, item) for item in read_items(path))
        except PacsError as error:
            log.warning("worklist file skipped path=%s reason=%s", path, error)
            return ()


def read_items(path: Path) -> list[dict[str, Any]]:
    """The items of a worklist file: one for each of its scheduled procedure steps.

    Raises OSError, Invalid for a file without what an item needs, and the Rejected kinds.
    """
    with path.open("rb") as file:
        data = file.read(_LARGEST_BYTES + 1)
    if len(data) > _LARGEST_BYTES:
        raise TooLarge(f"it is larger than {_LARGEST_BYTES} bytes")
    meta, offset = file_meta.read(data)
    syntax = (meta.transfer_syntax_uid if meta else "") or guessed_transfer_syntax(data, offset)
    parsed = parse_in_memory(data[offset:], syntax)
    attributes = parsed.attributes
    if parsed.character_set:
        # The one that modalities of this place are known to read.
        attributes[SPECIFIC_CHARACTER_SET] = {"vr": "CS", "Value": list(parsed.character_set)}
    steps = items_of(attributes.get(worklist_item.STEPS))
    if not steps:
        raise Invalid("ScheduledProcedureStepSequence (0040,0100) is missing or has no item")
    found = []
    for step in steps:
        item = {**attributes, worklist_item.STEPS: {"vr": "SQ", "Value": [step]}}
        worklist_item.check(item)
        status = worklist_item.status_of(item)
        # One that nobody knows stays as it is: the step is still to be done.
        found.append(worklist_item.with_status(item, status) if status in worklist_item.STATES else item)
    return found


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


@contextmanager
def _reading(lock_file: Path) -> Iterator[bool]:
    """Hold the lock file shared, where there is one; False when a writer keeps it for too long."""
    try:
        held = os.open(lock_file, os.O_RDONLY)
    except OSError:
        yield True
        return
    try:
        yield _locked(held)
    finally:
        os.close(held)  # lets the lock go


def _locked(held: int) -> bool:
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOCK_POLL_S)
        except OSError:  # a filesystem without locks
            return True
        else:
            return True
