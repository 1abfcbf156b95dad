"""Batches of sources into the store, and what came of them."""

from __future__ import annotations

import threading
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pacs.cli import sources
from pacs.cli.sources import Opener, Source
from pacs.dicom.model import Caller
from pacs.errors import NotStorable, OutOfResources, PacsError, Unreadable
from pacs.index.base import Put
from pacs.services.spool import Spool
from pacs.services.store import Store, Stored

_PIECE_BYTES = 1 << 20


@dataclass
class Summary:
    """failed: name and reason of each DICOM file that was not taken in. skipped: how many were not DICOM."""

    stored: int = 0
    same: int = 0
    replaced: int = 0
    skipped: int = 0
    directories: int = 0
    warnings: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, part: Summary) -> None:
        self.stored += part.stored
        self.same += part.same
        self.replaced += part.replaced
        self.skipped += part.skipped
        self.directories += part.directories
        self.warnings += part.warnings
        self.failed += part.failed

    def sentence(self) -> str:
        parts = [f"{self.stored:,} stored"]
        parts += [f"{self.same:,} already there"] if self.same else []
        parts += [f"{self.replaced:,} replaced"] if self.replaced else []
        parts += [f"{self.warnings:,} with warnings"] if self.warnings else []
        parts += [f"{self.directories:,} DICOMDIR left out"] if self.directories else []
        parts += [f"{self.skipped:,} not DICOM"] if self.skipped else []
        parts += [f"{len(self.failed):,} failed"] if self.failed else []
        return ", ".join(parts)


class Importer:
    """Takes batches from several threads; ``summary`` is changed under a lock."""

    def __init__(self, store: Store, summary: Summary, opener: Opener) -> None:
        self._store = store
        self._opener = opener
        self._summary = summary
        self._lock = threading.Lock()
        self._caller = Caller("pacs import", "", "cli")

    def take(self, batch: Sequence[Source]) -> int:
        spools: list[Spool] = []
        spooled: list[Source] = []
        try:
            for source in batch:
                if (spool := self._spool(source)) is not None:
                    spools.append(spool)
                    spooled.append(source)
            results = self._store.store_many(spools, self._caller, derive_uids=True)
        finally:
            for spool in spools:
                spool.discard()
        with self._lock:
            for source, result in zip(spooled, results, strict=True):
                self._count(source, result)
        return len(batch)

    def _spool(self, source: Source) -> Spool | None:
        """The file's bytes in the incoming folder; None when it is none of ours, or cannot be read."""
        spool: Spool | None = None
        try:
            with self._opener.open(source) as file:
                piece = file.read(_PIECE_BYTES)
                if not sources.may_be_dicom(piece[:132]):
                    self._skip("skipped")
                    return None
                if sources.is_directory(source.name):
                    self._skip("directories")
                    return None
                spool = self._store.spool()
                while piece:
                    spool.write(piece)
                    piece = file.read(_PIECE_BYTES)
                return spool
        except OutOfResources:
            if spool is not None:
                spool.discard()
            raise
        except (PacsError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            # RuntimeError: a ZIP member that is encrypted, or compressed in an unknown way.
            if spool is not None:
                spool.discard()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            with self._lock:
                self._summary.failed.append((source.name, reason))
            return None

    def _skip(self, counter: str) -> None:
        with self._lock:
            setattr(self._summary, counter, getattr(self._summary, counter) + 1)

    def _count(self, source: Source, result: Stored | PacsError) -> None:
        summary = self._summary
        if isinstance(result, OutOfResources):
            raise result
        if isinstance(result, Stored):
            summary.warnings += bool(result.warnings)
            summary.stored += result.outcome is Put.STORED
            summary.same += result.outcome is Put.SAME
            summary.replaced += result.outcome is Put.REPLACED
        elif isinstance(result, NotStorable):
            summary.directories += 1
        elif isinstance(result, Unreadable) and not self._has_magic(source):
            # It only began like a data set without preamble.
            summary.skipped += 1
        else:
            summary.failed.append((source.name, str(result)))

    def _has_magic(self, source: Source) -> bool:
        with self._opener.open(source) as file:
            return b"DICM" in file.read(132)
