"""``pacs serve``: run the archive until it is told to stop."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pacs import gate, journal, logs
from pacs.cli import console, import_
from pacs.errors import Invalid, PacsError
from pacs.mongo_settings import mongo_uri
from pacs.service_manager import findable, notify
from pacs.settings import Settings, load
from pacs.supervisor import Role, run_apart, supervise

if TYPE_CHECKING:
    from pacs.archive import Archive

_EXAMPLES = """\
examples:
  pacs serve --demo                     start with a few example images
  pacs serve --port 8042 --data /srv/pacs
  pacs serve --workers 4                use four processors (default: 2 where there are as many)
  SERVER_HOST=0.0.0.0 DIMSE_HOSTNAME=0.0.0.0 pacs serve      reachable from other machines

Reached from other machines it takes accounts: pacs account add NAME. docs/security.md says more.
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
    if not _is_to_prepare(settings):
        gate.check(settings, has_accounts=True)
    # What ends the process before it can reload would not be what was meant.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with findable(settings.dicom_store_rootpath):
        code = _serve_with_workers(settings, arguments) if settings.server_workers > 1 else _serve(settings, arguments)
    if code == console.OK:
        print("Stopped.", flush=True)
    return code


def _serve(settings: Settings, arguments: argparse.Namespace) -> int:
    # Here, not above: other commands start faster without the servers.
    from pacs.app import serve

    _keep_log(settings)
    if _is_to_prepare(settings):
        _prepare(settings)
    if arguments.demo:
        _import_examples(settings)
    serve(
        settings,
        lambda archive: _announce(settings, *_totals(archive)),
        read=lambda: load(_overrides(arguments)).settings,
    )
    return console.OK


def _serve_with_workers(settings: Settings, arguments: argparse.Namespace) -> int:
    # All that workers need is loaded before they are forked: once for all of them.
    from pacs.app import load_all, serve
    from pacs.metrics import Board
    from pacs.reloading import read_change, tell

    load_all()
    _keep_log(settings)
    board = Board(settings.server_workers)

    if _is_to_prepare(settings):
        code = run_apart(lambda: _ending_with_its_code(lambda: _prepare(settings)))
        if code != console.OK:
            return code
    if arguments.demo:
        code = run_apart(lambda: _ending_with_its_code(lambda: _import_examples(settings)))
        if code != console.OK:
            return code

    latest = settings

    def read() -> Settings:
        return load(_overrides(arguments)).settings

    def reload() -> bool:
        # Checked here, once; and a worker that has to be started again later starts with it.
        nonlocal latest
        change = read_change(latest, read)
        if change is None:
            return False
        latest = change.settings
        logs.configure(latest.log_level, latest.log_format, file=latest.logs_to)
        tell(change)
        return True

    def work(role: Role) -> None:
        logs.configure(latest.log_level, latest.log_format, worker=role.number, file=latest.logs_to)
        _keep_log(latest, role.number)

        def say_ready(archive: Archive) -> None:
            with os.fdopen(role.ready, "w", encoding="ascii") as parent:
                json.dump(_totals(archive), parent)

        _ending_with_its_code(lambda: serve(latest, say_ready, role, read, board))

    supervise(settings, work, lambda said: _announce(settings, *json.loads(said)), reload)
    return console.OK


def _keep_log(settings: Settings, worker: int | None = None) -> None:
    from pacs.operating import log_folder

    journal.attach(log_folder(settings), settings.log_kept_bytes, worker=worker)


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


def _is_to_prepare(settings: Settings) -> bool:
    return bool(settings.admin_password.get_secret_value()) or gate.takes_accounts(settings)


def _prepare(settings: Settings) -> None:
    """The first account, where ADMIN_PASSWORD makes one. Raises Invalid when there has to be one and is not."""
    from pacs.archive import Archive
    from pacs.services.accounts import FIRST, Accounts
    from pacs.services.passwords import Passwords
    from pacs.services.roster import Rosters

    password = settings.admin_password.get_secret_value()
    with Archive.open(settings) as archive:
        accounts = Accounts(Rosters(archive.index.work), Passwords())
        try:
            if password and accounts.make_first(password):
                print(f"Made the account {FIRST}, an administrator's, with ADMIN_PASSWORD.", file=sys.stderr)
        except Invalid as error:
            raise Invalid(f"ADMIN_PASSWORD: {error}", "ADMIN_PASSWORD") from error
        gate.check(settings, has_accounts=not accounts.is_empty)


def _import_examples(settings: Settings) -> None:
    import pydicom.data

    from pacs.archive import Archive
    from pacs.cli import phantom

    # What lies in the wheel; pydicom's own look-up would download further files.
    folder = Path(pydicom.data.__file__).parent
    # A line for every example would bury what counts.
    service_log = logging.getLogger("pacs.services")
    service_log.setLevel(logging.ERROR)
    with Archive.open(settings) as archive, TemporaryDirectory() as made:
        phantom.write(Path(made))
        # One thread: of several examples under the same UIDs, the first one is taken each time.
        summary = import_.take_in(
            archive.store, [Path(made), folder / "test_files", folder / "charset_files"], threads=1
        )
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
    page = f"http://{_reachable(settings.server_host)}:{settings.server_port}/"
    called = f"{settings.dimse_ae_title}@{_reachable(settings.dimse_hostname)}"
    dimse = "  ".join(
        f"{called}:{port}{how}"
        for port, how in ((settings.dimse_port, ""), (settings.dimse_tls_port, " (TLS)"))
        if port
    )
    print(
        f"\n  Web page  {page}\n"
        f"  DICOMweb  {page}{settings.dicomweb_api}\n"
        f"  DIMSE     {dimse if settings.enable_dimse else 'off (ENABLE_DIMSE=false)'}\n"
        f"  Data      {settings.dicom_store_rootpath}  "
        f"({console.plural(instances, 'instance')}, {console.plural(studies, 'study', 'studies')})\n"
        + (f"  Index     MongoDB {settings.mongodb_name} at {_members(settings)}\n" if settings.mongodb_hosts else "")
        + (f"  Workers   {settings.server_workers}\n" if settings.server_workers > 1 else "")
        + f"  Stop with Ctrl-C or: kill {os.getpid()}\n",
        flush=True,
    )
    notify("READY=1")


def _members(settings: Settings) -> str:
    """The servers of MongoDB as in its connection string, without login and options."""
    return mongo_uri(settings).rpartition("@")[2].removeprefix("mongodb://").partition("/")[0]


def _reachable(host: str) -> str:
    """An address that one can type here, where the server listens on all."""
    name = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104
    return f"[{name}]" if ":" in name else name
