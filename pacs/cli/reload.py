"""``pacs reload``: have the running server take over what has changed in its settings."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from pacs.cli import console
from pacs.service_manager import servers_of

_NOTES = """\
The same as SIGHUP, or `systemctl reload`. The server reads .env and the files of rules again; its log says what it
took over, and what has to wait for a restart. When the new configuration is wrong, the old one goes on, and the log
says what is wrong. Peers, users and certificates need no reload. What came from the environment, or from options of
`pacs serve`, stays as it is.
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "reload",
        help="take over changed settings without a restart",
        description="Have the servers over this data folder, on this machine, reload their configuration.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    # This refuses what the server would refuse, where it can be seen.
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    told = []
    for pid in servers_of(settings.dicom_store_rootpath):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
            told.append(pid)
    if arguments.json:
        console.print_json({"servers": told})
    elif told:
        print(f"Told {console.plural(len(told), 'server')} to reload; the log says what came of it.")
    else:
        print(f"pacs: no server runs here over {settings.dicom_store_rootpath}", file=sys.stderr)
    return console.OK if told else console.FAILED
