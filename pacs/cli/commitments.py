"""``pacs commitments``: storage commitment that was asked of peers, and what they answered."""

from __future__ import annotations

import argparse
from typing import Any

from pacs.cli import console

_STATES = ("waiting", "asked", "committed", "failed", "repeated", "unanswered")
_NOTES = """\
waiting: not asked yet; asked: no answer yet; repeated: asked again under another Transaction UID;
unanswered: asked often enough. The exit code is 1 when some failed or stayed unanswered.
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "commitments",
        help="storage commitment asked of peers",
        description="List what peers were asked to commit, and what became of it. A server need not be stopped.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state", choices=_STATES, help="only those in a state")
    parser.add_argument("--limit", metavar="N", type=console.positive, default=50, help="how many to show (50)")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without.
    from pacs.archive import Archive
    from pacs.services.commitment_requests import CommitmentRequests, State

    states = [State(arguments.state)] if arguments.state else list(set(State) - {State.REPEATED})
    with Archive.open(settings) as archive:
        found = CommitmentRequests(archive.index.work).page(states, limit=arguments.limit)
    if arguments.json:
        console.print_json([each.as_json(with_failed=True) for each in found])
    else:
        for each in found:
            failed = f", {len(each.failed):,} not committed" if each.failed else ""
            count = console.plural(len(each.references), "instance")
            print(f"{each.created_at:%Y-%m-%d %H:%M}Z  {each.peer:<16}  {each.state:<10}  {count}{failed}")
            print(f"  {each.uid}")
        if not found:
            print("There are none.")
    bad = {State.FAILED, State.UNANSWERED}
    return console.FAILED if any(each.state in bad for each in found) else console.OK
