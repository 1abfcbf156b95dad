"""Sessions of the web page: what a signed cookie says, and how long that holds.

Nothing is kept of a session that goes on: the cookie names the account and its epoch, and every process can check it.
What ends one early is in the roster: another epoch (password, role, scope, disabled), or its id among those ended.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from pacs.dicom.model import EVERYTHING, Role, Scope
from pacs.index.work import RecordWrite
from pacs.services.access import Principal, scope_as_json, scope_of
from pacs.services.roster import Account, Rosters, write_ended
from pacs.services.shares import shown_by

SETTING = "session-secret"  # of the index, so of all processes and nodes
_NEW = timedelta(seconds=5)  # longer than other processes take to see a change
_PASSWORD, _SHARE = "password", "share"  # ways to log in


@dataclass(frozen=True, slots=True)
class Session:
    """way: how it began; of "password" the account says what it may do, of "share" the share of that name, of others
    what was found out then.

    epoch: the account's then. began, seen: aware.
    """

    session_id: str
    name: str
    way: str
    epoch: int
    began: datetime
    seen: datetime
    role: Role = Role.READER
    scope: Scope = EVERYTHING


class Sessions:
    """secret: of the archive; salt: SERVER_SESSION_SECRET_KEY. Only ``end`` and ``look_again`` may block."""

    def __init__(
        self,
        rosters: Rosters,
        secret: str,
        salt: str = "",
        *,
        longest: timedelta = timedelta(hours=12),
        idle: timedelta = timedelta(hours=1),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        # Both together: a setting that was copied from an example must not be enough to forge a cookie.
        self._key = hmac.digest(secret.encode(), b"session\0" + salt.encode(), hashlib.sha256)
        self._rosters = rosters
        self.longest = longest
        self._idle = idle
        self._clock = clock
        # Cookies are of a host, whatever the port: two archives on one must not overwrite each other's.
        self.cookie = f"pacs_{hashlib.sha256(secret.encode()).hexdigest()[:8]}"

    def begin(self, account: Account) -> Session:
        """Of somebody who gave the right password."""
        now = self._clock()
        return Session(secrets.token_hex(16), account.name, _PASSWORD, account.epoch, now, now)

    def begin_for(self, principal: Principal) -> Session:
        """Of somebody whom another way to log in knows: what they may do is fixed for as long as it lasts."""
        now = self._clock()
        return Session(
            secrets.token_hex(16), principal.name, principal.via, 0, now, now, principal.role, principal.scope
        )

    def text(self, session: Session) -> str:
        """The cookie's value."""
        content: dict[str, Any] = {
            "id": session.session_id,
            "n": session.name,
            "w": session.way,
            "e": session.epoch,
            "b": int(session.began.timestamp()),
            "s": int(session.seen.timestamp()),
        }
        if session.way != _PASSWORD:
            content |= {"r": int(session.role), "sc": scope_as_json(session.scope)}
        data = base64.urlsafe_b64encode(orjson.dumps(content)).rstrip(b"=")
        return f"{data.decode()}.{self._signature(data)}"

    def read(self, text: str) -> tuple[Session, Principal] | None:
        """None for what was not signed here, is over, or was ended. By the roster as it was last seen."""
        data, _, signature = text.encode("utf-8", "replace").partition(b".")
        if not hmac.compare_digest(signature, self._signature(data).encode()):
            return None
        session = _session(data)
        now, roster = self._clock(), self._rosters.seen
        if now >= session.began + self.longest or now >= session.seen + self._idle:
            return None
        if session.session_id in roster.ended:
            return None
        if session.way == _SHARE:
            shown = shown_by(roster, session.name, now)
            return (session, shown) if shown is not None else None
        if session.way != _PASSWORD:
            return session, Principal(session.name, session.role, session.scope, session.way)
        account = roster.accounts.get(session.name)
        if account is None or account.is_disabled or account.epoch != session.epoch:
            return None
        return session, Principal(account.name, account.role, account.scope, "session")

    def may_be_too_new(self, text: str) -> bool:
        """Whether a cookie that does not hold was signed here a moment ago: another process may know what this one
        does not yet, an account's new epoch or a share."""
        data, _, signature = text.encode("utf-8", "replace").partition(b".")
        if not hmac.compare_digest(signature, self._signature(data).encode()):
            return False
        return self._clock() - _session(data).began < _NEW

    def look_again(self) -> None:
        """At accounts and shares; may block. Raises OutOfResources."""
        self._rosters.renew()

    def renewed(self, session: Session) -> Session | None:
        """As it goes on from now; None while it is too early for a new cookie."""
        now = self._clock()
        return replace(session, seen=now) if now - session.seen > self._idle / 10 else None

    def csrf(self, session: Session) -> str:
        """What a page that shows this session has to say when it changes something."""
        return hmac.new(self._key, b"csrf\0" + session.session_id.encode(), hashlib.sha256).hexdigest()

    def proof(self, purpose: str, content: str) -> str:
        """What nobody else could have made of the content, in 43 letters, digits, - and _. purpose: what it is for."""
        made = hmac.digest(self._key, f"{purpose}\0{content}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()

    def end(self, session: Session) -> None:
        """For all who have a copy of its cookie."""
        until = session.began + self.longest

        def decide(roster: object) -> list[RecordWrite]:
            return [write_ended(session.session_id, until)]

        self._rosters.change(decide)

    def _signature(self, data: bytes) -> str:
        return hmac.new(self._key, b"cookie\0" + data, hashlib.sha256).hexdigest()


def _session(data: bytes) -> Session:
    found = orjson.loads(base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4)))
    began, seen = (datetime.fromtimestamp(found[key], UTC) for key in ("b", "s"))
    return Session(
        found["id"],
        found["n"],
        found["w"],
        found["e"],
        began,
        seen,
        Role(found.get("r", Role.READER)),
        scope_of(found.get("sc", {})),
    )
