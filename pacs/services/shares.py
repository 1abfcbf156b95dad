"""Links that show one study to whoever has them, until they end. Only a hash of each secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta

from pacs.dicom.model import Role, Scope
from pacs.errors import Forbidden, Gone, Invalid, NotFound
from pacs.index.work import RecordWrite
from pacs.services.access import Principal, narrowed
from pacs.services.roster import SHARE, Roster, Rosters, Share, write_share

_SECRET_BYTES = 32
_PREFIX = "share/"  # of names; no account has a slash in its own
_TEXT = re.compile(r"([0-9a-f]{16})([A-Za-z0-9_-]{43})")
_LONGEST_DAYS = 365
_MOST = 5000  # of an archive: every process holds them


class Shares:
    """Safe to call from any thread; calls may block."""

    def __init__(self, rosters: Rosters) -> None:
        self._rosters = rosters

    def of(self, by: Principal, study_uid: str | None = None) -> list[Share]:
        """Those that hold, of one study or all: all for administrators, else those that they made. Oldest first."""
        self._rosters.renew()  # another process may just have made one
        now = datetime.now(UTC)
        found = [
            each
            for each in self._rosters.current().shares.values()
            if not each.is_over(now) and study_uid in (None, each.study_uid) and _is_of(each, by)
        ]
        return sorted(found, key=lambda share: (share.created, share.share_id))

    def add(self, study_uid: str, by: Principal, days: float, *, can_download: bool = True) -> tuple[Share, str]:
        """A new share, and the text of its link: that is told once, and can never be read back.

        by: who makes it, and may see the study. days: how long it holds. Raises Invalid, Forbidden.
        """
        if not 0 < days <= _LONGEST_DAYS:
            raise Invalid(f"days is more than 0, at most {_LONGEST_DAYS}", "days")
        share_id, secret, now = secrets.token_hex(8), secrets.token_urlsafe(_SECRET_BYTES), datetime.now(UTC)
        account = _account_of(by)
        share = Share(
            *(share_id, study_uid, by.name, account, _digest(secret), now, now + timedelta(days=days), can_download),
            by.scope,
        )

        def decide(roster: Roster) -> list[RecordWrite]:
            over = [each for each in roster.shares.values() if each.is_over(now)]
            if len(roster.shares) - len(over) >= _MOST:
                raise Forbidden(f"an archive has at most {_MOST} shares: take some back")
            return [write_share(share), *(RecordWrite(SHARE, each.share_id, None) for each in over)]

        self._rosters.change(decide)
        return share, share_id + secret

    def remove(self, share_id: str, by: Principal) -> None:
        """Take one back: what is seen by it ends. Raises NotFound, for those of others too."""

        def decide(roster: Roster) -> list[RecordWrite]:
            share = roster.shares.get(share_id)
            if share is None or not _is_of(share, by):
                raise NotFound("there is no such share")
            return [RecordWrite(SHARE, share_id, None)]

        self._rosters.change(decide)

    def principal(self, text: str) -> tuple[Principal, Share]:
        """Who has a link. Raises Gone when it does not hold, or never did."""
        matched = _TEXT.fullmatch(text)
        if matched is not None:
            self._rosters.renew()  # it may just have been made, or taken back, by another process
        roster = self._rosters.seen
        share = roster.shares.get(matched[1]) if matched else None
        if matched is None or share is None or not hmac.compare_digest(share.digest, _digest(matched[2])):
            raise Gone("this link is over, or was taken back")
        principal = shown_by(roster, share.share_id, datetime.now(UTC))
        if principal is None:
            raise Gone("this link is over, or was taken back")
        return principal, share


def shown_by(roster: Roster, name: str, now: datetime) -> Principal | None:
    """What the share of a name lets somebody see; None once it is over, or its maker may no longer share."""
    share = roster.shares.get(name.removeprefix(_PREFIX))
    if share is None or share.is_over(now):
        return None
    scope = share.scope
    if share.account:
        account = roster.accounts.get(share.account)
        if account is None or account.is_disabled or account.role < Role.WRITER:
            return None
        scope = narrowed(scope, account.scope)
    scope = narrowed(scope, Scope(studies=frozenset({share.study_uid})))
    return Principal(f"{_PREFIX}{share.share_id}", Role.READER, scope, "share", share.can_download)


def _account_of(by: Principal) -> str:
    """Name of the account here that somebody is, or whose token they show; "" for others."""
    return by.name.partition("/")[0] if by.via in ("password", "session", "token") else ""


def _is_of(share: Share, by: Principal) -> bool:
    if by.role is Role.ADMIN and by.scope.is_everything:
        return True
    account = _account_of(by)
    return share.account == account if account else share.account == "" and share.by == by.name


def _digest(secret: str) -> str:
    # Not argon2: nobody guesses 256 random bits.
    return hashlib.sha256(secret.encode()).hexdigest()
