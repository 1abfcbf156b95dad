"""All who may log in, as every process and node sees it: accounts, API tokens, shares, and sessions that were ended.

They are records. One more record counts their changes: whoever reads that number knows whether anything is new, and
whoever writes has it expected, so that changes happen one after the other and what holds for all accounts together
(somebody is an administrator) cannot be broken by two at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import orjson

from pacs.dicom.model import EVERYTHING, Role, Scope
from pacs.errors import OutOfResources
from pacs.index.work import Record, RecordWrite, Work
from pacs.services.access import scope_as_json, scope_of

log = logging.getLogger(__name__)

ACCOUNT, TOKEN, SHARE, ENDED = "account", "token", "share", "ended-session"
_CHANGES = "roster"
_FRESH_S = 2.0  # how long a change may take to be seen by other processes
_TRIES = 50
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Account:
    """password: its hash. epoch: counts what ends all sessions. created: aware."""

    name: str
    role: Role
    scope: Scope = EVERYTHING
    password: str = field(default="", repr=False)
    is_disabled: bool = False
    epoch: int = 1
    created: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """As people and scripts are told."""
        return {
            "name": self.name,
            "role": self.role.word,
            **scope_as_json(self.scope),
            "is_disabled": self.is_disabled,
            "created": self.created.isoformat(timespec="seconds") if self.created else None,
        }


@dataclass(frozen=True, slots=True)
class Token:
    """digest: SHA-256 of its secret, in hexadecimal. expires: aware, None for never. used: the last day. version: of
    its record."""

    token_id: str
    owner: str
    name: str
    role: Role
    digest: str = field(repr=False)
    scope: Scope = EVERYTHING
    created: datetime | None = None
    expires: datetime | None = None
    used: date | None = None
    version: int = 0

    def is_over(self, now: datetime) -> bool:
        return self.expires is not None and now >= self.expires

    def as_json(self) -> dict[str, Any]:
        """As people and scripts are told."""
        return {
            "id": self.token_id,
            "owner": self.owner,
            "name": self.name,
            "role": self.role.word,
            **scope_as_json(self.scope),
            "created": self.created.isoformat(timespec="seconds") if self.created else None,
            "expires": self.expires.isoformat(timespec="seconds") if self.expires else None,
            "last_used": self.used.isoformat() if self.used else None,
        }


@dataclass(frozen=True, slots=True)
class Share:
    """One study for whoever has a link. digest: SHA-256 of the link's secret, in hexadecimal. expires: aware.

    by: who made it; account: the same, when that is an account here, whose end is the share's end too. scope: of its
    maker, then.
    """

    share_id: str
    study_uid: str
    by: str
    account: str
    digest: str = field(repr=False)
    created: datetime
    expires: datetime
    can_download: bool = True
    scope: Scope = EVERYTHING

    def is_over(self, now: datetime) -> bool:
        return now >= self.expires

    def as_json(self) -> dict[str, Any]:
        """As people and scripts are told."""
        return {
            "id": self.share_id,
            "study": self.study_uid,
            "by": self.by,
            "created": self.created.isoformat(timespec="seconds"),
            "expires": self.expires.isoformat(timespec="seconds"),
            "canDownload": self.can_download,
        }


@dataclass(frozen=True, slots=True)
class Roster:
    """As of one change. ended: ids of sessions."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()
    version: int = -1

    @property
    def administrators(self) -> list[Account]:
        return [each for each in self.accounts.values() if each.role is Role.ADMIN and not each.is_disabled]


