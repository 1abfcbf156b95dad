"""``pacs export``: copy studies out as plain Part 10 files."""

from __future__ import annotations

import argparse
import sys
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pacs.cli import console
from pacs.dicom.matching import Single
from pacs.dicom.model import Caller, Level, StoredInstance, Target
from pacs.errors import Invalid, NotFound, PacsError
from pacs.index.base import Fields, Query
from pacs.services.file_key import safe_name

if TYPE_CHECKING:
    from pacs.archive import Archive
    from pacs.services.retrieve import Content

_CALLER = Caller("pacs export", "", "cli")
_PAGE = 500
_AHEAD = 8
_UID_ONLY = Fields(tags=frozenset({"0020000D"}))
_EXAMPLES = """\
examples:
  pacs export --study 1.2.840.1 --study 1.2.840.2 out/
  pacs export --patient 12345 --zip patient.zip
  pacs export --all /mnt/backup

Files are named <study>/<series>/<instance>.dcm and are byte for byte what is stored; there is no DICOMDIR. Existing
files of these names are overwritten. A server may be running. The exit code is 1 when a file could not be written.
"""


@dataclass
class _Summary:
    instances: int = 0
    size_bytes: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, content: Content) -> None:
        self.instances += 1
        self.size_bytes += content.size_bytes


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "export",
        help="copy studies out as plain DICOM files",
        description="Copy stored instances into a folder or a ZIP file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--study", metavar="UID", action="append", default=[], help="Study Instance UID; may be repeated")
    what.add_argument("--patient", metavar="ID", action="append", default=[], help="Patient ID; may be repeated")
    what.add_argument("--all", action="store_true", help="everything")
    parser.add_argument("destination", metavar="DEST", type=Path, help="folder, or with --zip the file to write")
    parser.add_argument("--zip", action="store_true", help="write one ZIP file")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive

    destination: Path = arguments.destination
    if destination.resolve().is_relative_to(settings.dicom_store_rootpath.resolve()):
        raise Invalid("the destination must not lie in the archive's own data folder", "DEST")
    with Archive.open(settings) as archive:
        studies = list(_studies(archive, arguments))
        write = _write_zip if arguments.zip else _write_folder
        with console.progress("Exporting", None, show=not arguments.json) as bar:
            summary = write(archive, studies, destination, lambda: bar.advance(bar.task_ids[0]))
    if arguments.json:
        failed = [{"file": name, "reason": reason} for name, reason in summary.failed]
        console.print_json({**vars(summary), "studies": len(studies), "failed": failed})
    else:
        for name, reason in summary.failed:
            print(f"{name}: {reason}", file=sys.stderr)
        print(
            f"Exported {console.plural(summary.instances, 'instance')} "
            f"of {console.plural(len(studies), 'study', 'studies')} to {destination}"
            + (f"; {len(summary.failed):,} failed." if summary.failed else ".")
        )
    return console.FAILED if summary.failed else console.OK


def _studies(archive: Archive, arguments: argparse.Namespace) -> Iterator[str]:
    """Study Instance UIDs. Raises NotFound when something that was named is not there."""
    if arguments.all:
        yield from _search(archive, Query(Level.STUDY, {}, fields=_UID_ONLY, limit=_PAGE))
    for patient_id in arguments.patient:
        query = Query(Level.STUDY, {("00100020",): Single(patient_id)}, fields=_UID_ONLY, limit=_PAGE)
        studies = list(_search(archive, query))
        if not studies:
            raise NotFound(f"no study of patient {patient_id!r}")
        yield from studies
    for study_uid in arguments.study:
        if not archive.index.locate(Target(study_uid)):
            raise NotFound(f"no study {study_uid}")
        yield study_uid


def _search(archive: Archive, query: Query) -> Iterator[str]:
    after: str | None = None
    while True:
        page = archive.query.search(replace(query, after=after), _CALLER)
        for row in page.rows:
            yield orjson.loads(row)["0020000D"]["Value"][0]
        if page.next is None:
            return
        after = page.next


def _write_folder(archive: Archive, studies: list[str], destination: Path, advance: Callable[[], None]) -> _Summary:
    summary = _Summary()
    for _, name, content in _opened(archive, studies):
        path = destination / name
        partial = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file, closing(content):
                file.writelines(content.chunks())
            # The name appears with the whole file behind it.
            partial.replace(path)
            summary.add(content)
        except (PacsError, OSError) as error:
            partial.unlink(missing_ok=True)
            summary.failed.append((name, str(error)))
        advance()
    return summary


def _write_zip(archive: Archive, studies: list[str], destination: Path, advance: Callable[[], None]) -> _Summary:
    summary = _Summary()
    partial = destination.with_name(f".{destination.name}.part")
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as target:
            for instance, name, content in _opened(archive, studies):
                with closing(content):
                    chunks = iter(content.chunks())
                    try:
                        # Of a store that is far away, the date would be a request of its own.
                        is_local = archive.blobs.is_local
                        modified_s = archive.blobs.state(instance.blob.key).modified_s if is_local else time.time()
                        first = next(chunks, b"")  # what cannot be read should show before its entry begins
                    except PacsError as error:
                        summary.failed.append((name, str(error)))
                        continue
                    modified = zipfile.ZipInfo(name, time.localtime(modified_s)[:6])
                    with target.open(modified, "w", force_zip64=True) as member:
                        for piece in chain((first,), chunks):
                            member.write(piece)
                summary.add(content)
                advance()
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)
    return summary


def _opened(archive: Archive, studies: list[str]) -> Iterator[tuple[StoredInstance, str, Content]]:
    """Each instance with its name and content, to be closed; a store that is far away reads a few ahead."""
    ahead: deque[tuple[StoredInstance, str, Content]] = deque()
    for instance, name in _instances(archive, studies):
        ahead.append((instance, name, archive.retrieve.file(instance, at_once=True)))
        if len(ahead) > _AHEAD:
            yield ahead.popleft()
    yield from ahead


def _instances(archive: Archive, studies: list[str]) -> Iterator[tuple[StoredInstance, str]]:
    for study_uid in studies:
        for instance in archive.index.locate(Target(study_uid)):
            target = instance.target
            uids = (target.study_uid, target.series_uid or "", target.sop_uid or "")
            yield instance, "/".join(safe_name(uid) for uid in uids) + ".dcm"
