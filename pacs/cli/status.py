"""``pacs status``: how the archive is, on one page, whether its server runs or not."""

from __future__ import annotations

import argparse
from typing import Any

import orjson
import urllib3

from pacs import __version__
from pacs.cli import console
from pacs.errors import PacsError
from pacs.settings import Settings

_NOTES = """\
Totals and jobs are read from the archive itself; the server is asked whether it is ready. The exit code is 1 when
something is wrong: the server is not ready, the disk is nearly full, jobs were given up, or (--echo) a peer does not
answer. A server that does not run is nothing wrong.

examples:
  pacs status
  pacs status --json | jq .jobs
  pacs status --echo                 ask each peer whether it is there
"""
_TIMEOUT = urllib3.Timeout(connect=2, read=10)


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "status",
        help="how the archive is: health, totals, disk, jobs, peers",
        description="Show how the archive is, on one page.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--echo", action="store_true", help="ask each peer whether it is there (C-ECHO)")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    status = {
        "version": __version__,
        "server": _server(settings),
        **_archive(settings),
        "peers": _peers(settings, with_echo=arguments.echo),
    }
    status["problems"] = _problems(status)
    if arguments.json:
        console.print_json(status)
    else:
        _show(status)
    return console.FAILED if status["problems"] else console.OK


def server_url(settings: Settings) -> str:
    """Where the server of these settings can be reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.server_host, settings.server_host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{settings.server_port}"


def _server(settings: Settings) -> dict[str, Any]:
    """isRunning: whether somebody answers at the address; problems: why it is not ready."""
    url = server_url(settings)
    found: dict[str, Any] = {"url": url, "isRunning": False, "isReady": False, "problems": []}
    try:
        with urllib3.PoolManager(retries=False, timeout=_TIMEOUT) as http:
            answer = http.request("GET", f"{url}/health/ready")
    except urllib3.exceptions.HTTPError:
        return found
    found |= {"isRunning": True, "isReady": answer.status == 200}
    try:
        found["problems"] = orjson.loads(answer.data).get("problems", [])
    except (ValueError, AttributeError):
        found["problems"] = [f"{url} is answered by something else"]
    return found


def _archive(settings: Settings) -> dict[str, Any]:
    # Here, not above: other commands start faster without it.
    from pacs.archive import Archive

    with Archive.open(settings) as archive:
        counts = archive.index.counts()
        jobs: dict[str, dict[str, int]] = {}
        for (kind, state), number in sorted(archive.index.work.count_jobs().items()):
            jobs.setdefault(kind, {"waiting": 0, "running": 0, "dead": 0})[state.name.lower()] = number
        return {
            "data": str(settings.dicom_store_rootpath),
            "index": f"MongoDB {settings.mongodb_name}" if settings.mongodb_hosts else "SQLite",
            "store": settings.dicom_store_url or str(settings.dicom_store_rootpath),
            "totals": {
                "patients": counts.patients,
                "studies": counts.studies,
                "series": counts.series,
                "instances": counts.instances,
                "bytes": counts.size_bytes,
            },
            "disk": {
                "freeBytes": archive.blobs.free_bytes(),
                "reserveBytes": int(settings.min_free_bytes),
                "indexBytes": archive.index.size_bytes(),
            },
            "jobs": jobs,
        }


def _peers(settings: Settings, *, with_echo: bool) -> list[dict[str, Any]]:
    from pacs.cli.peers import echo
    from pacs.peering import known_peers

    try:
        known = known_peers(settings).all().values()
    except PacsError as error:
        return [{"name": "", "reason": str(error)}]
    return [
        {
            "name": peer.ae_title,
            "address": f"{peer.host}:{peer.port}" if peer.host else "",
            **(echo(settings, peer.ae_title) if with_echo and peer.host else {}),
        }
        for peer in known
    ]


def _problems(status: dict[str, Any]) -> list[str]:
    found = list(status["server"]["problems"])
    if status["server"]["isRunning"] and not status["server"]["isReady"] and not found:
        found.append("the server is not ready")
    free, reserve = status["disk"]["freeBytes"], status["disk"]["reserveBytes"]
    if free is not None and free < reserve and "the disk is full" not in found:
        found.append("the disk is full: nothing more is stored")
    dead = sum(states["dead"] for states in status["jobs"].values())
    if dead:
        found.append(f"{console.plural(dead, 'job')} given up (pacs jobs --state dead)")
    found += [f"{peer['name']} does not answer: {peer['reason']}" for peer in status["peers"] if peer.get("reason")]
    return found


def _show(status: dict[str, Any]) -> None:
    server, totals, disk = status["server"], status["totals"], status["disk"]
    is_ready = "ready" if server["isReady"] else "not ready"
    where = f"{server['url']}  {is_ready if server['isRunning'] else 'not running'}"
    counts = ", ".join(
        console.plural(totals[level], *nouns)
        for level, nouns in (
            ("patients", ("patient",)),
            ("studies", ("study", "studies")),
            ("series", ("series", "series")),
            ("instances", ("instance",)),
        )
    )
    free = "unknown" if disk["freeBytes"] is None else size(disk["freeBytes"])
    rows = [
        ("Version", status["version"]),
        ("Server", where),
        ("Index", f"{status['index']}" + (f", {size(disk['indexBytes'])}" if disk["indexBytes"] is not None else "")),
        ("Store", f"{status['store']}, {size(totals['bytes'])}"),
        ("Holds", counts),
        ("Disk", f"{free} free, {size(disk['reserveBytes'])} in reserve"),
    ]
    for kind, states in status["jobs"].items():
        rows.append((f"Jobs {kind}", ", ".join(f"{number:,} {state}" for state, number in states.items() if number)))
    if not status["jobs"]:
        rows.append(("Jobs", "none"))
    for peer in status["peers"]:
        answer = ""
        if "is_there" in peer:
            answer = f"  ok, {peer['ms']:g} ms" if peer["is_there"] else f"  {peer['reason']}"
        rows.append((f"Peer {peer['name']}", f"{peer.get('address') or '(only calls)'}{answer}"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    for problem in status["problems"]:
        print(f"\nProblem: {problem}")


def size(number: float) -> str:
    """Bytes for people: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
