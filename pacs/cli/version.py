"""``pacs version``"""

from __future__ import annotations

import argparse
import platform
from typing import Any

import pacs
from pacs.cli import console


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser("version", help="print the version", description="Print the version.")
    parser.add_argument("--json", action="store_true", help="as a JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.json:
        console.print_json({"version": pacs.__version__, "python": platform.python_version()})
    else:
        print(f"pacs {pacs.__version__} (Python {platform.python_version()})")
    return console.OK
