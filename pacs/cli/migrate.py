"""``pacs migrate``: take over what another archive holds."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pacs import env_file
from pacs.cli import console, migrate_http
from pacs.errors import Invalid
from pacs.migrate.plan import Fate, Finding, Plan

if TYPE_CHECKING:
    from pacs.settings import Settings

_NOTES = """\
  pacs migrate raccoon      a raccoon-dicom installation: its files are adopted, not copied
  pacs migrate orthanc      an Orthanc, over its REST interface
  pacs migrate dicomweb     any other archive that speaks DICOMweb
"""
_RACCOON_NOTES = """\
Stop raccoon first. Where its files lie in this archive's own store (DICOM_STORE_ROOTPATH is the same, as with
raccoon's .env), they are adopted where they are; else by hard link, so that both have them and no space is
used; on another filesystem they are copied when --copy is given. Without --mongo, --database and --store the
settings MONGODB_* and DICOM_STORE_ROOTPATH say where raccoon's data are, in --env FILE or in our own .env.

raccoon's database is only read. What it has marked as deleted is left out; files of such instances that lie in
this archive's store are put on record as deleted: `pacs purge` removes them, `pacs verify` and `pacs reindex`
leave them alone. JPEG, metadata and bulk data files of raccoon's are left where they are, and not used.

A run that was interrupted goes on when it is called again; a further run changes nothing. The exit code is 1
when instances are missing, files cannot be read, or one instance has several contents: the list says which.

examples:
  pacs migrate raccoon --dry-run --env /opt/raccoon/.env
  pacs migrate raccoon --mongo mongodb://root:secret@localhost:27017/?authSource=admin --store /dicomFiles
"""
_SHOWN_FINDINGS = 20
_PROBLEMS = ("missing", "overwritten", "unreadable", "refused", "conflict", "shown")
_ADOPTED = (Fate.IN_PLACE, Fate.LINKED, Fate.COPIED, Fate.RENEWED)


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "migrate",
        help="take over what another archive holds",
        description="Take over what another archive holds.",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = parser.add_subparsers(metavar="SOURCE", required=True)
    raccoon = sources.add_parser(
        "raccoon",
        help="a raccoon-dicom installation, in place",
        description="Take over a raccoon-dicom installation: its database says which files, which are not copied.",
        epilog=_RACCOON_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    raccoon.add_argument("--env", metavar="FILE", type=Path, help="raccoon's .env: where its database and files are")
    raccoon.add_argument("--mongo", metavar="URI", help="raccoon's database server, mongodb://…")
    raccoon.add_argument("--database", metavar="NAME", help="raccoon's database (MONGODB_NAME)")
    raccoon.add_argument("--store", metavar="DIR", type=Path, help="raccoon's files: its DICOM_STORE_ROOTPATH")
    raccoon.add_argument("--orphans", action="store_true", help="take in files that no document names, too")
    raccoon.add_argument("--copy", action="store_true", help="copy where no hard link can be made")
    raccoon.add_argument("--list", metavar="FILE", type=Path, help="where the list of what needs a look goes (TSV)")
    raccoon.add_argument("--threads", metavar="N", type=console.positive, default=min(8, 2 * (os.cpu_count() or 1)))
    migrate_http.add_common(raccoon)
    raccoon.set_defaults(run=run_raccoon)
    migrate_http.add_to(sources)


@dataclass(frozen=True, slots=True)
class _Raccoon:
    """Where raccoon's data are."""

    uri: str
    database: str
    store: Path


