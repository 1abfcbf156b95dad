"""What the archive holds: its totals, and how they divide among modalities.

The totals are there at any time. By modality every instance has to be looked at, so that is done in the background, and
the longer it takes the more seldom: it is kept as a record, with the moment that it is of.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from pacs.errors import OutOfResources
from pacs.index.base import Index, Usage
from pacs.index.work import Job, NewJob, RecordWrite
from pacs.services.jobs import Ended, Handler

_KIND = "holdings"
_FIRST = timedelta(seconds=10)
_SOONEST = timedelta(minutes=1)
# One part in so many of the time is spent on counting.
_SHARE = 100
# Counted while somebody waits, when that is a matter of a tenth of a second.
_SMALL_INSTANCES = 20_000
_FRESH_S = 3.0


class Holdings:
    """Safe to call from any thread, of any process."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._work = index.work

    @property
    def handlers(self) -> list[Handler]:
        return [Handler(_KIND, self._run)]

    def begin(self) -> None:
        """Of a server that starts: one of its processes counts from then on. Not now: others have a lot to write."""
        self._work.add_jobs([NewJob(_KIND, "all", due=datetime.now(UTC) + _FIRST)])

    def told(self, now: datetime) -> dict[str, Any]:
        """As JSON. totals: of now. modalities: most bytes first, of the moment "counted"; both None before that."""
        counts = self._index.counts()
        kept = self._work.record(_KIND, "all")
        found: dict[str, Any] = orjson.loads(kept.content) if kept else {"counted": None, "modalities": None}
        age_s = (now - datetime.fromisoformat(found["counted"])).total_seconds() if found["counted"] else None
        if counts.instances <= _SMALL_INSTANCES and (age_s is None or age_s > _FRESH_S):
            found = self._whole(now)
            self._keep(found)
        totals = {
            "patients": counts.patients,
            "studies": counts.studies,
            "series": counts.series,
            "instances": counts.instances,
            "bytes": counts.size_bytes,
        }
        return {"totals": totals, **found}

    def _run(self, jobs: Sequence[Job]) -> Iterator[Ended | None]:
        for job in jobs:
            began, now = time.monotonic(), datetime.now(UTC)
            sums: defaultdict[str, Usage] = defaultdict(Usage)
            for _ in self._count(sums):
                yield None
            self._keep(_told(sums, now))
            pause = max(_SOONEST, timedelta(seconds=_SHARE * (time.monotonic() - began)))
            yield Ended(job, again_at=datetime.now(UTC) + pause)

    def _whole(self, now: datetime) -> dict[str, Any]:
        sums: defaultdict[str, Usage] = defaultdict(Usage)
        for _ in self._count(sums):
            pass
        return _told(sums, now)

    def _count(self, sums: defaultdict[str, Usage]) -> Iterator[None]:
        after: str | None = ""
        while after is not None:
            page = self._index.usage(after)
            for modality, usage in page.by_modality.items():
                sums[modality] += usage
            after = page.next
            yield

    def _keep(self, found: dict[str, Any]) -> None:
        with suppress(OutOfResources):  # a full disk is no reason to tell less
            self._work.write_records([RecordWrite(_KIND, "all", orjson.dumps(found))])


def _told(sums: dict[str, Usage], now: datetime) -> dict[str, Any]:
    rows = [
        {
            "modality": modality,
            "studies": usage.studies,
            "series": usage.series,
            "instances": usage.instances,
            "bytes": usage.size_bytes,
        }
        for modality, usage in sums.items()
    ]
    return {
        "counted": now.isoformat(),
        "modalities": sorted(rows, key=lambda row: (-int(row["bytes"]), row["modality"])),
    }
