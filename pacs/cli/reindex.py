"""``pacs reindex``: make the index anew from the stored files."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pacs.cli import console
from pacs.services.integrity import Integrity

_NOTES = """\
The server has to be stopped. The old index stays in place, untouched, until the new one is complete; then the
new one takes its place in one step. What is kept besides the files themselves is lost: who sent an instance.
The time of arrival becomes that of the file. What was deleted stays deleted: that is recorded beside the
files. The exit code is 1 when a file could not be indexed.

With --missing the index stays, and the files that it does not know are added to it: what was stored after a
backup of it was made. `pacs restore` does that by itself.
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "reindex",
        help="make the index anew from the stored files",
        description="Read all stored files and make a new index from them.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", metavar="FOLDER", help="where data lie (DICOM_STORE_ROOTPATH)")
    parser.add_argument("--force", action="store_true", help="even if the old index was about another store")
    parser.add_argument("--json", action="store_true", help="print the result as a JSON object, and no progress")
    parser.add_argument("--missing", action="store_true", help="only add files that the index does not know")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    overrides = {"DICOM_STORE_ROOTPATH": str(Path(arguments.data).absolute())} if arguments.data else {}
    settings = console.load_settings(overrides, log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.app import Archive
    from pacs.backends import rebuilding

    with ExitStack() as opened:
        if arguments.missing:
            archive = opened.enter_context(Archive.open(settings, exclusive=True))
            blobs, index = archive.blobs, archive.index
        else:
            blobs, index = opened.enter_context(rebuilding(settings, force=arguments.force))
        integrity = Integrity(
            index,
            blobs,
            settings.dicom_store_rootpath / "orphans",
            alone=True,
            max_inflated_bytes=settings.max_inflated_bytes,
        )
        with console.progress("Reindexing", None, show=not arguments.json) as bar:
            work = integrity.catch_up if arguments.missing else integrity.rebuild
            rebuilt = work(
                replace=settings.duplicates == "replace",
                progress=lambda done: bar.advance(bar.task_ids[0], done),
                on_listed=lambda files: bar.update(bar.task_ids[0], total=files),
            )
        counts = index.counts()
    if arguments.json:
        console.print_json(
            {
                "files": rebuilt.files,
                "instances": counts.instances,
                "studies": counts.studies,
                "deleted": rebuilt.deleted,
                "problems": [{"key": problem.key, "detail": problem.detail} for problem in rebuilt.problems],
            }
        )
    else:
        for problem in rebuilt.problems:
            print(f"{problem.key}: {problem.detail}", file=sys.stderr)
        print(
            f"Read {console.plural(rebuilt.files, 'file')}: {console.plural(counts.instances, 'instance')} "
            f"in {console.plural(counts.studies, 'study', 'studies')}, "
            + (f"{rebuilt.deleted:,} deleted, " if rebuilt.deleted else "")
            + f"{len(rebuilt.problems):,} not indexed."
        )
    return console.FAILED if rebuilt.problems else console.OK
