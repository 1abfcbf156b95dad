"""Whether a name and a password belong together: slow for those who guess, quick for programs that ask each time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from pacs.errors import Unauthorized
from pacs.services.attempts import Attempts
from pacs.services.passwords import Passwords
from pacs.services.roster import Account, Rosters

_REMEMBERED_S = 60.0
_MOST = 1024


class Authentication:
    """Safe to call from any thread. What was verified is remembered for a minute, as a keyed hash that only this
    process can make; it holds as long as the account stays as it was."""

    def __init__(
        self, rosters: Rosters, passwords: Passwords, attempts: Attempts, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rosters = rosters
        self._passwords = passwords
        self._attempts = attempts
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._turn = threading.Lock()  # those who ask the same at once wait, and are told from memory
        self._verified: OrderedDict[bytes, tuple[str, int, float]] = OrderedDict()

    def remembered(self, name: str, password: str) -> Account | None:
        """The account, when that was verified a moment ago. By the roster as it was last seen, without waiting."""
        found = self._verified.get(self._digest(name, password))
        if found is None or self._clock() > found[2]:
            return None
        account = self._rosters.seen.accounts.get(found[0])
        return account if account and account.epoch == found[1] and not account.is_disabled else None

    def verify(self, name: str, password: str, address: str) -> Account:
        """May take part of a second. Raises Unauthorized when it is not right, TooOften."""
        name = name.strip().lower()
        with self._turn:
            account = self._rosters.current().accounts.get(name)
            known = self.remembered(name, password)
            if known is not None:
                return known
            self._attempts.begin(name, address)
            is_right = self._passwords.is_right(password, account.password if account else None)
            if account is None or not is_right or account.is_disabled:
                raise Unauthorized("the name or the password is not right")
            self._attempts.succeeded(name, address)
            self._verified[self._digest(name, password)] = (name, account.epoch, self._clock() + _REMEMBERED_S)
            while len(self._verified) > _MOST:
                self._verified.popitem(last=False)
            return account

    def _digest(self, name: str, password: str) -> bytes:
        text = f"{name.strip().lower()}\0{password}".encode("utf-8", "replace")
        return hmac.digest(self._key, text, hashlib.sha256)
