"""``pacs move``: have another archive send to a third, or to this one (C-MOVE)."""

from __future__ import annotations

import argparse
from typing import Any

from pacs.cli import asking, console


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "move",
        help="have a peer send instances to another, or here (C-MOVE)",
        description="Ask another archive to send to an AE title that it knows. The exit code is 1 when something "
        "failed.",
    )
    asking.add_peer(parser)
    asking.add_uids(parser)
    parser.add_argument(
        "--to", metavar="AET", help="AE title of the destination (default: this archive, DIMSE_AE_TITLE)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    level, keys = asking.uids_of(arguments)
    settings = console.load_settings(log_level="ERROR")
    requests = asking.requests_to(settings, arguments.peer)
    steps = requests.move(arguments.to or settings.dimse_ae_title, level, keys)
    last = asking.follow(steps, "Moving", show=not arguments.json)
    return asking.report(last, "Moved", as_json=arguments.json)
