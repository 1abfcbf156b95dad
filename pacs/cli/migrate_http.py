"""``pacs migrate orthanc`` and ``pacs migrate dicomweb``: what another archive gives over HTTP."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacs.cli import console
from pacs.errors import Invalid

if TYPE_CHECKING:
    from pacs.migrate.intake import Intake, Summary
    from pacs.migrate.remote import Remote

_SHOWN_FAILURES = 20
_NOTES = """\
A run that was interrupted goes on when it is called again: what is here already is not fetched. A server may be
running here, and the other one may go on receiving. A request that fails is made again, ever more seldom. A
password or token may be in a file: --user @FILE, --token @FILE. The exit code is 1 when something that is there
was not taken over, 3 when the other server cannot be reached.
"""
_ORTHANC_EXAMPLES = """
examples:
  pacs migrate orthanc --url http://localhost:8042 --dry-run
  pacs migrate orthanc --url https://orthanc.example --user admin:secret
"""
_DICOMWEB_EXAMPLES = """
examples:
  pacs migrate dicomweb --url http://localhost:8080/dcm4chee-arc/aets/DCM4CHEE/rs
  pacs migrate dicomweb --url https://pacs.example/dicom-web --token @token.txt --query StudyDate=20240101-
"""


def add_to(sources: Any) -> None:
    orthanc = sources.add_parser(
        "orthanc",
        help="an Orthanc, over its REST interface",
        description="Take over all instances of an Orthanc.",
        epilog=_NOTES + _ORTHANC_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_http(orthanc, "http://localhost:8042")
    orthanc.set_defaults(run=run_orthanc)
    dicomweb = sources.add_parser(
        "dicomweb",
        help="any archive that speaks DICOMweb",
        description="Take over the studies of an archive that speaks DICOMweb (QIDO-RS and WADO-RS).",
        epilog=_NOTES + _DICOMWEB_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_http(dicomweb, "http://server/dicom-web")
    dicomweb.add_argument(
        "--query",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="only studies that match, as StudyDate=20240101-20241231 or StudyInstanceUID=1.2.3; may be repeated",
    )
    dicomweb.set_defaults(run=run_dicomweb)


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="look, and say what would be done")
    console.add_common_options(parser)


def _add_http(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument("--url", metavar="URL", required=True, help=f"where it is, such as {example}")
    parser.add_argument("--user", metavar="NAME:PASSWORD", help="to log in with (HTTP Basic)")
    parser.add_argument("--token", metavar="TOKEN", help="to log in with (Bearer)")
    parser.add_argument("--header", metavar="'NAME: VALUE'", action="append", default=[], help="sent with all requests")
    parser.add_argument("--cacert", metavar="FILE", type=Path, help="certificates that the server's is checked with")
    parser.add_argument("--parallel", metavar="N", type=console.positive, default=4, help="how much at once")
    parser.add_argument("--attempts", metavar="N", type=console.positive, default=7, help="of each request")
    add_common(parser)


def run_orthanc(arguments: argparse.Namespace) -> int:
    from pacs.migrate import orthanc

    async def work(remote: Remote, intake: Intake) -> None:
        await orthanc.migrate(remote, intake, parallel=arguments.parallel)

    return _run(arguments, orthanc.CALLER, orthanc.count, work)


def run_dicomweb(arguments: argparse.Namespace) -> int:
    from pacs.migrate import dicomweb

    query = dict(_pair(text, "=", "--query") for text in arguments.query)

    async def count(remote: Remote) -> None:
        return None

    async def work(remote: Remote, intake: Intake) -> None:
        await dicomweb.DicomWeb(remote, intake, query).migrate(parallel=arguments.parallel)

    return _run(arguments, dicomweb.CALLER, count, work)


def _run(
    arguments: argparse.Namespace,
    caller: Any,
    count: Callable[[Remote], Awaitable[int | None]],
    work: Callable[[Remote, Intake], Awaitable[None]],
) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.archive import Archive
    from pacs.migrate.intake import Intake
    from pacs.migrate.remote import Remote

    remote = Remote(
        arguments.url,
        login=_login(arguments.user),
        headers=_headers(arguments),
        ca_file=arguments.cacert,
        attempts=arguments.attempts,
        connections=arguments.parallel + 2,
    )

    async def migrate(archive: Archive) -> Summary:
        async with remote:
            total = await count(remote)
            with console.progress("Fetching", total, show=not arguments.json) as bar:
                intake = Intake(
                    archive.index,
                    archive.store,
                    caller,
                    dry_run=arguments.dry_run,
                    progress=lambda done: bar.advance(bar.task_ids[0], done),
                )
                await work(remote, intake)
                return intake.summary

    with Archive.open(settings) as archive:
        summary = asyncio.run(migrate(archive))
    return _report(arguments, summary)


def _report(arguments: argparse.Namespace, summary: Summary) -> int:
    if arguments.json:
        failed = [{"name": name, "reason": reason} for name, reason in summary.failed]
        console.print_json({**vars(summary), "failed": failed, "dry_run": arguments.dry_run})
    else:
        for name, reason in summary.failed[:_SHOWN_FAILURES]:
            print(f"{name}: {reason}", file=sys.stderr)
        if len(summary.failed) > _SHOWN_FAILURES:
            print(f"… and {len(summary.failed) - _SHOWN_FAILURES:,} more (--json lists all)", file=sys.stderr)
        print(f"{console.plural(summary.studies, 'study', 'studies')} over there: {summary.sentence()}.")
    return console.FAILED if summary.failed else console.OK


def _login(user: str | None) -> tuple[str, str] | None:
    return _pair(_secret(user, "--user"), ":", "--user") if user else None


def _headers(arguments: argparse.Namespace) -> dict[str, str]:
    headers = dict(_pair(text, ":", "--header") for text in arguments.header)
    if arguments.token:
        headers["Authorization"] = f"Bearer {_secret(arguments.token, '--token')}"
    return headers


def _secret(text: str, option: str) -> str:
    """As given, or what is in the file after an @."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Invalid(f"{option}: {text[1:]}: {error.strerror}", option) from None


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise Invalid(f"{option}: expected NAME{separator}VALUE", option)
    return name.strip(), value.strip()
