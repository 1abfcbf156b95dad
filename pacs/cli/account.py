"""``pacs account``: who may log in to the web page and DICOMweb."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pacs.cli import console
from pacs.dicom.model import Role
from pacs.errors import Invalid
from pacs.services.access import ROLES, scope_of
from pacs.services.roster import Account

if TYPE_CHECKING:
    from pacs.services.accounts import Accounts

_EXAMPLES = """\
The first account has to be an administrator's, and is one if nothing else is said. From then on everybody has
to log in (docs/security.md). A running server knows of changes within seconds.

examples:
  pacs account add alice                          asks for a password
  pacs account add ct-viewer --role reader --modality CT --modality MR
  pacs account set bob --role writer --label research
  pacs account set bob --everything               no limits any more
  pacs account password bob --password-stdin < secret.txt
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "account",
        help="accounts: who may log in, and what they may do",
        description="Accounts of the web page and DICOMweb.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    add = _action(actions, "add", "make an account", _add)
    add.add_argument("--role", choices=[*ROLES], help="what it may do (reader; of the first account: admin)")
    listed = actions.add_parser("list", help="all accounts", description="All accounts.")
    console.add_common_options(listed)
    listed.set_defaults(run=_list)
    change = _action(actions, "set", "change role and limits, disable, enable", _set)
    change.add_argument("--role", choices=[*ROLES], help="what it may do")
    able = change.add_mutually_exclusive_group()
    able.add_argument("--disable", action="store_true", help="nobody can log in with it, and all its sessions end")
    able.add_argument("--enable", action="store_true", help="it can be used again")
    change.add_argument("--everything", action="store_true", help="no limits to modalities and labels")
    for each in (add, change):
        each.add_argument("--modality", action="append", metavar="CT", help="only series of these; may be repeated")
        each.add_argument("--label", action="append", metavar="WORD", help="only studies with one of these labels")
    remove = _action(actions, "remove", "remove an account and its tokens", _remove)
    remove.add_argument("--last", action="store_true", help="even if it is the only one: nobody has to log in then")
    password = _action(actions, "password", "set another password", _password)
    for each in (add, password):
        each.add_argument("--password-stdin", action="store_true", help="read the password from the standard input")


def _action(actions: Any, name: str, help_text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}."
    )
    parser.add_argument("name", metavar="NAME", help="name of the account")
    console.add_common_options(parser)
    parser.set_defaults(run=run)
    return parser


def _add(arguments: argparse.Namespace) -> int:
    with opened(arguments) as accounts:
        word = arguments.role or ("admin" if accounts.is_empty else "reader")
        account = accounts.add(arguments.name, _asked(arguments), Role[word.upper()], scope_of(_limits(arguments)))
    return _show(account, arguments, "Made")


def _list(arguments: argparse.Namespace) -> int:
    with opened(arguments) as accounts:
        found = accounts.all()
    if arguments.json:
        console.print_json([account.as_json() for account in found])
        return console.OK
    for account in found:
        print(_line(account))
    print(console.plural(len(found), "account") + ("" if found else ": nobody has to log in on this machine"))
    return console.OK


def _set(arguments: argparse.Namespace) -> int:
    changes: dict[str, Any] = _limits(arguments)
    if arguments.everything:
        changes |= {"modalities": None, "labels": None}
    if arguments.role:
        changes["role"] = arguments.role
    if arguments.disable or arguments.enable:
        changes["is_disabled"] = arguments.disable
    if not changes:
        raise Invalid("nothing is said that should change; pacs account set --help shows what can", "arguments")
    with opened(arguments) as accounts:
        account = accounts.change(arguments.name, changes)
    return _show(account, arguments, "Changed")


def _remove(arguments: argparse.Namespace) -> int:
    with opened(arguments) as accounts:
        accounts.remove(arguments.name, even_last=arguments.last)
    if arguments.json:
        console.print_json({"removed": arguments.name})
    else:
        print(f"Removed the account {arguments.name}.")
    return console.OK


def _password(arguments: argparse.Namespace) -> int:
    with opened(arguments) as accounts:
        accounts.find(arguments.name)
        account = accounts.change(arguments.name, {"password": _asked(arguments)})
    return _show(account, arguments, "Changed the password of")


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Accounts]:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    from pacs.archive import Archive
    from pacs.services.accounts import Accounts
    from pacs.services.passwords import Passwords
    from pacs.services.roster import Rosters

    with Archive.open(settings) as archive:
        yield Accounts(Rosters(archive.index.work), Passwords())


def _limits(arguments: argparse.Namespace) -> dict[str, list[str]]:
    given = {"modalities": arguments.modality, "labels": arguments.label}
    return {name: values for name, values in given.items() if values}


def _asked(arguments: argparse.Namespace) -> str:
    from pacs.services.passwords import check

    if arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise Invalid("no terminal to ask for the password: use --password-stdin", "password")
    else:
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise Invalid("the two are not the same", "password")
    check(password)
    return password


def _show(account: Account, arguments: argparse.Namespace, did: str) -> int:
    if arguments.json:
        console.print_json(account.as_json())
    else:
        print(f"{did} {_line(account)}")
    return console.OK


def _line(account: Account) -> str:
    limits = [
        f"{name} {' '.join(sorted(values))}"
        for name, values in (("only", account.scope.modalities), ("labelled", account.scope.labels))
        if values is not None
    ]
    return ", ".join([f"{account.name} ({account.role.word}{', disabled' if account.is_disabled else ''})", *limits])
