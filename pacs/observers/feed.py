"""The change feed told over HTTP: signed POSTs in the order of changes, none left out, and its old end forgotten.

Each address has a job that never ends and holds the place up to which it has been told as a record: whichever process
has the job goes on from there. A POST that is not answered with 2xx is made again, and nothing after it before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import orjson

from pacs.errors import OutOfResources
from pacs.index.work import Job, NewJob, RecordWrite, Work
from pacs.services.jobs import Ended, Handler, Unavailable

log = logging.getLogger(__name__)

TELL, TIDY = "changes-webhook", "changes-tidy"
_PLACE = "changes-webhook"
_PAGE = 500
_LOOK_S = 0.5
_STINT_S = 300.0  # of one process, then whoever comes first
_TIDY_EVERY = timedelta(hours=6)

# Sends a body to an address: (status, whether it would be refused again). The third is the delivery's name.
Post = Callable[[str, bytes, str], tuple[int, bool]]


class Feed:
    """addresses: to tell. keep_days: how long changes are kept, 0 for ever."""

    def __init__(self, work: Work, post: Post, addresses: Sequence[str], keep_days: float) -> None:
        self._work = work
        self._post = post
        self._addresses = frozenset(addresses)
        self._keep_days = keep_days

    @property
    def handlers(self) -> list[Handler]:
        tell = Handler(TELL, self.tell, threads=max(1, len(self._addresses)))
        return [tell, Handler(TIDY, self.tidy)]

    def begin(self) -> None:
        """Add the jobs, where they are not there yet. A new address is told what changes from now on."""
        newest = self._work.change_span()[1]
        for address in self._addresses:
            if self._work.record(_PLACE, address) is None:
                self._work.write_records([RecordWrite(_PLACE, address, str(newest).encode(), 0)])
        jobs = [NewJob(TELL, address, address) for address in self._addresses]
        self._work.add_jobs([*jobs, *([NewJob(TIDY, "all")] if self._keep_days else [])])

    def tell(self, jobs: Sequence[Job]) -> Iterator[Ended | None]:
        for job in jobs:
            if job.key not in self._addresses:  # a setting of earlier days
                self._work.write_records([RecordWrite(_PLACE, job.key, None)])
                yield Ended(job)
                continue
            until = time.monotonic() + _STINT_S
            while time.monotonic() < until:
                if not self._tell_page(job.key):
                    time.sleep(_LOOK_S)
                yield None
            yield Ended(job, again_at=datetime.now(UTC))

    def tidy(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        for job in jobs:
            now = datetime.now(UTC)
            forgotten = self._work.forget_changes(now - timedelta(days=self._keep_days)) if self._keep_days else 0
            if forgotten:
                log.info("forgotten changes=%d", forgotten)
            yield Ended(job, again_at=now + _TIDY_EVERY) if self._keep_days else Ended(job)

    def _tell_page(self, address: str) -> bool:
        """Whether there was anything to tell."""
        place = self._work.record(_PLACE, address)
        if place is None:
            return False
        after = max(int(place.content), self._work.change_span()[0])
        changes = self._work.changes(after, _PAGE)
        if not changes:
            return False
        last = changes[-1].cursor
        body = orjson.dumps({"changes": [change.as_json() for change in changes], "last": last})
        status, _ = self._post(address, body, f"{after}-{last}")
        if not 200 <= status < 300:
            raise Unavailable(f"the webhook answered {status}")
        if not self._work.write_records([RecordWrite(_PLACE, address, str(last).encode(), place.version)]):
            raise OutOfResources("another process tells this address")
        return True
