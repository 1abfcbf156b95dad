"""``pacs fhir``: have the FHIR server brought up to date about studies that are there already."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pacs.cli import console
from pacs.errors import Invalid

if TYPE_CHECKING:
    from pacs.archive import Archive

_NOTES = """\
What arrives or is deleted from now on is seen to without this. The work is done by the server, one study after the
other; `pacs jobs --kind fhir` shows what is left.

examples:
  pacs fhir --all                    after the sync was switched on, or the FHIR server was made anew
  pacs fhir 1.2.840.113619.2.55.3    one study, also one that was deleted
"""
_PAGE = 500


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "fhir",
        help="bring the FHIR server up to date about what is stored",
        description="Have the FHIR server brought up to date about studies that are there already.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", nargs="*", metavar="STUDY", help="Study Instance UID")
    parser.add_argument("--all", action="store_true", help="all studies")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    if not settings.sync_to_fhir_server:
        raise Invalid("SYNC_TO_FHIR_SERVER is not true: no server would do it", "SYNC_TO_FHIR_SERVER")
    if bool(arguments.study) == arguments.all:
        raise Invalid("name studies, or --all", "STUDY")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive
    from pacs.index.work import NewJob
    from pacs.services.following import FHIR

    asked = 0
    with Archive.open(settings) as archive:
        for page in _all_studies(archive) if arguments.all else [arguments.study]:
            archive.index.work.add_jobs([NewJob(FHIR, study_uid) for study_uid in page])
            asked += len(page)
    if arguments.json:
        console.print_json({"studies": asked})
    else:
        print(f"To be brought up to date: {console.plural(asked, 'study', 'studies')}.")
    return console.OK


def _all_studies(archive: Archive) -> Iterator[list[str]]:
    from dataclasses import replace

    import orjson

    from pacs.dicom.dictionary import first_value
    from pacs.dicom.model import Level
    from pacs.index.base import Fields, Query

    query = Query(Level.STUDY, {}, fields=Fields(tags=frozenset({"0020000D"})), limit=_PAGE)
    while True:
        page = archive.index.search(query)
        yield [first_value(orjson.loads(row), "0020000D") for row in page.rows]
        if page.next is None:
            return
        query = replace(query, after=page.next)
