"""``pacs trash``: what was deleted and can be taken back."""

from __future__ import annotations

import argparse
from itertools import islice
from typing import TYPE_CHECKING, Any

from pacs.cli import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs.services.trash import Trash

_NOTES = """\
Deleting leaves the files where they are until `pacs purge` removes them; until then `pacs undelete` takes them
back. A server need not be stopped.
"""
_PAGE = 200


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "trash",
        help="what was deleted and can be taken back",
        description="List what was deleted and has not been purged, latest first.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--limit", metavar="N", type=console.positive, default=50, help="how many to show (50)")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive

    with Archive.open(settings) as archive:
        found = list(islice(_all(archive.trash), arguments.limit + 1))
    shown = found[: arguments.limit]
    if arguments.json:
        console.print_json({"deleted": shown, "more": len(found) > len(shown)})
        return console.OK
    for each in shown:
        print(
            f"{each['at'][:19].replace('T', ' ')}Z  {each['studyDate'] or '-':<8}  "
            f"{','.join(each['modalities']) or '-':<8}  {console.plural(each['instances'], 'instance'):>16}  "
            f"{each['bytes'] / 1e6:>9,.1f} MB  {each['patientId'] or '-'}  {each['patientName'] or '-'}\n"
            f"  {each['study']}"
            + (f"\n    series {each['series']}" if each["series"] else "")
            + (f"\n    instance {each['sop']}" if each["sop"] else "")
        )
    if not shown:
        print("Nothing that was deleted is still there.")
    if len(found) > len(shown):
        print("There is more: --limit shows it.")
    return console.OK


def _all(trash: Trash) -> Iterator[dict[str, Any]]:
    after = None
    while True:
        page = trash.page(after, _PAGE)
        yield from page.deleted
        after = page.next
        if after is None:
            return