class Rosters:
    """Safe to call from any thread. What reads or writes records may block."""

    def __init__(self, work: Work, clock: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        self._clock = clock
        self._renewing = threading.Lock()
        self._seen = Roster()
        self._fresh_until = float("-inf")

    @property
    def is_fresh(self) -> bool:
        """Whether ``seen`` is recent enough to be decided on."""
        return self._clock() < self._fresh_until

    @property
    def seen(self) -> Roster:
        """As it was last read, without waiting."""
        return self._seen

    def current(self) -> Roster:
        """Read again when it is not fresh. Raises OutOfResources."""
        with self._renewing:
            if not self.is_fresh:
                self._read()
            return self._seen

    def renew(self) -> None:
        """Read again, fresh or not: for what another process has just written. Raises OutOfResources."""
        with self._renewing:
            self._read()

    def change(self, decide: Callable[[Roster], Sequence[RecordWrite]]) -> None:
        """Write what is decided over the roster as it is now; nobody else changes it in between.

        decide may be called several times, and raises what forbids the change.
        """
        for _ in range(_TRIES):
            with self._renewing:
                self._read()
                roster = self._seen
            writes = decide(roster)
            if not writes:
                return
            expired = self._work.records(ENDED, labels=("", _stamp(datetime.now(UTC))), limit=100)
            old = [RecordWrite(ENDED, record.key, None) for record in expired]
            guard = RecordWrite(_CHANGES, _CHANGES, b"{}", expected=roster.version)
            if self._work.write_records([*writes, *old, guard]):
                with self._renewing:
                    self._read()
                return
        raise OutOfResources("accounts are being changed by too many at once")

    def note_use(self, token: Token, today: date) -> None:
        """Once a day. A token that was changed or removed in the meantime is left alone."""
        if token.used != today:
            content = token_content(replace(token, used=today))
            self._work.write_records([RecordWrite(TOKEN, token.token_id, content, expected=token.version)])
            self._note(token.token_id, today)

    def _note(self, token_id: str, today: date) -> None:
        with self._renewing:
            token = self._seen.tokens.get(token_id)
            if token is not None:
                tokens = {**self._seen.tokens, token_id: replace(token, used=today, version=token.version + 1)}
                self._seen = replace(self._seen, tokens=tokens)

    def _read(self) -> None:
        began = self._clock()
        found = self._work.record(_CHANGES, _CHANGES)
        version = found.version if found else 0
        while version != self._seen.version:
            roster = Roster(
                {record.key: _account(record) for record in self._all(ACCOUNT)},
                {record.key: _token(record) for record in self._all(TOKEN)},
                {record.key: _share(record) for record in self._all(SHARE)},
                frozenset(record.key for record in self._all(ENDED)),
                version,
            )
            # Only what nobody changed while it was read is of one moment.
            found = self._work.record(_CHANGES, _CHANGES)
            if version == (found.version if found else 0):
                self._seen = roster
            else:
                version = found.version if found else 0
        self._fresh_until = began + _FRESH_S

    def _all(self, kind: str) -> list[Record]:
        found: list[Record] = []
        while page := self._work.records(kind, after=found[-1].key if found else "", limit=_PAGE):
            found += page
        return found


def write_account(account: Account) -> RecordWrite:
    content = {
        "role": account.role.word,
        **scope_as_json(account.scope),
        "password": account.password,
        "is_disabled": account.is_disabled,
        "epoch": account.epoch,
        "created": account.created,
    }
    return RecordWrite(ACCOUNT, account.name, orjson.dumps(content))


def write_token(token: Token) -> RecordWrite:
    return RecordWrite(TOKEN, token.token_id, token_content(token))


def write_share(share: Share) -> RecordWrite:
    content = {
        "study": share.study_uid,
        "by": share.by,
        "account": share.account,
        "digest": share.digest,
        "created": share.created,
        "expires": share.expires,
        "can_download": share.can_download,
        "scope": scope_as_json(share.scope),
    }
    return RecordWrite(SHARE, share.share_id, orjson.dumps(content))


def write_ended(session_id: str, until: datetime) -> RecordWrite:
    """until: when the session would have ended by itself."""
    return RecordWrite(ENDED, session_id, b"{}", label=_stamp(until))


def token_content(token: Token) -> bytes:
    return orjson.dumps(
        {
            "owner": token.owner,
            "name": token.name,
            "role": token.role.word,
            **scope_as_json(token.scope),
            "digest": token.digest,
            "created": token.created,
            "expires": token.expires,
            "used": token.used,
        }
    )


def _account(record: Record) -> Account:
    found = orjson.loads(record.content)
    return Account(
        record.key,
        Role[found["role"].upper()],
        scope_of(found),
        found["password"],
        found["is_disabled"],
        found["epoch"],
        _moment(found["created"]),
    )


def _token(record: Record) -> Token:
    found = orjson.loads(record.content)
    return Token(
        record.key,
        found["owner"],
        found["name"],
        Role[found["role"].upper()],
        found["digest"],
        scope_of(found),
        _moment(found["created"]),
        _moment(found["expires"]),
        date.fromisoformat(found["used"]) if found["used"] else None,
        record.version,
    )


def _share(record: Record) -> Share:
    found = orjson.loads(record.content)
    return Share(
        record.key,
        found["study"],
        found["by"],
        found["account"],
        found["digest"],
        datetime.fromisoformat(found["created"]),
        datetime.fromisoformat(found["expires"]),
        found["can_download"],
        scope_of(found["scope"]),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")
