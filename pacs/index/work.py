"""What is kept beside the images, in the same transactions: follow-up work, the change feed, and small records.

Jobs are what has to be done after something was stored or deleted. Changes are what was stored and deleted, in order.
Records are documents of the services that have state: worklist items, procedure steps, subscriptions. All of it
survives a restart and a ``pacs reindex``. Every engine passes ``tests/contracts/work_contract.py`` unchanged.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Protocol

from pacs import correlation
from pacs.dicom.model import Target


class JobState(IntEnum):
    WAITING = 0
    RUNNING = 1
    DEAD = 2  # given up; stays until somebody retries or discards it


@dataclass(frozen=True, slots=True)
class NewJob:
    """One piece of work.

    kind: who does it. key: what it is about; of a kind and key there is one job at a time. One that is there already
    takes over payload and group: a job that waits is put off until ``due``, though not past its ``latest``, one that
    runs will run again, one that was given up starts anew. group: what can be done together, over one association for
    example. payload: JSON. due, latest: aware; None: at once, without end. cause: the correlation id of what asked for
    it; of a job that many ask for, one of theirs. Nothing is written for another cause alone.
    """

    kind: str
    key: str
    group: str = ""
    payload: bytes = b"{}"
    due: datetime | None = None
    latest: datetime | None = None
    cause: str = field(default_factory=correlation.current, compare=False)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was claimed, or listed.

    due: when it may run; of a running one, when its lease ends. attempts: that have begun. claim: what names the lease.
    revision: another one when it was asked for while it ran. error: of the last attempt that failed. cause: as of
    ``NewJob``, "" when it is not known.
    """

    kind: str
    key: str
    group: str
    payload: bytes
    state: JobState
    due: datetime
    created_at: datetime
    attempts: int
    revision: int
    claim: str = ""
    error: str = ""
    cause: str = ""

    @property
    def job_id(self) -> str:
        return job_id(self.kind, self.key)

    def as_json(self) -> dict[str, object]:
        """As people and scripts are told."""
        return {
            "id": self.job_id,
            "kind": self.kind,
            "about": self.key,
            "group": self.group,
            "state": self.state.name.lower(),
            "due": self.due.isoformat(timespec="seconds"),
            "created": self.created_at.isoformat(timespec="seconds"),
            "attempts": self.attempts,
            "error": self.error,
            "cause": self.cause,
        }


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a claimed job ended. Neither error nor retry_at: done. retry_at: again then. error alone: given up."""

    job: Job
    error: str = ""
    retry_at: datetime | None = None


class ChangeKind(IntEnum):
    STORED = 1
    REPLACED = 2
    DELETED = 3


@dataclass(frozen=True, slots=True)
class Change:
    """One instance came, changed or went. cursor: greater than that of every change before it. at: aware."""

    cursor: int
    at: datetime
    kind: ChangeKind
    target: Target

    def as_json(self) -> dict[str, object]:
        """As peers are told. kind: stored, replaced or deleted."""
        return {
            "cursor": self.cursor,
            "at": self.at.isoformat(timespec="milliseconds"),
            "kind": self.kind.name.lower(),
            "study": self.target.study_uid,
            "series": self.target.series_uid,
            "sop": self.target.sop_uid,
        }


@dataclass(frozen=True, slots=True)
class Record:
    """content: JSON. version: counts changes, from 1. label: what ranges are asked for by, such as a date."""

    kind: str
    key: str
    content: bytes
    version: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class RecordWrite:
    """content None: remove. expected: the version that it has now, 0 for none; None: whatever it is."""

    kind: str
    key: str
    content: bytes | None
    expected: int | None = None
    label: str = ""


class Work(Protocol):
    """Safe to call from any thread; ``Index.work``. Raises OutOfResources as ``Index`` does."""

    # -- jobs --

    def add_jobs(self, jobs: Sequence[NewJob]) -> None:
        """Add jobs that follow from nothing that is stored; durable when it returns."""

    def next_due(self, kinds: Sequence[str]) -> dict[str, datetime]:
        """When the earliest job of each kind may be claimed, of kinds that have any. A read, and cheap."""

    def claim_jobs(self, kind: str, now: datetime, until: datetime, limit: int) -> list[Job]:
        """Take over jobs of one kind and one group that are due, earliest first, for whoever asks, until ``until``.

        A job whose lease has ended is due again: whoever had it is gone, or too slow.
        """

    def extend_claims(self, jobs: Sequence[Job], until: datetime) -> None:
        """Keep claimed jobs for longer; those that somebody else has by now are left alone."""

    def end_jobs(self, ends: Sequence[JobEnd]) -> None:
        """Note how claimed jobs ended; those that somebody else has by now are left alone."""

    def postpone_jobs(self, kind: str, group: str, until: datetime) -> None:
        """Waiting jobs of a group need not be tried before then."""

    def jobs(
        self,
        *,
        kind: str | None = None,
        state: JobState | None = None,
        job_id: str | None = None,
        key_prefix: str = "",
        after: str = "",
        limit: int = 100,
    ) -> list[Job]:
        """In the order of ``Job.job_id``, those after ``after``."""

    def count_jobs(self) -> dict[tuple[str, JobState], int]:
        """How many there are of each kind and state."""

    def retry_jobs(self, job_ids: Sequence[str], now: datetime) -> int:
        """Make jobs that wait or were given up due now, as if never tried; how many."""

    def discard_jobs(self, job_ids: Sequence[str]) -> int:
        """Remove jobs that wait or were given up; how many."""

    # -- changes --

    def changes(self, after: int, limit: int) -> list[Change]:
        """The next changes after a cursor, in order. What has been returned once is always returned the same way, and
        nothing ever appears before it."""

    def change_span(self) -> tuple[int, int]:
        """(cursor before the oldest change that is kept, cursor of the newest). Equal when none is kept."""

    def count_changes(self, after: int, until: int) -> dict[tuple[datetime, ChangeKind], int]:
        """How many changes of each kind there were in each hour (its beginning), of those after ``after``, ``until``
        included."""

    def forget_changes(self, until: datetime) -> int:
        """Remove the oldest changes, those made up to a moment; how many."""

    # -- records --

    def record(self, kind: str, key: str) -> Record | None: ...

    def records(
        self, kind: str, *, labels: tuple[str, str] | None = None, after: str = "", limit: int = 1000
    ) -> list[Record]:
        """In the order of keys, those after ``after``. labels: first and last label, both included."""

    def write_records(self, writes: Sequence[RecordWrite], jobs: Sequence[NewJob] = ()) -> bool:
        """Make all changes and add the jobs in one transaction.

        False, and nothing done, when a record has another version than expected.
        """


def at_whole(moment: datetime, seconds: float) -> datetime:
    """The next of the moments that are so many seconds apart.

    Jobs that many things ask for are due at one of those: what comes in between asks for the same, and nothing has to
    be written for it.
    """
    return datetime.fromtimestamp(math.ceil(moment.timestamp() / seconds) * seconds, UTC)


def job_id(kind: str, key: str) -> str:
    """A short name for a job, for people and addresses."""
    return hashlib.sha256(f"{kind}\0{key}".encode()).hexdigest()[:16]
