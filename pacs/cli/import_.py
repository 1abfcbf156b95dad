"""``pacs import``: take in files, folders, DICOMDIRs and ZIP files, beside a running server or without one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from pacs.cli import console, import_processes, sources
from pacs.cli.importing import Importer, Summary
from pacs.cli.sources import Opener, Source, Unavailable
from pacs.services.store import Store

_BATCH = 16  # files a commit
_SHOWN_FAILURES = 20
_EXAMPLES = """\
examples:
  pacs import /media/cdrom/DICOMDIR     what the directory refers to
  pacs import scans/ more.zip           everything below a folder, and a ZIP file

Importing twice changes nothing. Files that are not DICOM are left out and counted. The exit code is 1 when
a DICOM file could not be taken in, or was refused because the instance is stored with other bytes.
"""


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
    parser.add_argument(
        "--threads",
        metavar="N",
        type=console.positive,
        help="how many files are worked on at once (default: by the processors); 1 takes them in order of name",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    from pacs.archive import Archive

    show, processors = not arguments.json, os.cpu_count() or 1
    # Before anything is looked for: an archive that cannot be used is said at once.
    with Archive.open(settings) as archive:
        is_divided = arguments.threads != 1 and import_processes.can_serve(settings)
        if not is_divided:
            threads = arguments.threads or min(8, 2 * processors)
            summary = take_in(archive.store, arguments.paths, threads=threads, show=show)
    if is_divided:
        # The archive is closed again: neither a connection nor a thread of it may pass through a fork.
        # One more than processors: while one waits for the disk, the others work.
        processes = arguments.threads or min(8, processors + 1)
        summary = import_processes.take_in(settings, arguments.paths, processes=processes, show=show)
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
        importer = Importer(store, summary, opener)
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


def _batches(wanted: Iterator[Source]) -> Iterator[list[Source]]:
    while batch := list(islice(wanted, _BATCH)):
        yield batch


def _collect(running: set[Future[int]], advance: Callable[[int], None]) -> set[Future[int]]:
    done, pending = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        advance(future.result())
    return pending
