"""``pacs rules``: what the forwarding rules would do."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacs.cli import console
from pacs.errors import Invalid

if TYPE_CHECKING:
    from pacs.services.rules import Rule

_NOTES = """\
With files, says for each what the rules would do with it, and does nothing. --from: as which calling AE title,
user or command it would come. The exit code is 2 when the rules are wrong.

examples:
  pacs rules test config/rules.toml
  pacs rules test config/rules.toml CT0001.dcm --from SCANNER1
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser("rules", help="try forwarding rules", description="Forwarding rules.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    test = actions.add_parser(
        "test",
        help="read a file of rules, and say what they would do",
        description="Check a file of rules; say what they do, or would do with some DICOM files.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    test.add_argument("rules", type=Path, help="the file of rules")
    test.add_argument("files", type=Path, nargs="*", help="DICOM files")
    test.add_argument("--from", dest="caller", metavar="NAME", default="ANY-SCU", help="who would send them (ANY-SCU)")
    test.add_argument("--json", action="store_true", help="for scripts")
    test.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings({}, log_level="ERROR")
    from pacs.dicom.header import read_header
    from pacs.dicom.model import Caller
    from pacs.dimse.peers import Peers
    from pacs.services.rules import load, sentence

    peers = Peers(settings.dimse_ae_config)
    rules = load(arguments.rules, lambda name: peers.find(name) is not None)
    caller = Caller(arguments.caller, "", "dimse")
    results: list[tuple[Path, list[Rule]]] = []
    for path in arguments.files:
        try:
            attributes = read_header(path, derive_uids=True).attributes
        except OSError as error:
            raise Invalid(f"{path}: {error.strerror}") from error
        results.append((path, [rule for rule in rules if rule.concerns(attributes, caller)]))
    if arguments.json:
        listed = [{"name": rule.name, "on": rule.moment.value, "does": sentence(rule)} for rule in rules]
        files = [{"file": str(path), "rules": [rule.name for rule in matching]} for path, matching in results]
        console.print_json({"rules": listed, "files": files})
        return console.OK
    if not results:
        for rule in rules:
            print(f"{rule.name}: on {rule.moment.value}, {sentence(rule)}")
        print(f"{console.plural(len(rules), 'rule')}; all can be used.")
    for path, matching in results:
        print(f"{path}: {'nothing' if not matching else ''}")
        for rule in matching:
            print(f"  {rule.name}: on {rule.moment.value}, {sentence(rule)}")
    return console.OK
