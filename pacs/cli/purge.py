"""``pacs purge``: remove the files of what was deleted or replaced."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from pacs.cli import console

_NOTES = """\
Deleting (DELETE over DICOMweb) and replacing (DUPLICATES=replace) leave the files where they are; this removes
them, and nothing brings them back. A running server need not be stopped. What was purged still answers 410
(Gone) until it is stored again. The exit code is 1 when a file could not be removed.

examples:
  pacs purge --dry-run              how much there is
  pacs purge --older-than 30d       what was deleted or replaced more than 30 days ago
"""
_AGE = re.compile(r"(\d{1,6})([smhdw]?)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks", "": "days"}


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "purge",
        help="remove files of deleted and replaced instances",
        description="Remove the files of deleted instances and of replaced (superseded) versions for good.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--older-than",
        metavar="AGE",
        type=_age,
        default=timedelta(0),
        help="only what was deleted or replaced so long ago: 30d, 12h, 2w, 45m, 10s; a plain number is days",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive

    until = datetime.now(UTC) - arguments.older_than
    with Archive.open(settings) as archive:
        total = sum(1 for _ in archive.index.discarded(until))
        with console.progress("Purging", total, show=not arguments.json) as bar:
            purged = archive.delete.purge(
                until, dry_run=arguments.dry_run, progress=lambda done: bar.advance(bar.task_ids[0], done)
            )
    if arguments.json:
        failed = [{"key": key, "reason": reason} for key, reason in purged.failed]
        console.print_json({**vars(purged), "failed": failed, "dry_run": arguments.dry_run})
    else:
        for key, reason in purged.failed:
            print(f"{key}: {reason}", file=sys.stderr)
        print(
            f"{'Would remove' if arguments.dry_run else 'Removed'} "
            f"{console.plural(purged.deleted + purged.superseded, 'file')}, {purged.size_bytes / 1e6:,.1f} MB: "
            f"{purged.deleted:,} deleted, {purged.superseded:,} replaced"
            + (f"; {len(purged.failed):,} could not be removed." if purged.failed else ".")
        )
    return console.FAILED if purged.failed else console.OK


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age such as 30d, 12h or 2w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
