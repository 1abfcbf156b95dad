"""``pacs import``: take in files, folders, DICOMDIRs and ZIP files, beside a running server or without one."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pacs.cli import console, sources
from pacs.cli.sources import Opener, Source, Unavailable
from pacs.dicom.model import Caller
from pacs.errors import NotStorable, OutOfResources, PacsError, Unreadable
from pacs.index.base import Put
from pacs.services.spool import Spool
from pacs.services.store import Store, Stored

_BATCH = 16  # files a commit
_PIECE_BYTES = 1 << 20
_SHOWN_FAILURES = 20
_EXAMPLES = """\
examples:
  pacs import /media/cdrom/DICOMDIR     what the directory refers to
  pacs import scans/ more.zip           everything below a folder, and a ZIP file

Importing twice changes nothing. Files that are not DICOM are left out and counted. The exit code is 1 when
a DICOM file could not be taken in, or was refused because the instance is stored with other bytes.
"""


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

    def sentence(self) -> str:
        parts = [f"{self.stored:,} stored"]
        parts += [f"{self.same:,} already there"] if self.same else []
        parts += [f"{self.replaced:,} replaced"] if self.replaced else []
        parts += [f"{self.warnings:,} with warnings"] if self.warnings else []
        parts += [f"{self.directories:,} DICOMDIR left out"] if self.directories else []
        parts += [f"{self.skipped:,} not DICOM"] if self.skipped else []
        parts += [f"{len(self.failed):,} failed"] if self.failed else []
        return ", ".join(parts)


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "import",
        help="take in files, folders, DICOMDIRs and ZIP files",
        description="Take DICOM files into the archive. The originals stay untouched. A server may be running.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="file, folder, DICOMDIR or ZIP file")
    console.add_common_options(parser)
    parser.add_argument("--threads", metavar="N", type=console.positive, default=min(8, 2 * (os.cpu_count() or 1)))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    from pacs.app import Archive

    with Archive.open(settings) as archive:
        summary = take_in(archive.store, arguments.paths, threads=arguments.threads, show=not arguments.json)
    if arguments.json:
        failed = [{"file": name, "reason": reason} for name, reason in summary.failed]
        console.print_json({**vars(summary), "failed": failed})
    else:
        for name, reason in summary.failed[:_SHOWN_FAILURES]:
            print(f"{name}: {reason}", file=sys.stderr)
        if len(summary.failed) > _SHOWN_FAILURES:
            print(f"… and {len(summary.failed) - _SHOWN_FAILURES:,} more (--json lists all)", file=sys.stderr)
        print(f"Imported: {summary.sentence()}.")
    return console.FAILED if summary.failed else console.OK


def take_in(store: Store, paths: Sequence[Path], *, threads: int = 4, show: bool = True) -> Summary:
    """Store everything that ``paths`` lead to, a few files a commit, several commits at once.

    Raises OutOfResources as soon as the archive cannot take more.
    """
    found = list(sources.find(paths))
    summary = Summary()
    summary.failed += [(each.name, each.reason) for each in found if isinstance(each, Unavailable)]
    wanted = iter([each for each in found if isinstance(each, Source)])
    with (
        console.progress("Importing", len(found), show=show) as bar,
        closing(Opener()) as opener,
        ThreadPoolExecutor(threads, "import") as pool,
    ):
        importer = _Importer(store, summary, opener)
        running: set[Future[int]] = set()
        try:
            for batch in _batches(wanted):
                running.add(pool.submit(importer.take, batch))
                if len(running) >= 2 * threads:
                    running = _collect(running, lambda done: bar.advance(bar.task_ids[0], done))
            while running:
                running = _collect(running, lambda done: bar.advance(bar.task_ids[0], done))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return summary


class _Importer:
    """Takes batches from several threads; ``summary`` is changed under a lock."""

    def __init__(self, store: Store, summary: Summary, opener: Opener) -> None:
        self._store = store
        self._opener = opener
        self._summary = summary
        self._lock = threading.Lock()
        self._caller = Caller("pacs import", "", "cli")

    def take(self, batch: list[Source]) -> int:
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
                head = file.read(132)
                if not sources.may_be_dicom(head):
                    self._skip("skipped")
                    return None
                if sources.is_directory(source.name):
                    self._skip("directories")
                    return None
                spool = self._store.spool()
                spool.write(head)
                while piece := file.read(_PIECE_BYTES):
                    spool.write(piece)
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


def _batches(wanted: Iterator[Source]) -> Iterator[list[Source]]:
    while batch := list(islice(wanted, _BATCH)):
        yield batch


def _collect(running: set[Future[int]], advance: Callable[[int], None]) -> set[Future[int]]:
    done, pending = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        advance(future.result())
    return pending
