"""``pacs conformance``: print the DICOM Conformance Statement (PS3.2)."""

from __future__ import annotations

import argparse
from typing import Any

from pacs.cli import console


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "conformance",
        help="print the DICOM Conformance Statement",
        description="Print the DICOM Conformance Statement of this archive as it is configured now.",
    )
    parser.add_argument("--format", choices=("markdown", "html"), default="markdown", help="default: markdown")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    # Here, not above: other commands start faster without it.
    from pacs.conformance.sections import as_text

    print(as_text(console.load_settings(log_level="ERROR"), arguments.format), end="")
    return console.OK
