"""``pacs verify``: whether index and files agree, and making them agree again."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from pacs.cli import console, taking_in
from pacs.services.integrity import Problem, count
from pacs.services.lock import InUse

if TYPE_CHECKING:
    from pacs.archive import Archive
    from pacs.settings import Settings

_NOTES = """\
What is looked for:
  missing      in the index, and its file is not there       --repair: taken out of the index
  size         its file has another size                     only reported
  digest       its file holds another data set               only reported
  unreadable   its file cannot be read                       only reported
  orphan       a DICOM file that the index does not know     --repair: indexed; or moved to <data>/orphans
                                                             when the instance is stored already
  foreign      a file that is not DICOM, or cut short        --repair: moved to <data>/orphans
  leftover     half-received when a process was killed       --repair: removed; if whole, moved to <data>/orphans

No stored file is ever deleted. When more than half of all files are missing, --repair changes nothing: another
store, or none, may be in its place. While a server is running, files of the last minute and half-received ones
of the last hour are left alone. The exit code is 1 when a problem was found that was not repaired, and whenever
stored data are missing or changed.
"""
# These mean that something that was acknowledged is gone or changed, repaired or not.
_LOSSES = frozenset({"missing", "size", "digest", "unreadable"})


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "verify",
        help="check that index and files agree",
        description="Compare the index with the stored files, both ways, and every file with its digest.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--digests", action="store_true", default=True, help="read every stored byte (the default)")
    depth.add_argument("--quick", action="store_true", help="only whether files are there, and their sizes")
    parser.add_argument("--repair", action="store_true", help="mend what can be mended, as listed below")
    parser.add_argument("--force", action="store_true", help="repair even when more than half of all files are missing")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    archive, alone = _open(settings)
    with archive:
        integrity = taking_in.integrity_of(settings, archive.index, archive.blobs, alone=alone)
        total = 2 * archive.index.counts().instances  # each as a row, and as a file
        problems: list[Problem] = []
        with console.progress("Verifying", total, show=not arguments.json) as bar:
            for problem in integrity.verify(
                digests=not arguments.quick,
                repair=arguments.repair,
                force=arguments.force,
                progress=lambda done: bar.advance(bar.task_ids[0], done),
            ):
                problems.append(problem)
                if not arguments.json:
                    bar.console.print(_line(problem), markup=False, highlight=False, soft_wrap=True)
        instances = archive.index.counts().instances
    unresolved = [problem for problem in problems if not problem.repair]
    if arguments.json:
        console.print_json(
            {
                "instances": instances,
                "faults": count(problems),
                "unrepaired": len(unresolved),
                "refusal": integrity.refusal,
                "problems": [{**_fields(problem)} for problem in problems],
            }
        )
    else:
        print(f"{console.plural(instances, 'instance')}: {_sentence(problems, unresolved)}")
        if integrity.refusal:
            print(f"{integrity.refusal}.", file=sys.stderr)
        if not alone:
            print("A server is running: what came in within the last minute was not judged.")
    return console.FAILED if unresolved or _LOSSES & set(count(problems)) else console.OK


def _open(settings: Settings) -> tuple[Archive, bool]:
    """The archive, alone if nobody else is in it."""
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive

    try:
        return Archive.open(settings, exclusive=True), True
    except InUse:
        return Archive.open(settings), False


def _fields(problem: Problem) -> dict[str, str]:
    return {
        "fault": problem.fault.value,
        "key": problem.key,
        "sop_uid": problem.subject,
        "detail": problem.detail,
        "repair": problem.repair,
    }


def _line(problem: Problem) -> str:
    parts = [f"{problem.fault.value:<10} {problem.key}"]
    parts += [f"sop={problem.subject}"] if problem.subject else []
    parts += [f"({problem.detail})"] if problem.detail else []
    parts += [f"→ {problem.repair}"] if problem.repair else []
    return " ".join(parts)


def _sentence(problems: list[Problem], unresolved: list[Problem]) -> str:
    if not problems:
        return "index and files agree."
    faults = ", ".join(f"{number:,} {fault}" for fault, number in count(problems).items())
    hint = " (pacs verify --repair mends what can be mended)" if unresolved else ""
    return f"{faults}; {len(problems) - len(unresolved):,} repaired, {len(unresolved):,} not.{hint}"
