"""API tokens: what programs show instead of a password. Only a hash of each is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta

from pacs.dicom.model import EVERYTHING, Role, Scope
from pacs.errors import Forbidden, Invalid, NotFound, Unchangeable
from pacs.index.work import RecordWrite
from pacs.services.access import Principal, narrowed
from pacs.services.roster import TOKEN, Roster, Rosters, Token, write_token

PREFIX = "pacs_"  # so that scanners of source code know one
_SECRET_BYTES = 32
_TEXT = re.compile(r"pacs_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[\w .@+-]{1,64}")
_MOST = 100  # of one owner


class Tokens:
    """Safe to call from any thread; all but ``principal`` may block."""

    def __init__(self, rosters: Rosters) -> None:
        self._rosters = rosters

    def of(self, owner: str | None = None) -> list[Token]:
        """Of one account, or all; oldest first."""
        found = [each for each in self._rosters.current().tokens.values() if owner in (None, each.owner)]
        return sorted(found, key=lambda token: (token.owner, str(token.created), token.token_id))

    def add(
        self, owner: str, name: str, role: Role | None = None, scope: Scope = EVERYTHING, days: float | None = None
    ) -> tuple[Token, str]:
        """A new token, and what its bearer shows: that is told once, and can never be read back.

        role: None for the owner's. days: how long it holds; None for ever. Raises Invalid, NotFound; Forbidden for a
        role above the owner's.
        """
        if not _NAME.fullmatch(name) or not name.strip():
            raise Invalid("a token's name is 1 to 64 letters, digits, blanks, or . _ - @ +", "name")
        if days is not None and not 0 < days <= 36500:
            raise Invalid("days is more than 0, at most 36500", "days")
        token_id, secret, now = (secrets.token_hex(8), secrets.token_urlsafe(_SECRET_BYTES), datetime.now(UTC))
        expires = None if days is None else now + timedelta(days=days)

        def decide(roster: Roster) -> list[RecordWrite]:
            account = roster.accounts.get(owner)
            if account is None:
                raise NotFound("there is no such account")
            if (role or account.role) > account.role:
                raise Forbidden("a token may not do more than the account that it belongs to")
            own = [each for each in roster.tokens.values() if each.owner == owner]
            if any(each.name == name.strip() for each in own):
                raise Unchangeable("there is a token of this name already")
            if len(own) >= _MOST:
                raise Forbidden(f"an account has at most {_MOST} tokens: remove some")
            granted = role or account.role
            return [write_token(Token(token_id, owner, name.strip(), granted, _digest(secret), scope, now, expires))]

        self._rosters.change(decide)
        return self._rosters.current().tokens[token_id], f"{PREFIX}{token_id}_{secret}"

    def remove(self, token_id: str, owner: str | None = None) -> None:
        """owner: whose it has to be. Raises NotFound."""

        def decide(roster: Roster) -> list[RecordWrite]:
            token = roster.tokens.get(token_id)
            if token is None or owner not in (None, token.owner):
                raise NotFound("there is no such token")
            return [RecordWrite(TOKEN, token_id, None)]

        self._rosters.change(decide)

    def principal(self, text: str, now: datetime) -> tuple[Principal, Token] | None:
        """Who shows it, by the roster as it was last seen; None when it does not hold. Never more than its owner."""
        matched = _TEXT.fullmatch(text)
        roster = self._rosters.seen
        token = roster.tokens.get(matched[1]) if matched else None
        if matched is None or token is None or token.is_over(now):
            return None
        owner = roster.accounts.get(token.owner)
        if owner is None or owner.is_disabled or not hmac.compare_digest(token.digest, _digest(matched[2])):
            return None
        role, scope = min(token.role, owner.role), narrowed(owner.scope, token.scope)
        return Principal(f"{token.owner}/{token.name}", role, scope, "token"), token


def _digest(secret: str) -> str:
    # Not argon2: nobody guesses 256 random bits, and every request is checked.
    return hashlib.sha256(secret.encode()).hexdigest()
