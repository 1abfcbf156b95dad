"""Deletes what retention rules let go, and purges what was deleted long ago: jobs, that one process of all has."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from pacs.dicom.model import Caller, Target
from pacs.errors import NotFound
from pacs.index.work import Job, NewJob, Work
from pacs.services.delete import Delete
from pacs.services.jobs import Ended, Handler
from pacs.services.retention import Retaining

log = logging.getLogger(__name__)

RETAIN, PURGE = "retention", "purge"
_EVERY = timedelta(hours=1)


class Keeping:
    """purge_after_days: may be changed while it is in use; 0: never."""

    def __init__(self, work: Work, retaining: Retaining, delete: Delete, purge_after_days: float) -> None:
        self._work = work
        self._retaining = retaining
        self._delete = delete
        self.purge_after_days = purge_after_days

    @property
    def handlers(self) -> list[Handler]:
        return [Handler(RETAIN, self.retain), Handler(PURGE, self.purge)]

    def begin(self) -> None:
        """Add the jobs where there is anything to do; those that are there are looked at now."""
        jobs = [NewJob(RETAIN, "all")] if self._retaining.retention.rules else []
        if self.purge_after_days:
            jobs.append(NewJob(PURGE, "all"))
        self._work.add_jobs(jobs)

    def retain(self, jobs: Sequence[Job]) -> Iterator[Ended | None]:
        for job in jobs:
            now = datetime.now(UTC)
            number = size_bytes = 0
            for study in self._retaining.leaving(now):
                try:
                    self._delete.delete(Target(study.study_uid), Caller(f"retention {study.rule}", "", "rule"))
                except NotFound:
                    continue
                number += 1
                size_bytes += study.size_bytes
                log.info(
                    "retention deleted study=%s rule=%s since=%s size_bytes=%d",
                    *(study.study_uid, study.rule, study.since.isoformat(timespec="seconds"), study.size_bytes),
                )
                yield None
            if number:
                log.info("retention studies=%d size_bytes=%d", number, size_bytes)
            yield self._again(job, is_wanted=bool(self._retaining.retention.rules))

    def purge(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        for job in jobs:
            days = self.purge_after_days
            if days:
                self._delete.purge(datetime.now(UTC) - timedelta(days=days))
            yield self._again(job, is_wanted=bool(days))

    def _again(self, job: Job, *, is_wanted: bool) -> Ended:
        return Ended(job, again_at=datetime.now(UTC) + _EVERY) if is_wanted else Ended(job)
