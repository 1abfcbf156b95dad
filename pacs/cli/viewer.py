"""``pacs viewer``: the full viewer (OHIF), which the web server serves at /viewer/."""

from __future__ import annotations

import argparse
import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pacs.cli import console, viewer_package
from pacs.errors import Invalid, OutOfResources

_NOTES = """\
OHIF comes from npm's registry, by the npm that is installed here, in an exact version with a known digest. Where there
is no npm, or no way out, fetch the package elsewhere (npm pack @ohif/app@{version}) and install it --from that file. A
server that runs serves it at once, and needs no restart. docs/ohif.md says more.
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "viewer",
        help="the full viewer (OHIF): install, status, remove",
        description="The full viewer of the web page.",
        epilog=_NOTES.format(version=viewer_package.VERSION),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    install = _action(
        actions,
        "install",
        "fetch and unpack it; an older one serves until that is done",
        _install,
    )
    install.add_argument(
        "--version",
        metavar="X",
        help=f"exact version (default: {viewer_package.VERSION})",
    )
    install.add_argument(
        "--from",
        dest="source",
        metavar="FILE.tgz",
        type=Path,
        help="a package that npm pack made",
    )
    _action(
        actions,
        "status",
        "which version is installed; exit code 1 when none is",
        _status,
    )
    _action(actions, "remove", "remove it; the page's own quick viewer stays", _remove)


def _action(actions: Any, name: str, help_text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}."
    )
    console.add_common_options(parser)
    parser.set_defaults(run=run)
    return parser


def _install(arguments: argparse.Namespace) -> int:
    version = viewer_package.check_version(arguments.version or viewer_package.VERSION)
    folder = _folder(arguments)
    with (
        _alone(folder),
        tempfile.TemporaryDirectory(prefix=".viewer-", dir=folder.parent) as temporary,
    ):
        if arguments.source is not None:
            package = arguments.source
        else:
            with console.progress(f"Fetching OHIF {version}", None, show=not arguments.json):
                package = viewer_package.fetch(version, Path(temporary))
        digest = viewer_package.check(package, version)
        with console.progress("Unpacking", viewer_package.count(package), show=not arguments.json) as bar:
            installed = viewer_package.install(package, version, digest, folder, lambda: bar.advance(bar.tasks[0].id))
    if arguments.json:
        console.print_json({**installed.as_json(), "folder": str(folder)})
        return console.OK
    known = "" if version in viewer_package.KNOWN else f"; this version was not tested here, its digest is {digest}"
    print(f"Installed OHIF {version} in {folder}: {_size(installed)}{known}")
    return console.OK


def _status(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments)
    installed = viewer_package.installed_in(folder)
    if arguments.json:
        console.print_json(
            {
                **(installed.as_json() if installed else {"version": None}),
                "folder": str(folder),
            }
        )
    elif installed is None:
        print(f"No full viewer in {folder}: pacs viewer install")
    else:
        print(f"OHIF {installed.version} in {folder}: {_size(installed)}")
    return console.FAILED if installed is None else console.OK


def _remove(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments)
    with _alone(folder):
        installed = viewer_package.installed_in(folder)
        if installed is None:
            # What was not put there by this command is not removed by it either.
            raise Invalid(f"no full viewer in {folder}", "viewer")
        viewer_package.remove(folder)
    if arguments.json:
        console.print_json({"removed": installed.version, "folder": str(folder)})
    else:
        print(f"Removed OHIF {installed.version}.")
    return console.OK


def _folder(arguments: argparse.Namespace) -> Path:
    return console.load_settings(console.data_overrides(arguments), log_level="ERROR").viewer_path


def _size(installed: viewer_package.Installed) -> str:
    return f"{console.plural(installed.files, 'file')}, {installed.size_bytes / 1e6:.0f} MB"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second run out. Raises Invalid, OutOfResources, and Invalid for a folder that holds something else."""
    try:
        if folder.exists() and viewer_package.installed_in(folder) is None and any(folder.iterdir()):
            raise Invalid(
                f"{folder} holds something else than a viewer (VIEWER_FOLDER)",
                "VIEWER_FOLDER",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise OutOfResources(f"{folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Invalid(f"another command is installing a viewer in {folder}", "viewer") from None
        yield
