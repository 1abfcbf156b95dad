"""``pacs reindex``: make the index anew from the stored files."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from pacs.cli import console, taking_in

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
    console.add_common_options(parser)
    parser.add_argument("--force", action="store_true", help="even if the old index was about another store")
    parser.add_argument("--missing", action="store_true", help="only add files that the index does not know")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive
    from pacs.backends import rebuilding

    with ExitStack() as opened:
        if arguments.missing:
            archive = opened.enter_context(Archive.open(settings, exclusive=True))
            blobs, index = archive.blobs, archive.index
        else:
            blobs, index = opened.enter_context(rebuilding(settings, force=arguments.force))
        rebuilt = taking_in.take_in(
            settings, index, blobs, "Reindexing", only_missing=arguments.missing, show_progress=not arguments.json
        )
        counts = index.counts()
    if arguments.json:
        console.print_json(
            {
                "files": rebuilt.files,
                "instances": counts.instances,
                "studies": counts.studies,
                "deleted": rebuilt.deleted,
                "problems": taking_in.problems_of(rebuilt),
            }
        )
    else:
        taking_in.print_problems(rebuilt)
        print(
            f"Read {console.plural(rebuilt.files, 'file')}: {console.plural(counts.instances, 'instance')} "
            f"in {console.plural(counts.studies, 'study', 'studies')}, "
            + (f"{rebuilt.deleted:,} deleted, " if rebuilt.deleted else "")
            + f"{len(rebuilt.problems):,} not indexed."
        )
    return console.FAILED if rebuilt.problems else console.OK
