"""``pacs send``: send stored instances to another archive (C-STORE)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pacs.cli import asking, console
from pacs.dicom.model import Caller, Target

if TYPE_CHECKING:
    from pacs.dimse.client import Outcome
    from pacs.dimse.requests import Progress

_SHOWN_FAILURES = 20


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "send",
        help="send stored instances to a peer (C-STORE)",
        description="Send instances of this archive to another. A server may be running. The exit code is 1 when "
        "something was not taken.",
    )
    asking.add_peer(parser)
    asking.add_uids(parser)
    console.add_data_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    asking.uids_of(arguments)
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    from pacs.archive import Archive
    from pacs.dimse.sender import Sender
    from pacs.peering import known_peers

    requests = asking.requests_to(settings, arguments.peer)
    target = Target(arguments.study, arguments.series, arguments.instance)
    failures: list[tuple[str, str]] = []
    with Archive.open(settings) as archive:
        instances = archive.retrieve.instances(target, Caller("pacs send", "", "cli"))
        sender = Sender(requests.calling, known_peers(settings), archive.retrieve, requests.timeouts)
        with closing(sender.send(requests.peer, instances, 0, None)) as outcomes:
            steps = _steps(outcomes, len(instances), failures)
            last = asking.follow(steps, "Sending", total=len(instances), show=not arguments.json)
    for sop_uid, reason in failures[:_SHOWN_FAILURES]:
        print(f"{sop_uid}: {reason}", file=sys.stderr)
    if len(failures) > _SHOWN_FAILURES:
        print(f"… and {len(failures) - _SHOWN_FAILURES:,} more", file=sys.stderr)
    return asking.report(last, "Sent", as_json=arguments.json)


def _steps(outcomes: Iterator[Outcome], total: int, failures: list[tuple[str, str]]) -> Iterator[Progress]:
    from pacs.dimse.requests import Progress

    completed = warnings = 0
    for done, outcome in enumerate(outcomes, 1):
        completed += outcome.is_success
        warnings += outcome.is_warning
        if not (outcome.is_success or outcome.is_warning):
            failures.append((outcome.instance.target.sop_uid or "", outcome.reason))
        yield Progress(total - done, completed, len(failures), warnings)
