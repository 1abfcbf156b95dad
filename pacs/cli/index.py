"""``pacs index``: indexes over attributes that searches by would otherwise have to look into every instance for."""

from __future__ import annotations

import argparse
import time
from typing import Any

from pacs.cli import console
from pacs.dicom.dictionary import pydicom_dictionary
from pacs.dicom.keys import resolve
from pacs.dicom.matchers import TagPath
from pacs.errors import Invalid, NotFound

_NOTES = """\
TAG is a keyword (SliceThickness), a tag (00180050), an attribute within sequences
(RequestAttributesSequence.ScheduledProcedureStepID), or a private one with its creator (00091002@CREATOR).
The server may be running: it fills the index with what arrives, and uses it for C-FIND and QIDO-RS once
`pacs index add` has taken in all that was there before. Answers are the same without it, only later.
An `add` that was interrupted goes on when it is called again.
"""
_SHOWN_EVERY_S = 1.0
_PAUSE_S = 0.005  # in which the server gets at the index


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "index",
        help="add, list or drop indexes over further attributes",
        description="Indexes over attributes that have none by themselves.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, run, summary in (
        ("add", run_add, "make an index over an attribute"),
        ("list", run_list, "show the indexes, and how far they are"),
        ("drop", run_drop, "remove an index"),
    ):
        action = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        if name != "list":
            action.add_argument("tag", metavar="TAG", help="keyword, tag, path or private tag with its creator")
        console.add_common_options(action)
        action.set_defaults(run=run)


def run_add(arguments: argparse.Namespace) -> int:
    path = resolve(arguments.tag)
    with _archive(arguments) as archive:
        index = archive.index
        index.add_index(path)
        (mine,) = (each for each in index.added_indexes() if each.path == path)
        with console.progress("Indexing", mine.total, show=not arguments.json) as bar:
            shown = time.monotonic()
            while not index.fill_index(path):
                if not arguments.json and time.monotonic() - shown > _SHOWN_EVERY_S:
                    shown = time.monotonic()
                    (mine,) = (each for each in index.added_indexes() if each.path == path)
                    bar.update(bar.task_ids[0], completed=mine.done, total=mine.total)
                time.sleep(_PAUSE_S)
            bar.update(bar.task_ids[0], completed=mine.total)
        (mine,) = (each for each in index.added_indexes() if each.path == path)
    if arguments.json:
        console.print_json({"tag": _name(path), "complete": mine.is_complete, "instances": mine.done})
    else:
        print(f"{_name(path)} has an index over {console.plural(mine.done, 'instance')}.")
    return console.OK


def run_list(arguments: argparse.Namespace) -> int:
    with _archive(arguments) as archive:
        found = archive.index.added_indexes()
    if arguments.json:
        console.print_json(
            {
                "indexes": [
                    {"tag": _name(each.path), "complete": each.is_complete, "done": each.done, "total": each.total}
                    for each in found
                ]
            }
        )
        return console.OK
    for each in found:
        state = "complete" if each.is_complete else f"{each.done:,} of {console.plural(each.total, 'instance')}"
        print(f"{_name(each.path)}: {state}")
    if not found:
        print("There are no added indexes.")
    return console.OK


def run_drop(arguments: argparse.Namespace) -> int:
    path = resolve(arguments.tag)
    with _archive(arguments) as archive:
        try:
            archive.index.drop_index(path)
        except NotFound as error:
            raise Invalid(f"{_name(path)}: {error}", "tag") from error
    if arguments.json:
        console.print_json({"tag": _name(path), "dropped": True})
    else:
        print(f"{_name(path)} has no index any more.")
    return console.OK


def _archive(arguments: argparse.Namespace) -> Any:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive

    return Archive.open(settings)


def _name(path: TagPath) -> str:
    """As a person would type it."""
    names = [tag if "@" in tag else pydicom_dictionary().keyword_for_tag(int(tag, 16)) or tag for tag in path]
    return ".".join(names)
