"""``pacs undelete``: take back what was deleted."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pacs.cli import console

_NOTES = """\
What was deleted comes back as it was, from the same files, unless it has been purged. What has been stored again
meanwhile with other content stays as it is now; its deleted version stays in the trash. A server need not be
stopped. The exit code is 1 when something could not be taken back.

examples:
  pacs trash                        what there is, and its UIDs
  pacs undelete 1.2.3               all that was deleted of a study
  pacs undelete 1.2.3 --series 1.2.3.4
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "undelete",
        help="take back what was deleted",
        description="Take back studies, series or instances that were deleted and not yet purged.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", metavar="UID", help="Study Instance UID")
    parser.add_argument("--series", metavar="UID", help="only this series of it")
    parser.add_argument("--instance", metavar="UID", help="only this instance of the series")
    parser.add_argument("--at", metavar="MOMENT", help="undo that deletion only (as `pacs trash --json` has it)")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive
    from pacs.dicom.model import Caller, Target
    from pacs.errors import Invalid, NotFound
    from pacs.services.trash import moment

    if arguments.instance and not arguments.series:
        raise Invalid("--instance needs the --series that it is in", "--instance")
    at = moment(arguments.at) if arguments.at else None
    target = Target(arguments.study, arguments.series, arguments.instance)
    with Archive.open(settings) as archive:
        try:
            restored = archive.trash.restore(target, Caller("pacs undelete", "", "cli"), at=at)
        except NotFound as error:
            print(f"pacs: {error}", file=sys.stderr)
            return console.FAILED
    if arguments.json:
        console.print_json(restored.as_json())
    else:
        for conflict in restored.conflicts:
            print(f"{conflict.target.sop_uid}: {conflict.reason}", file=sys.stderr)
        print(
            f"Restored {console.plural(restored.restored, 'instance')}"
            + (f"; {restored.already:,} had been stored again" if restored.already else "")
            + (f"; {len(restored.conflicts):,} stay deleted." if restored.conflicts else ".")
        )
    return console.FAILED if restored.conflicts else console.OK