def run_raccoon(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    source = _raccoon(arguments, settings)
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive
    from pacs.migrate.raccoon import CALLER, Options, Takeover
    from pacs.migrate.raccoon_database import read_documents
    from pacs.services.adopt import Adopt

    if not source.store.is_dir():
        raise Invalid(f"there is no folder {source.store}; say --store", "--store")
    with closing(Plan()) as plan, Archive.open(settings) as archive:
        adopt = Adopt(
            *(archive.index, archive.blobs, archive.store),
            caller=CALLER,
            copy=arguments.copy,
            max_inflated_bytes=settings.max_inflated_bytes,
        )
        if adopt.key_of(source.store / "files" / "-") is None and not (arguments.copy or adopt.can_link(source.store)):
            raise Invalid(f"{source.store} is on another filesystem than this archive: say --copy", "--copy")
        options = Options(arguments.orphans, arguments.dry_run, arguments.threads)
        takeover = Takeover(
            *(plan, adopt, archive.index, archive.blobs, archive.delete, source.store, archive.data_folder, options)
        )
        with console.progress("Reading raccoon's database", None, show=not arguments.json):
            total = takeover.prepare(read_documents(source.uri, source.database))
        with console.progress("Taking over", total, show=not arguments.json) as bar:
            takeover.run(lambda done: bar.advance(bar.task_ids[0], done))
        return _report(arguments, plan, takeover.byproducts, archive.data_folder)


def _report(arguments: argparse.Namespace, plan: Plan, byproducts: int, data_folder: Path) -> int:
    path = arguments.list or data_folder / "migrations" / f"raccoon-{datetime.now(UTC):%Y%m%dT%H%M%S}.tsv"
    kinds, shown = _write_list(path, plan.findings())
    fates = plan.fates()
    problems = {kind: kinds[kind] for kind in _PROBLEMS if kinds[kind]}
    live, deleted = plan.instances(deleted=False), plan.instances(deleted=True)
    result = {
        "dry_run": arguments.dry_run,
        "instances": live,
        "soft_deleted": deleted,
        **{fate.name.lower(): fates.get(fate, 0) for fate in _ADOPTED},
        "already_there": fates.get(Fate.ALREADY, 0),
        "duplicates": fates.get(Fate.DUPLICATE, 0),
        "deleted_here": fates.get(Fate.DELETED_HERE, 0),
        **{kind: kinds[kind] for kind in _PROBLEMS},
        "differs": kinds["differs"],
        "orphans": fates.get(Fate.ORPHAN, 0),
        "not_dicom": fates.get(Fate.OTHER, 0),
        "byproducts": byproducts,
        "list": str(path) if kinds else "",
    }
    if arguments.json:
        console.print_json(result)
        return console.FAILED if problems else console.OK
    for finding in shown:
        print(f"{finding.kind}: {finding.path or finding.sop_uid}: {finding.detail}", file=sys.stderr)
    if sum(problems.values()) > len(shown):
        print(f"… and {sum(problems.values()) - len(shown):,} more, see the list", file=sys.stderr)
    print("\n".join(_sentences(result, fates, problems)))
    return console.FAILED if problems else console.OK


def _sentences(result: dict[str, Any], fates: dict[Fate, int], problems: dict[str, int]) -> Iterable[str]:
    yield f"raccoon's database: {result['instances']:,} instances, and {result['soft_deleted']:,} deleted there."
    adopted = {fate: fates[fate] for fate in _ADOPTED if fates.get(fate)}
    already = f"{result['already_there']:,} there already"
    verb = "Would take over" if result["dry_run"] else "Taken over"
    how = ", ".join(f"{number:,} {fate.value}" for fate, number in adopted.items())
    yield f"{verb}: {how}; {already}." if adopted else f"Nothing to take over: {already}."
    left = [
        (result["duplicates"], "files held what another file holds, and were merged with it"),
        (result["soft_deleted"], "instances left out as deleted in raccoon"),
        (result["deleted_here"], "left out as deleted here since"),
        (result["orphans"], "DICOM files that no document names left out (--orphans takes them in)"),
        (result["byproducts"], "JPEG, metadata and bulk data files of raccoon's left where they are"),
        (result["not_dicom"], "other files left where they are"),
        (result["differs"], "files are of another study or series than their document says; the file is right"),
    ]
    yield from (f"  {number:,} {text}." for number, text in left if number)
    if problems:
        yield "Problems: " + ", ".join(f"{number:,} {kind}" for kind, number in problems.items()) + "."
    if result["list"]:
        yield f"The list is in {result['list']}"
    yield (
        "raccoon's database was only read. This archive's index is another: it shares no collection with raccoon's, "
        "even in the same database."
    )


def _write_list(path: Path, findings: Iterable[Finding]) -> tuple[Counter[str], list[Finding]]:
    """Write them all down, as they come, if there are any; returns how many of each kind, and the first problems."""
    kinds: Counter[str] = Counter()
    shown: list[Finding] = []
    file = None
    try:
        for finding in findings:
            if file is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
                lines = csv.writer(file, "excel-tab", lineterminator="\n")
                lines.writerow(("kind", "file", "sop_instance_uid", "detail"))
            kinds[finding.kind] += 1
            lines.writerow((finding.kind, finding.path, finding.sop_uid, finding.detail))
            if finding.kind in _PROBLEMS and len(shown) < _SHOWN_FINDINGS:
                shown.append(finding)
    finally:
        if file is not None:
            file.close()
    return kinds, shown


def _raccoon(arguments: argparse.Namespace, settings: Settings) -> _Raccoon:
    """From the arguments, or raccoon's .env, or the settings."""
    from pacs.migrate.raccoon_database import uri_of

    found = _of_env_file(arguments.env) if arguments.env else settings
    uri = arguments.mongo
    if not uri:
        if not found.mongodb_hosts:
            raise Invalid("where is raccoon's database? Say --mongo URI, or --env with raccoon's .env", "--mongo")
        uri = uri_of(
            found.mongodb_hosts,
            found.mongodb_ports,
            found.mongodb_user,
            found.mongodb_password.get_secret_value(),
            found.mongodb_auth_source,
            found.mongodb_options,
        )
    return _Raccoon(
        uri, arguments.database or found.mongodb_name, (arguments.store or found.dicom_store_rootpath).absolute()
    )


def _of_env_file(path: Path) -> Settings:
    """Where data are, by raccoon's .env; nothing else of it is looked at, and neither is the environment."""
    from pacs.settings import Settings

    folder = path.absolute().parent
    try:
        values = env_file.parse(path.read_text(encoding="utf-8"))
        wanted = {name.lower(): value for name, value in values.items() if name.startswith("MONGODB_") and value}
        known = {name: value for name, value in wanted.items() if name in Settings.model_fields}
        root = Path(values.get("DICOM_STORE_ROOTPATH") or "/dicomFiles").expanduser()
        return Settings(home=folder, dicom_store_rootpath=folder / root, **known)  # type: ignore[arg-type]
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}", "--env") from None
    except ValidationError as error:
        names = ", ".join(str(detail["loc"][0]).upper() for detail in error.errors())
        raise Invalid(f"{path}: cannot be understood: {names}", "--env") from None
    except ValueError as error:
        raise Invalid(f"{path}: {error}", "--env") from None
