"""``pacs backup``: a consistent copy of the index, while the server is running."""

from __future__ import annotations

import argparse
import errno
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pacs.cli import console
from pacs.errors import Invalid, OutOfResources

_NOTES = """\
The copy is the index as it was at one moment. Servers and imports go on meanwhile. It is checked (every page, and
the version of its tables) before it gets its name. Stored files never change, so that any tool that copies new
files is enough for them: copy the index first and <data>/files after it, with rsync for example.

examples:
  pacs backup /backup/               a new file with the time in its name
  pacs backup --gzip --force /backup/index.sqlite.gz
  rsync -a --link-dest=/backup/yesterday /dicomFiles/files /backup/today/
"""
_NO_LINK = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK})


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "backup",
        help="copy the index while the server is running",
        description="Make a consistent copy of the embedded index (SQLite).",
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("destination", metavar="FILE_OR_FOLDER", type=Path, help="a new file, or a folder for it")
    parser.add_argument("--gzip", action="store_true", help="compress it (a name that ends in .gz does so, too)")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    console.add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    # Here, not above: other commands start faster without the servers.
    from pacs.backends import backup_index
    from pacs.index.sqlite_backup import check_index, pack

    destination = _file(arguments.destination, packed=arguments.gzip)
    is_packed = arguments.gzip or destination.suffix == ".gz"
    if destination.exists() and not arguments.force:
        raise _exists(destination)
    copy = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.part")
    packed = copy.with_name(f"{copy.name}.gz")
    try:
        with console.progress("Copying the index", None, show=not arguments.json) as bar:
            backup_index(settings, copy, lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total))
        with console.progress("Checking it", None, show=not arguments.json):
            contents = check_index(copy)
            if is_packed:
                pack(copy, packed)
        _put_in_place(packed if is_packed else copy, destination, replace=arguments.force)
    except OSError as error:
        raise OutOfResources(f"{destination}: {error.strerror or type(error).__name__}") from error
    finally:
        for path in (copy, packed):
            path.unlink(missing_ok=True)
    size_bytes = destination.stat().st_size
    if arguments.json:
        console.print_json({"file": str(destination), "size_bytes": size_bytes, **contents._asdict()})
    else:
        print(
            f"Backed up the index of {console.plural(contents.instances, 'instance')} in "
            f"{console.plural(contents.studies, 'study', 'studies')}: {destination} ({size_bytes / 1e6:,.1f} MB)"
        )
    return console.OK


def _file(destination: Path, *, packed: bool) -> Path:
    """A folder stands for a new file in it."""
    if destination.is_dir():
        return destination / f"index-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.sqlite{'.gz' if packed else ''}"
    if not destination.parent.is_dir():
        raise Invalid(f"there is no folder {destination.parent}", "FILE_OR_FOLDER")
    return destination


def _put_in_place(copy: Path, destination: Path, *, replace: bool) -> None:
    """Durable, and all at once; never over another file, unless asked to."""
    from pacs.index.sqlite_backup import fsync

    fsync(copy)
    if replace:
        copy.replace(destination)
    else:
        try:
            destination.hardlink_to(copy)
        except FileExistsError:
            raise _exists(destination) from None
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            copy.rename(destination)
    with suppress(OSError):  # not every network filesystem can
        fsync(destination.parent)


def _exists(destination: Path) -> Invalid:
    return Invalid(f"{destination} exists; --force replaces it", "FILE_OR_FOLDER")
