"""``pacs peers``: which other archives are known, and whether they answer."""

from __future__ import annotations

import argparse
from typing import Any

from pacs.cli import asking, console
from pacs.settings import Settings


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "peers",
        help="list the known peers",
        description="List the peers of peers.toml and ae.properties: where C-MOVE may send, what the other commands "
        "can ask, and who has rules.",
    )
    parser.add_argument("--echo", action="store_true", help="ask each whether it is there (C-ECHO)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(log_level="ERROR")
    from pacs.peering import known_peers

    found = []
    for peer in known_peers(settings).all().values():
        # Those that only call cannot be asked.
        is_asked = arguments.echo and peer.host
        found.append(peer.described() | (echo(settings, peer.ae_title) if is_asked else {}))
    if arguments.json:
        console.print_json(found)
    for entry in found if not arguments.json else ():
        line = f"{entry['ae_title']:<16}  {_address(entry)}{'  TLS' if entry['tls'] else ''}"
        print(f"{line}  {answer_text(entry)}" if "is_there" in entry else line)
    if not found and not arguments.json:
        print(f"No peers in {settings.dimse_peers} and {settings.dimse_ae_config}.")
    return console.FAILED if any(entry.get("is_there") is False for entry in found) else console.OK


def echo(settings: Settings, name: str) -> dict[str, Any]:
    """C-ECHO to a peer: whether it is there, and milliseconds or the reason. Raises Invalid for an unknown one."""
    from pacs.peering import echoed

    return echoed(asking.requests_to(settings, name))


def _address(entry: dict[str, Any]) -> str:
    if entry["is_broken"]:
        return "(its entry cannot be understood)"
    return f"{entry['host']}:{entry['port']}" if entry["host"] else "(only calls)"


def answer_text(answer: dict[str, Any]) -> str:
    """The same for a person."""
    return f"ok, {answer['ms']:g} ms" if answer["is_there"] else str(answer["reason"])
