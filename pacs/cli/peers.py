"""``pacs peers``: which other archives are known, and whether they answer."""

from __future__ import annotations

import argparse
from typing import Any

from pacs.cli import asking, console
from pacs.errors import PeerFailed
from pacs.settings import Settings


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "peers",
        help="list the known peers",
        description="List the peers of ae.properties: where C-MOVE may send, and what the other commands can ask.",
    )
    parser.add_argument("--echo", action="store_true", help="ask each whether it is there (C-ECHO)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(log_level="ERROR")
    from pacs.peering import known_peers

    found = []
    for peer in known_peers(settings).all().values():
        entry = {"ae_title": peer.ae_title, "host": peer.host, "port": peer.port, "tls": peer.tls is not None}
        found.append(entry | (echo(settings, peer.ae_title) if arguments.echo else {}))
    if arguments.json:
        console.print_json(found)
    for entry in found if not arguments.json else ():
        line = f"{entry['ae_title']:<16}  {entry['host']}:{entry['port']}{'  TLS' if entry['tls'] else ''}"
        print(f"{line}  {answer_text(entry)}" if arguments.echo else line)
    if not found and not arguments.json:
        print(f"No peers in {settings.dimse_ae_config}.")
    return console.FAILED if any(entry.get("is_there") is False for entry in found) else console.OK


def echo(settings: Settings, name: str) -> dict[str, Any]:
    """C-ECHO to a peer: whether it is there, and milliseconds or the reason. Raises Invalid for an unknown one."""
    requests = asking.requests_to(settings, name)
    try:
        return {"is_there": True, "ms": round(1000 * requests.echo(), 1)}
    except PeerFailed as error:
        return {"is_there": False, "reason": str(error)}


def answer_text(answer: dict[str, Any]) -> str:
    """The same for a person."""
    return f"ok, {answer['ms']:g} ms" if answer["is_there"] else str(answer["reason"])
