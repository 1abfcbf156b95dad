"""What commands that ask other archives have in common: naming the peer, and what is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pacs.cli import console
from pacs.dicom.attributes import UNIQUE_KEYS
from pacs.dicom.keys import resolve, vr_of
from pacs.dicom.matchers import TagPath
from pacs.dicom.model import Level
from pacs.errors import Invalid
from pacs.settings import Settings

if TYPE_CHECKING:
    from pacs.dimse.requests import Progress, Requests

PEER_HELP = "AE title of a peer in peers.toml or ae.properties, or AET@host:port (AET@host:port:TLS over TLS)"
_LEVELS = (Level.STUDY, Level.SERIES, Level.IMAGE)


def add_peer(parser: argparse.ArgumentParser) -> None:
    """The argument PEER, and ``--json``."""
    parser.add_argument("peer", metavar="PEER", help=PEER_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and no progress")


def add_uids(parser: argparse.ArgumentParser) -> None:
    """``--study``, ``--series`` and ``--instance``."""
    parser.add_argument("--study", metavar="UID", required=True, help="Study Instance UID")
    parser.add_argument("--series", metavar="UID", help="Series Instance UID, for one series of the study")
    parser.add_argument("--instance", metavar="UID", help="SOP Instance UID, for one instance of the series")


def uids_of(arguments: argparse.Namespace) -> tuple[Level, dict[str, Any]]:
    """Level and unique keys of what the options name. Raises Invalid."""
    if arguments.instance and not arguments.series:
        raise Invalid("--instance needs the --series that it is in", "--instance")
    named = zip(_LEVELS, (arguments.study, arguments.series, arguments.instance), strict=True)
    keys = {UNIQUE_KEYS[level]: {"vr": "UI", "Value": [uid]} for level, uid in named if uid}
    return _LEVELS[len(keys) - 1], keys


def requests_to(settings: Settings, name: str) -> Requests:
    """Requests to the peer of this name (``pacs.dimse.requests``). Raises Invalid when there is none."""
    # Here, not above: other commands start faster without the servers.
    from pacs.dimse.peers import Peer, parse_peer
    from pacs.dimse.requests import Requests
    from pacs.peering import known_peers, tls_files, usual_timeouts

    ae_title, at, address = name.rpartition("@")
    peer: Peer | None
    if at:
        try:
            peer = parse_peer(ae_title, address, tls_files(settings))
        except ValueError as error:
            raise Invalid(f"{name}: {error}", "PEER") from error
    else:
        peers = known_peers(settings)
        peer = peers.find(name)
        if peer is None:
            known = ", ".join(sorted(peers.all())) or "none"
            raise Invalid(
                f"no peer {name} in {settings.dimse_peers} or {settings.dimse_ae_config} (known: {known}); or say "
                "AET@host:port",
                "PEER",
            )
    return Requests(peer, settings.dimse_ae_title, peer.timeouts(usual_timeouts(settings)))


def identifier(keys: Sequence[str], asked: Sequence[str] = ()) -> dict[str, Any]:
    """DICOM JSON of "Keyword=value" keys and of attributes whose values are asked for. Raises Invalid."""
    found: dict[str, Any] = {}
    for text in (*asked, *keys):
        name, has_value, value = text.partition("=")
        _put(found, resolve(name), value if has_value else None)
    return found


def _put(data_set: dict[str, Any], path: TagPath, value: str | None) -> None:
    tag, *inner = path
    if "@" in tag:
        raise Invalid("private attributes cannot be asked for here", tag)
    if inner:
        items = data_set.setdefault(tag, {"vr": "SQ", "Value": [{}]})["Value"]
        _put(items[0], tuple(inner), value)
        return
    vr = vr_of(path)
    if not value:
        data_set.setdefault(tag, {"vr": vr})
    elif vr == "PN":
        data_set[tag] = {"vr": vr, "Value": [{"Alphabetic": value}]}
    else:
        data_set[tag] = {"vr": vr, "Value": value.split("\\")}


def text_of(element: Mapping[str, Any] | None) -> str:
    """An element's values for a person."""
    values = (element or {}).get("Value") or []
    return "\\".join(
        str(value.get("Alphabetic", "")) if isinstance(value, Mapping) else "" if value is None else str(value)
        for value in values
    )


def follow(steps: Iterator[Progress], title: str, *, total: int | None = None, show: bool = True) -> Progress:
    """Show sub-operations as they are done; the last word on them."""
    from pacs.dimse.requests import Progress

    last = Progress()
    with console.progress(title, total, show=show) as bar:
        for last in steps:
            done = last.completed + last.failed + last.warnings
            bar.update(bar.task_ids[0], completed=done, total=done + last.remaining if last.remaining else total)
    return last


def report(last: Progress, verb: str, *, as_json: bool) -> int:
    """Print what became of the sub-operations; the exit code."""
    done = last.completed + last.warnings
    if as_json:
        console.print_json({"completed": last.completed, "warnings": last.warnings, "failed": last.failed})
    else:
        failed = f"; {last.failed:,} failed" if last.failed else ""
        print(f"{verb} {console.plural(done, 'instance')}{failed}.")
    return console.FAILED if last.failed else console.OK
