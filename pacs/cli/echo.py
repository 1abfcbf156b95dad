"""``pacs echo``: whether another archive, or a modality, answers (C-ECHO)."""

from __future__ import annotations

import argparse
from typing import Any

from pacs.cli import asking, console
from pacs.cli.peers import answer_text, echo


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "echo",
        help="ask peers whether they are there (C-ECHO)",
        description="Open an association and send a C-ECHO. The exit code is 1 when a peer does not answer.",
    )
    parser.add_argument("peers", metavar="PEER", nargs="+", help=asking.PEER_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(log_level="ERROR")
    answers = {}
    for name in arguments.peers:
        answers[name] = echo(settings, name)
        if not arguments.json:
            print(f"{name}: {answer_text(answers[name])}")
    if arguments.json:
        console.print_json(answers)
    return console.OK if all(answer["is_there"] for answer in answers.values()) else console.FAILED
