"""``pacs find``: search another archive (C-FIND)."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from pacs.cli import asking, console
from pacs.dicom.keys import resolve
from pacs.dicom.model import Level

_ASKED = {
    Level.PATIENT: ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    Level.STUDY: (
        *("PatientID", "PatientName", "StudyDate", "AccessionNumber", "ModalitiesInStudy", "StudyDescription"),
        *("NumberOfStudyRelatedInstances", "StudyInstanceUID"),
    ),
    Level.SERIES: (
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
        "SeriesInstanceUID",
    ),
    Level.IMAGE: ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}
_EXAMPLES = """\
examples:
  pacs find ARCHIVE -k PatientName=DOE* -k StudyDate=20260101-
  pacs find ARCHIVE@10.0.0.7:104 --level series -k StudyInstanceUID=1.2.840.1
  pacs find ARCHIVE --json -k PatientID=4711 -k ReferringPhysicianName

A key is a keyword or a tag; without a value it is only asked for. "*" and "?" stand for any characters, "-" for a
range.
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "find",
        help="search a peer (C-FIND)",
        description="Search another archive.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    asking.add_peer(parser)
    parser.add_argument(
        "-k",
        "--key",
        dest="keys",
        metavar="KEY[=VALUE]",
        action="append",
        default=[],
        help="what to match, or what else to ask for; may be repeated",
    )
    parser.add_argument("--level", choices=[level.name.lower() for level in Level], default="study")
    parser.add_argument("--limit", metavar="N", type=console.positive, help="stop after so many answers")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    level = Level[arguments.level.upper()]
    asked = asking.identifier(arguments.keys, _ASKED[level])
    settings = console.load_settings(log_level="ERROR")
    found = list(asking.requests_to(settings, arguments.peer).find(level, asked, arguments.limit))
    if arguments.json:
        console.print_json(found)
        return console.OK
    names = [*_ASKED[level], *(name.partition("=")[0] for name in arguments.keys)]
    columns = {name: resolve(name)[0] for name in dict.fromkeys(names)}
    table = Table(*columns)
    for answer in found:
        table.add_row(*(asking.text_of(answer.get(tag)) for tag in columns.values()))
    if found:
        Console().print(table)
    print(console.plural(len(found), "answer") + ".")
    return console.OK
