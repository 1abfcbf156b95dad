"""``pacs user``: users that peers may say they are when they associate (DIMSE_USERS)."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pacs.cli import console
from pacs.errors import Invalid, NotFound


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "user",
        help="add, change or remove a user of DIMSE_USERS",
        description="Write a user into the file DIMSE_USERS, with the hash of a passcode that is asked for, or read "
        "from the standard input. A running server knows the user at once.",
    )
    parser.add_argument("name", metavar="NAME", help="user name")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--remove", action="store_true", help="remove the user")
    how.add_argument("--no-passcode", action="store_true", help="the name alone is enough")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    settings = console.load_settings(log_level="ERROR")
    from pacs.dimse.users import NO_PASSCODE, hashed, parse_users

    path = settings.dimse_users
    if path is None:
        raise Invalid("DIMSE_USERS is not set: say which file the users are in", "DIMSE_USERS")
    lines = _read(path)
    others = [line for line in lines if line.strip().partition(":")[0] != arguments.name]
    if arguments.remove and len(others) == len(lines):
        raise NotFound(f"there is no user {arguments.name} in {path}")
    if not arguments.remove:
        others.append(f"{arguments.name}:{NO_PASSCODE if arguments.no_passcode else hashed(_passcode())}")
    text = "".join(f"{line}\n" for line in others)
    try:
        users = parse_users(text)
        if not arguments.remove and arguments.name not in users:
            raise ValueError(f"{arguments.name!r} cannot be a user name")
        _replace(path, text)
    except (OSError, ValueError) as error:
        raise Invalid(f"{path}: {getattr(error, 'strerror', None) or error}", "DIMSE_USERS") from error
    print(f"{'Removed' if arguments.remove else 'Wrote'} user {arguments.name} in {path}.")
    return console.OK


def _read(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise Invalid(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}", "DIMSE_USERS") from error


def _passcode() -> str:
    if not sys.stdin.isatty():
        passcode = sys.stdin.readline().rstrip("\r\n")
    else:
        passcode = getpass.getpass("Passcode: ")
        if getpass.getpass("Again: ") != passcode:
            raise Invalid("the two are not the same", "passcode")
    if not passcode:
        raise Invalid("the passcode is empty; --no-passcode for a user that needs none", "passcode")
    return passcode


def _replace(path: Path, text: str) -> None:
    """At once: a server reads either all of the old file or all of the new one. Readable by this user only."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        if path.exists():
            # The server may run as another user, which the file was made readable for.
            old = path.stat()
            os.fchmod(file.fileno(), old.st_mode & 0o777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
    Path(temporary).replace(path)
