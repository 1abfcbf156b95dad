"""``pacs token``: what programs show instead of a password."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pacs.cli import console
from pacs.dicom.model import Role
from pacs.services.access import ROLES, scope_of

if TYPE_CHECKING:
    from pacs.services.tokens import Tokens

_EXAMPLES = """\
Programs send it as "Authorization: Bearer pacs_…". It belongs to an account and never does more than that.
It is printed once; only a hash of it is kept.

examples:
  pacs token add alice "research export" --role reader --days 90
  pacs token list
  pacs token remove 0123456789abcdef
"""


def add_to(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "token",
        help="API tokens of accounts",
        description="API tokens of accounts.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("add", help="make a token", description="Make a token, and print it.")
    add.add_argument("owner", metavar="ACCOUNT", help="whose it is")
    add.add_argument("name", metavar="NAME", help="what it is for")
    add.add_argument("--role", choices=[*ROLES], help="what it may do (as the account)")
    add.add_argument("--modality", action="append", metavar="CT", help="only series of these; may be repeated")
    add.add_argument("--label", action="append", metavar="WORD", help="only studies with one of these labels")
    add.add_argument("--days", type=float, metavar="N", help="how long it holds (for ever)")
    add.set_defaults(run=_add)
    listed = actions.add_parser("list", help="tokens of all accounts, or of one", description="Tokens.")
    listed.add_argument("owner", metavar="ACCOUNT", nargs="?", help="whose (all)")
    listed.set_defaults(run=_list)
    remove = actions.add_parser("remove", help="remove a token", description="Remove a token: it holds no more.")
    remove.add_argument("token", metavar="ID", help="as list shows it")
    remove.set_defaults(run=_remove)
    for each in (add, listed, remove):
        console.add_common_options(each)


def _add(arguments: argparse.Namespace) -> int:
    scope = scope_of({"modalities": arguments.modality, "labels": arguments.label})
    role = Role[arguments.role.upper()] if arguments.role else None
    with _opened(arguments) as tokens:
        token, text = tokens.add(arguments.owner.strip().lower(), arguments.name, role, scope, arguments.days)
    if arguments.json:
        console.print_json({**token.as_json(), "token": text})
    else:
        print(text)
    return console.OK


def _list(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as tokens:
        found = tokens.of(arguments.owner.strip().lower() if arguments.owner else None)
    if arguments.json:
        console.print_json([token.as_json() for token in found])
        return console.OK
    for token in found:
        ends = f"until {token.expires:%Y-%m-%d}" if token.expires else "for ever"
        used = f"used {token.used}" if token.used else "never used"
        print(f"{token.token_id}  {token.owner}/{token.name} ({token.role.word}), {ends}, {used}")
    print(console.plural(len(found), "token"))
    return console.OK


def _remove(arguments: argparse.Namespace) -> int:
    with _opened(arguments) as tokens:
        tokens.remove(arguments.token)
    if arguments.json:
        console.print_json({"removed": arguments.token})
    else:
        print(f"Removed the token {arguments.token}.")
    return console.OK


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[Tokens]:
    settings = console.load_settings(console.data_overrides(arguments), log_level="ERROR")
    from pacs.archive import Archive
    from pacs.services.roster import Rosters
    from pacs.services.tokens import Tokens

    with Archive.open(settings) as archive:
        yield Tokens(Rosters(archive.index.work))
