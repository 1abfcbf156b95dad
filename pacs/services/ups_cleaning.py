"""What is done about Unified Procedure Steps from time to time: old ones go, and subscribers hear of a restart."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from pacs.dicom.model import Attributes
from pacs.index.work import Job, NewJob, Record, RecordWrite, Work
from pacs.services.jobs import Ended, Handler
from pacs.services.ups_events import EVENT_KINDS, addressed, age_us
from pacs.services.ups_records import microseconds, records
from pacs.services.ups_step import FINAL, KIND, Event, Step, date_time
from pacs.services.ups_subscriptions import ALL_STEPS, Subscriptions

log = logging.getLogger(__name__)

MAX_WAITING = 10_000  # events for one AE, which it does not fetch
_CLEAN, _RESTARTED = "ups-clean", "ups-restarted"
_EVERY = timedelta(hours=1)
_PAGE = 500
_STATUS: Attributes = {
    "00741242": {"vr": "CS", "Value": ["RESTARTED"]},
    "00741244": {"vr": "CS", "Value": ["WARM START"]},
    "00741246": {"vr": "CS", "Value": ["WARM START"]},
}


class Cleaning:
    """keep_days: how long a step stays after it came to a final state, and an event that nobody takes; 0: for ever."""

    def __init__(self, work: Work, subscriptions: Subscriptions, keep_days: float) -> None:
        self._work = work
        self._subscriptions = subscriptions
        self._keep_days = keep_days

    @property
    def handlers(self) -> list[Handler]:
        return [Handler(_CLEAN, self._clean), Handler(_RESTARTED, self._announce)]

    def begin(self) -> None:
        """Of a server that starts: both are done soon, by one of its processes."""
        self._work.add_jobs([NewJob(_CLEAN, _CLEAN), NewJob(_RESTARTED, _RESTARTED)])

    def _clean(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        now = datetime.now(UTC)
        self.clean(now)
        yield from (Ended(job, again_at=now + _EVERY) for job in jobs)

    def _announce(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        self.announce_restart()
        yield from map(Ended, jobs)

    def clean(self, now: datetime) -> int:
        """Remove steps that are final for long enough and have no deletion lock, and events; how many steps."""
        removed = 0
        if self._keep_days:
            until = now - timedelta(days=self._keep_days)
            for state in FINAL:
                for record in records(self._work, (f"{state} ", f"{state} {date_time(until)}")):
                    if not Step.read(record).is_locked:
                        # Somebody may subscribe with a lock at this moment.
                        removed += self._work.write_records([RecordWrite(KIND, record.key, None, record.version)])
            log.info("steps removed number=%d", removed)
        for kind in EVENT_KINDS.values():
            self._forget_events(kind, now)
        return removed

    def _forget_events(self, kind: str, now: datetime) -> None:
        oldest_us = microseconds(now - timedelta(days=self._keep_days)) if self._keep_days else 0
        for ae_title, group in groupby(self._events(kind), lambda record: record.label):
            keys = [record.key for record in group]
            surplus = keys[: max(0, len(keys) - MAX_WAITING)]
            old = [key for key in keys[len(surplus) :] if (age_us(key) or oldest_us) < oldest_us]
            if surplus or old:
                log.warning("events forgotten ae=%s number=%d", ae_title, len(surplus) + len(old))
                self._work.write_records([RecordWrite(kind, key, None) for key in (*surplus, *old)])

    def _events(self, kind: str) -> Iterator[Record]:
        after = ""
        while page := self._work.records(kind, after=after, limit=_PAGE):
            yield from page
            after = page[-1].key

    def announce_restart(self) -> None:
        """Tell every subscriber that the archive runs again, and has kept all (SCP Status Change, PS3.4 CC.2.4.3)."""
        found: dict[str, frozenset[str]] = {
            ae_title: subscription.ways for ae_title, subscription in self._subscriptions.of_all().items()
        }
        for record in records(self._work):
            for ae_title, subscriber in Step.read(record).subscribers.items():
                found[ae_title] = found.get(ae_title, frozenset()) | subscriber.ways
        event = Event(4, ALL_STEPS, _STATUS)
        at_us = microseconds(datetime.now(UTC))
        for ae_title, ways in found.items():
            # One that waits already says the same.
            writes, jobs = addressed(ae_title, ways, event, at_us, key="restarted")
            self._work.write_records(writes, jobs)
