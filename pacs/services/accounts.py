"""Local accounts: who may log in with a password, and what they may do then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pacs.dicom.model import EVERYTHING, Role, Scope
from pacs.errors import Invalid, NotFound, Unchangeable
from pacs.index.work import RecordWrite
from pacs.services.access import role_of, scope_of
from pacs.services.passwords import Passwords
from pacs.services.roster import ACCOUNT, SHARE, TOKEN, Account, Roster, Rosters, write_account

FIRST = "admin"  # the account that ADMIN_PASSWORD makes
# No colon (Basic credentials), no slash (names of tokens), no blank; in small letters.
_NAME = re.compile(r"[\w][\w.@+-]{0,63}")
_RESERVED = frozenset({"anonymous"})
_CHANGES = frozenset({"role", "modalities", "labels", "is_disabled", "password"})


class Accounts:
    """Safe to call from any thread; calls may block. While there is an account, one that is enabled is an admin's."""

    def __init__(self, rosters: Rosters, passwords: Passwords) -> None:
        self._rosters = rosters
        self._passwords = passwords

    @property
    def is_empty(self) -> bool:
        return not self._rosters.current().accounts

    def all(self) -> list[Account]:
        """By name."""
        return sorted(self._rosters.current().accounts.values(), key=lambda account: account.name)

    def find(self, name: str) -> Account:
        """Raises NotFound."""
        return _found(self._rosters.current(), name)

    def add(self, name: str, password: str, role: Role, scope: Scope = EVERYTHING) -> Account:
        """Raises Invalid for what cannot be a name or password, Unchangeable when there is one of this name."""
        name = name_of(name)
        account = Account(name, role, scope, self._passwords.hashed(password), created=datetime.now(UTC))

        def decide(roster: Roster) -> list[RecordWrite]:
            if name in roster.accounts:
                raise Unchangeable(f"there is an account of the name {name} already")
            if not roster.accounts and (role is not Role.ADMIN or not scope.is_everything):
                raise Invalid("the first account has to be one of an administrator", "role")
            # The epoch goes on where an earlier account of this name ended: its sessions are not this one's.
            return [write_account(replace(account, epoch=int(datetime.now(UTC).timestamp())))]

        self._rosters.change(decide)
        return self.find(name)

    def change(self, name: str, changes: Mapping[str, Any]) -> Account:
        """Take over some of role, modalities, labels, is_disabled and password. What is changed ends all sessions.

        Raises Invalid, NotFound, and Unchangeable when no administrator would be left.
        """
        if unknown := sorted(set(changes) - _CHANGES):
            raise Invalid(f"{unknown[0]} is nothing that can be changed", unknown[0])
        is_disabled = changes.get("is_disabled")
        if is_disabled is not None and not isinstance(is_disabled, bool):
            raise Invalid("is_disabled is true or false", "is_disabled")
        role = role_of(changes["role"]) if "role" in changes else None
        hashed = self._passwords.hashed(word_of(changes, "password")) if "password" in changes else None

        def decide(roster: Roster) -> list[RecordWrite]:
            before = _found(roster, name)
            limits = {"modalities": before.scope.modalities, "labels": before.scope.labels}
            given = {
                kind: changes[kind] if kind in changes else limit and list(limit) for kind, limit in limits.items()
            }
            after = replace(
                before,
                role=role or before.role,
                scope=scope_of(given),
                is_disabled=before.is_disabled if is_disabled is None else is_disabled,
                password=hashed or before.password,
            )
            if after == before:
                return []
            _check_administrator(roster, before, after)
            return [write_account(replace(after, epoch=before.epoch + 1))]

        self._rosters.change(decide)
        return self.find(name)

    def remove(self, name: str, *, even_last: bool = False) -> None:
        """With its tokens and shares. even_last: also the only account there is.

        Raises NotFound; Unchangeable as ``change``.
        """

        def decide(roster: Roster) -> list[RecordWrite]:
            before = _found(roster, name)
            if not (even_last and len(roster.accounts) == 1):
                _check_administrator(roster, before, None)
            tokens = [token for token in roster.tokens.values() if token.owner == before.name]
            gone = [RecordWrite(TOKEN, token.token_id, None) for token in tokens]
            shares = [share for share in roster.shares.values() if share.account == before.name]
            gone += [RecordWrite(SHARE, share.share_id, None) for share in shares]
            return [RecordWrite(ACCOUNT, before.name, None), *gone]

        self._rosters.change(decide)

    def make_first(self, password: str) -> bool:
        """An administrator's account when there is none; whether it was made. Raises Invalid."""
        if not self.is_empty:
            return False
        try:
            self.add(FIRST, password, Role.ADMIN)
        except Unchangeable:  # another node was faster
            return False
        return True


def name_of(name: str) -> str:
    """As it is kept, in small letters. Raises Invalid."""
    name = name.strip().lower()
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise Invalid("a name is 1 to 64 letters, digits, or . _ - @ +, and begins with a letter or digit", "name")
    return name


def word_of(found: Mapping[str, Any], name: str) -> str:
    """A text of a JSON object. Raises Invalid."""
    value = found.get(name)
    if not isinstance(value, str):
        raise Invalid(f"{name} is missing, or not a text", name)
    return value


def _found(roster: Roster, name: str) -> Account:
    account = roster.accounts.get(name.strip().lower())
    if account is None:
        raise NotFound("there is no such account")
    return account


def _check_administrator(roster: Roster, before: Account, after: Account | None) -> None:
    """Raises Unchangeable when nobody could administrate any more. One who sees a part only still can."""
    left = {each.name for each in roster.administrators} - {before.name}
    if after is not None and after.role is Role.ADMIN and not after.is_disabled:
        left.add(after.name)
    if not left:
        raise Unchangeable("this is the last administrator: make another one first")
