"""``pacs serve``: run the archive until it is told to stop."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacs import logs
from pacs.cli import console, import_
from pacs.errors import Invalid, PacsError
from pacs.mongo_settings import mongo_uri
from pacs.settings import Settings
from pacs.supervisor import Role, run_apart, supervise

if TYPE_CHECKING:
    from pacs.archive import Archive

_EXAMPLES = """\
examples:
  pacs serve --demo                     start with a few example images
  pacs serve --port 8042 --data /srv/pacs
  pacs serve --workers 4                use four processors (default: 2 where there are as many)
  SERVER_HOST=0.0.0.0 DIMSE_HOSTNAME=0.0.0.0 pacs serve      reachable from other machines

There is no login in this version: let only machines that you trust reach the ports.
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "serve",
        help="run the archive: DIMSE and DICOMweb",
        description="Run the archive until Ctrl-C or SIGTERM, then finish what is under way and stop.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--demo", action="store_true", help="first import the example files that pydicom brings along")
    parser.add_argument("--port", metavar="N", help="port of the web server (SERVER_PORT)")
    parser.add_argument("--dimse-port", metavar="N", help="port of DIMSE (DIMSE_PORT)")
    console.add_data_option(parser)
    parser.add_argument(
        "--workers", metavar="N", help="processes that share the work, on the same ports (SERVER_WORKERS)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(_overrides(arguments), to_file=True)
    code = _serve_with_workers(settings, arguments) if settings.server_workers > 1 else _serve(settings, arguments)
    if code == console.OK:
        print("Stopped.", flush=True)
    return code


def _serve(settings: Settings, arguments: argparse.Namespace) -> int:
    # Here, not above: other commands start faster without the servers.
    from pacs.app import serve

    if arguments.demo:
        _import_examples(settings)
    serve(settings, lambda archive: _announce(settings, *_totals(archive)))
    return console.OK


def _serve_with_workers(settings: Settings, arguments: argparse.Namespace) -> int:
    # All that workers need is loaded before they are forked: once for all of them.
    from pacs.app import load_all, serve
    from pacs.metrics import Board

    load_all()
    board = Board(settings.server_workers)

    if arguments.demo:
        code = run_apart(lambda: _ending_with_its_code(lambda: _import_examples(settings)))
        if code != console.OK:
            return code

    def work(role: Role) -> None:
        logs.configure(settings.log_level, settings.log_format, worker=role.number, file=settings.logs_to)

        def say_ready(archive: Archive) -> None:
            with os.fdopen(role.ready, "w", encoding="ascii") as parent:
                json.dump(_totals(archive), parent)

        _ending_with_its_code(lambda: serve(settings, say_ready, role, board))

    supervise(settings, work, lambda said: _announce(settings, *json.loads(said)))
    return console.OK


def _ending_with_its_code(work: Callable[[], None]) -> None:
    """What ``main`` makes of an error, in a process that does not return there."""
    try:
        work()
    except PacsError as error:
        print(f"pacs: {error}", file=sys.stderr)
        sys.exit(console.USAGE if isinstance(error, Invalid) else console.UNAVAILABLE)


def _overrides(arguments: argparse.Namespace) -> dict[str, str]:
    data = str(Path(arguments.data).absolute()) if arguments.data else None
    given = {
        "SERVER_PORT": arguments.port,
        "DIMSE_PORT": arguments.dimse_port,
        "DICOM_STORE_ROOTPATH": data,
        "SERVER_WORKERS": arguments.workers,
    }
    return {name: value for name, value in given.items() if value is not None}


def _import_examples(settings: Settings) -> None:
    import pydicom.data

    from pacs.archive import Archive

    # What lies in the wheel; pydicom's own look-up would download further files.
    folder = Path(pydicom.data.__file__).parent
    # A line for every example would bury what counts.
    service_log = logging.getLogger("pacs.services")
    service_log.setLevel(logging.ERROR)
    with Archive.open(settings) as archive:
        # One thread: of several examples under the same UIDs, the first one is taken each time.
        summary = import_.take_in(archive.store, [folder / "test_files", folder / "charset_files"], threads=1)
    service_log.setLevel(logging.NOTSET)
    print(
        f"Examples: {summary.stored} stored, {summary.same} already there; {len(summary.failed)} more are variants "
        "under the same UIDs, or broken on purpose, and were refused.",
        file=sys.stderr,
    )


def _totals(archive: Archive) -> tuple[int, int]:
    counts = archive.index.counts()
    return counts.instances, counts.studies


def _announce(settings: Settings, instances: int, studies: int) -> None:
    web = f"http://{_reachable(settings.server_host)}:{settings.server_port}/{settings.dicomweb_api}"
    called = f"{settings.dimse_ae_title}@{_reachable(settings.dimse_hostname)}"
    dimse = "  ".join(
        f"{called}:{port}{how}"
        for port, how in ((settings.dimse_port, ""), (settings.dimse_tls_port, " (TLS)"))
        if port
    )
    print(
        f"\n  DICOMweb  {web}\n"
        f"  DIMSE     {dimse if settings.enable_dimse else 'off (ENABLE_DIMSE=false)'}\n"
        f"  Data      {settings.dicom_store_rootpath}  "
        f"({console.plural(instances, 'instance')}, {console.plural(studies, 'study', 'studies')})\n"
        + (f"  Index     MongoDB {settings.mongodb_name} at {_members(settings)}\n" if settings.mongodb_hosts else "")
        + (f"  Workers   {settings.server_workers}\n" if settings.server_workers > 1 else "")
        + f"  Stop with Ctrl-C or: kill {os.getpid()}\n",
        flush=True,
    )


def _members(settings: Settings) -> str:
    """The servers of MongoDB as in its connection string, without login and options."""
    return mongo_uri(settings).rpartition("@")[2].removeprefix("mongodb://").partition("/")[0]


def _reachable(host: str) -> str:
    """An address that one can type here, where the server listens on all."""
    name = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104
    return f"[{name}]" if ":" in name else name
