"""``pacs restore``: an index from a backup, brought up to date with the stored files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pacs.cli import console, taking_in

_NOTES = """\
The server has to be stopped. The backup is checked first; a damaged one changes nothing. The index that was there
is kept beside the new one. Then all files that the backup does not know are indexed, and deletions since are
repeated: nothing that was acknowledged after the backup is lost. If that is interrupted, `pacs reindex --missing`
goes on with it. What is lost is who sent those instances; their time of arrival becomes that of the file.

The exit code is 1 when a file could not be indexed; `pacs verify` then says more.
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "restore",
        help="put an index from a backup in place",
        description="Put an index from a backup in place, and take in what was stored after it.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("backup", metavar="FILE", type=Path, help="what `pacs backup` made")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.backends import restoring

    with restoring(settings, arguments.backup) as (blobs, index, aside):
        restored = index.counts().instances
        if not arguments.json:
            print(f"The backup is in place, with {console.plural(restored, 'instance')}.")
            if aside is not None:
                print(f"What was there before is {aside}")
        added = taking_in.take_in(
            settings, index, blobs, "Looking at the files", only_missing=True, show_progress=not arguments.json
        )
        counts = index.counts()
    if arguments.json:
        console.print_json(
            {
                "restored": restored,
                "added": added.indexed,
                "deleted": added.deleted,
                "instances": counts.instances,
                "studies": counts.studies,
                "replaced_index": str(aside or ""),
                "problems": taking_in.problems_of(added),
            }
        )
    else:
        taking_in.print_problems(added)
        print(
            f"Since then: {added.indexed:,} stored, {added.deleted:,} deleted. Now there are "
            f"{console.plural(counts.instances, 'instance')} in {console.plural(counts.studies, 'study', 'studies')}, "
            f"and {len(added.problems):,} files that are not indexed."
        )
        print("`pacs verify` compares every file with the index.")
    return console.FAILED if added.problems else console.OK
