"""How the archive grows: what was stored and deleted by hour and by day, and how much there was at the end of each.

Counted every minute from the change feed, by one process of all: what comes in pays nothing for it, and who asks reads
a few hundred small records. Hours and days are those of UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import orjson

from pacs.errors import OutOfResources
from pacs.index.base import Counts, Index
from pacs.index.work import ChangeKind, Job, NewJob, Record, RecordWrite, Work
from pacs.services.jobs import Ended, Handler

_JOB, _PLACE = "growth", "growth-place"
_FIRST = timedelta(seconds=10)
_EVERY = timedelta(minutes=1)
_HOURS_KEPT = timedelta(days=31)
_AT_ONCE = 100_000  # changes of one transaction
_REMOVED_AT_ONCE = 100


class Span(Enum):
    """What a bucket is of. seconds: its length; kind: of its records; the longest that can be asked for."""

    HOUR = ("growth-hour", timedelta(hours=1), 24 * 31)
    DAY = ("growth-day", timedelta(days=1), 366 * 5)

    @property
    def kind(self) -> str:
        return self.value[0]

    @property
    def length(self) -> timedelta:
        return self.value[1]

    @property
    def most(self) -> int:
        return self.value[2]

    def begin(self, at: datetime) -> datetime:
        """Of the hour or day that a moment is in."""
        hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return hour if self is Span.HOUR else hour.replace(hour=0)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One hour or day. studies, instances, size_bytes: of the whole archive at its end, None where nobody looked."""

    stored: int = 0
    replaced: int = 0
    deleted: int = 0
    studies: int | None = None
    instances: int | None = None
    size_bytes: int | None = None

    def with_changes(self, changes: Mapping[ChangeKind, int]) -> Bucket:
        return replace(
            self,
            stored=self.stored + changes.get(ChangeKind.STORED, 0),
            replaced=self.replaced + changes.get(ChangeKind.REPLACED, 0),
            deleted=self.deleted + changes.get(ChangeKind.DELETED, 0),
        )

    def with_totals(self, counts: Counts) -> Bucket:
        return replace(self, studies=counts.studies, instances=counts.instances, size_bytes=counts.size_bytes)

    def as_json(self, at: datetime) -> dict[str, Any]:
        """at: its beginning."""
        return {
            "at": at.isoformat(),
            "stored": self.stored,
            "replaced": self.replaced,
            "deleted": self.deleted,
            "studies": self.studies,
            "instances": self.instances,
            "bytes": self.size_bytes,
        }

    def packed(self) -> bytes:
        return orjson.dumps([self.stored, self.replaced, self.deleted, self.studies, self.instances, self.size_bytes])

    @classmethod
    def read(cls, record: Record | None) -> Bucket:
        return cls(*orjson.loads(record.content)) if record else cls()


class Growth:
    """Safe to call from any thread, of any process."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._work = index.work

    @property
    def handlers(self) -> list[Handler]:
        return [Handler(_JOB, self._run)]

    def begin(self) -> None:
        """Of a server that starts: one of its processes counts from then on. Not now: others have a lot to write."""
        self._work.add_jobs([NewJob(_JOB, "all", due=datetime.now(UTC) + _FIRST)])

    def _run(self, jobs: Sequence[Job]) -> Iterator[Ended | None]:
        for job in jobs:
            while self.count(datetime.now(UTC)):
                yield None
            yield Ended(job, again_at=datetime.now(UTC) + _EVERY)

    def count(self, now: datetime) -> bool:
        """Count the next changes; whether there are more. Raises OutOfResources when another process counts too."""
        place, after, newest = self._place()
        until = min(newest, after + _AT_ONCE)
        buckets = _Buckets(self._work)
        buckets.add(self._work.count_changes(after, until) if until > after else {})
        if until == newest:
            buckets.note(self._index.counts(), now)
        writes = buckets.writes()
        if not writes and place is not None:
            return False
        writes.append(RecordWrite(_PLACE, "all", str(until).encode(), place.version if place else 0))
        if not self._work.write_records([*writes, *self._outdated(now)]):
            raise OutOfResources("another process counts the same changes")
        return until < newest

    def history(self, span: Span, buckets: int, now: datetime) -> list[dict[str, Any]]:
        """The last so many hours or days, oldest first, with what has not been counted yet; none left out.

        Where nobody looked, because no server ran, the totals are those of the bucket before.
        """
        last = span.begin(now)
        first = last - (buckets - 1) * span.length
        found = {
            record.key: Bucket.read(record)
            for record in self._work.records(span.kind, labels=(_key(first), _key(last)), limit=buckets)
        }
        _, after, newest = self._place()
        if after < newest <= after + _AT_ONCE:
            for (hour, kind), number in self._work.count_changes(after, newest).items():
                key = _key(span.begin(hour))
                found[key] = found.get(key, Bucket()).with_changes({kind: number})
        found[_key(last)] = found.get(_key(last), Bucket()).with_totals(self._index.counts())
        answer = []
        before = Bucket()
        for number in range(buckets):
            at = first + number * span.length
            bucket = found.get(_key(at), Bucket())
            if bucket.instances is None:
                bucket = replace(
                    bucket, studies=before.studies, instances=before.instances, size_bytes=before.size_bytes
                )
            answer.append(bucket.as_json(at))
            before = bucket
        return answer

    def _place(self) -> tuple[Record | None, int, int]:
        """Up to where changes are counted, and the newest."""
        place = self._work.record(_PLACE, "all")
        oldest, newest = self._work.change_span()
        return place, max(oldest, int(place.content) if place else 0), newest

    def _outdated(self, now: datetime) -> list[RecordWrite]:
        """Hours that are too old, a few at a time."""
        until = _key(now - _HOURS_KEPT)
        found = self._work.records(Span.HOUR.kind, labels=("", until), limit=_REMOVED_AT_ONCE)
        return [RecordWrite(Span.HOUR.kind, record.key, None) for record in found]


class _Buckets:
    """Those that one look changes."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._before: dict[tuple[Span, str], tuple[Record | None, Bucket]] = {}
        self._now: dict[tuple[Span, str], Bucket] = {}

    def add(self, changes: Mapping[tuple[datetime, ChangeKind], int]) -> None:
        for (hour, kind), number in changes.items():
            for span in Span:
                own = span, _key(span.begin(hour))
                self._now[own] = self._of(own).with_changes({kind: number})

    def note(self, counts: Counts, now: datetime) -> None:
        for span in Span:
            own = span, _key(span.begin(now))
            self._now[own] = self._of(own).with_totals(counts)

    def writes(self) -> list[RecordWrite]:
        """Of those that are not as they were."""
        found = []
        for (span, key), bucket in self._now.items():
            record, before = self._before[span, key]
            if record is None or bucket != before:
                version = record.version if record else 0
                found.append(RecordWrite(span.kind, key, bucket.packed(), version, label=key))
        return found

    def _of(self, own: tuple[Span, str]) -> Bucket:
        if own not in self._now:
            record = self._work.record(own[0].kind, own[1])
            self._before[own] = record, Bucket.read(record)
            self._now[own] = self._before[own][1]
        return self._now[own]


def _key(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H")
