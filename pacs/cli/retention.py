"""``pacs retention``: what the retention rules would delete now."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pacs.cli import console

_NOTES = """\
Nothing is deleted by this. The server does what the rules of RETENTION say once an hour; what it deletes lies in the
trash (`pacs trash`) until it is purged (PURGE_AFTER_DAYS, or `pacs purge`).
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "retention",
        help="what retention rules would delete",
        description="Try retention rules: say which studies they would delete now, and why.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    test = actions.add_parser("test", help="a dry run")
    test.add_argument("file", metavar="FILE", nargs="?", type=Path, help="the rules (RETENTION)")
    console.add_common_options(test)
    test.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive
    from pacs.errors import Invalid
    from pacs.services.retention import Retaining, load

    path = arguments.file or settings.retention
    if path is None:
        raise Invalid("no file of rules: name one, or set RETENTION", "RETENTION")
    retention = load(path)
    with Archive.open(settings) as archive:
        found = list(Retaining(archive.index, retention).leaving(datetime.now(UTC)))
    if arguments.json:
        console.print_json(
            {
                "rules": [rule.name for rule in retention.rules],
                "studies": [
                    {
                        "study": each.study_uid,
                        "rule": each.rule,
                        "since": each.since.isoformat(timespec="seconds"),
                        "bytes": each.size_bytes,
                    }
                    for each in found
                ],
            }
        )
        return console.OK
    for each in found:
        print(f"{each.since:%Y-%m-%d}  {each.size_bytes / 1e6:>10,.1f} MB  {each.rule:<24}  {each.study_uid}")
    size = sum(each.size_bytes for each in found)
    print(f"Would delete {console.plural(len(found), 'study', 'studies')}, {size / 1e6:,.1f} MB.")
    return console.OK
