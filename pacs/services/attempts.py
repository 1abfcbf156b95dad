"""How often passwords are tried: each failure makes the next try wait longer, and nobody is kept out for ever.

Counted in records, so for all processes and nodes together, and before a password is looked at, so that many tries at
once count as many. Three counters: an account from an address, an account from anywhere, an address for any account.
Where an account has logged in from before, tries from elsewhere do not make its owner wait.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

import orjson

from pacs.errors import OutOfResources, TooOften
from pacs.index.work import RecordWrite, Work

_KIND = "login-attempts"
_FORGET = timedelta(minutes=30)  # after the last failure
_KNOWN_FOR = timedelta(days=30)  # an address that somebody logged in from
_TRIES = 20
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Limit:
    """free: failures that cost nothing. longest_s: of the delay, which doubles from one second."""

    free: int
    longest_s: float

    def delay_s(self, failures: int) -> float:
        return 0.0 if failures < self.free else min(2.0 ** min(failures - self.free, 30), self.longest_s)


PAIR, ACCOUNT, ADDRESS = Limit(5, 300.0), Limit(20, 30.0), Limit(30, 60.0)


@dataclass(frozen=True, slots=True)
class _Counter:
    """since: of the last failure. known: last log-in, of an account from an address."""

    key: str
    limit: Limit
    failures: int = 0
    since: datetime = _NEVER
    known: datetime | None = None
    version: int = 0

    def wait_s(self, now: datetime) -> float:
        return (self.since - now).total_seconds() + self.limit.delay_s(self.failures)

    def write(self, now: datetime) -> RecordWrite:
        ends = max(now + _FORGET, (self.known or now) + _KNOWN_FOR if self.known else now)
        content = orjson.dumps({"failures": self.failures, "since": self.since, "known": self.known})
        return RecordWrite(_KIND, self.key, content, self.version, label=_stamp(ends))


class Attempts:
    """Safe to call from any thread; calls may block."""

    def __init__(self, work: Work, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._work = work
        self._clock = clock

    def begin(self, name: str, address: str) -> None:
        """Count a try as failed, before it is made. Raises TooOften."""
        for _ in range(_TRIES):
            now = self._clock()
            pair, account, source = self._counters(name, address, now)
            counted = [pair, source] if pair.known else [pair, account, source]
            wait_s = max(each.wait_s(now) for each in counted)
            if wait_s > 0:
                raise TooOften("too many wrong passwords; wait before you try again", math.ceil(wait_s))
            writes = [replace(each, failures=each.failures + 1, since=now).write(now) for each in counted]
            old = self._work.records(_KIND, labels=("", _stamp(now)), limit=20)
            keys = {write.key for write in writes}
            gone = [RecordWrite(_KIND, each.key, None, each.version) for each in old if each.key not in keys]
            if self._work.write_records([*writes, *gone]):
                return
        raise OutOfResources("too many are logging in at once")

    def succeeded(self, name: str, address: str) -> None:
        """Take back what ``begin`` counted: the whole pair, one of the others."""
        for _ in range(_TRIES):
            now = self._clock()
            pair, account, source = self._counters(name, address, now)
            fewer = [replace(each, failures=max(each.failures - 1, 0)) for each in (account, source) if each.version]
            if self._work.write_records(
                [replace(pair, failures=0, known=now).write(now), *(each.write(now) for each in fewer)]
            ):
                return

    def _counters(self, name: str, address: str, now: datetime) -> tuple[_Counter, _Counter, _Counter]:
        network = _network(address)
        return (
            self._counter(f"pair\0{name}\0{network}", PAIR, now),
            self._counter(f"account\0{name}", ACCOUNT, now),
            self._counter(f"address\0{network}", ADDRESS, now),
        )

    def _counter(self, what: str, limit: Limit, now: datetime) -> _Counter:
        key = hashlib.sha256(what.encode("utf-8", "replace")).hexdigest()[:32]
        record = self._work.record(_KIND, key)
        if record is None:
            return _Counter(key, limit)
        found = orjson.loads(record.content)
        since = datetime.fromisoformat(found["since"])
        known = datetime.fromisoformat(found["known"]) if found["known"] else None
        failures = found["failures"] if now - since < _FORGET else 0
        return _Counter(
            key, limit, failures, since, known if known and now - known < _KNOWN_FOR else None, record.version
        )


def _network(address: str) -> str:
    """Of IPv6 the /64, of which one host has all addresses."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")
