"""Reading and changing the records of Unified Procedure Steps, whoever else changes them at the same time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from pacs.errors import OutOfResources
from pacs.index.work import NewJob, Record, RecordWrite, Work
from pacs.services.ups_events import told
from pacs.services.ups_outcomes import Caveat, UnknownStep
from pacs.services.ups_step import KIND, Event, Step

# Changes the step; what its subscribers are told, and the caveat.
Change = Callable[[Step], tuple[list[Event], Caveat | None]]

_PAGE = 200
_ATTEMPTS = 60
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.25


def read_step(work: Work, sop_uid: str) -> Step:
    """Raises UnknownStep."""
    record = work.record(KIND, sop_uid)
    if record is None:
        raise UnknownStep("there is no such Unified Procedure Step here")
    return Step.read(record)


def records(work: Work, labels: tuple[str, str] | None = None) -> Iterator[Record]:
    """All steps' records, or those between two labels; a page at a time, in the order of their UIDs."""
    after = ""
    while page := work.records(KIND, labels=labels, after=after, limit=_PAGE):
        yield from page
        after = page[-1].key


def change_step(work: Work, sop_uid: str, change: Change) -> Caveat | None:
    """Change one step and tell its subscribers, in one transaction; again when somebody else was faster.

    Raises UnknownStep, what ``change`` raises, and OutOfResources when others are always faster.
    """
    for attempt in range(_ATTEMPTS):
        record = work.record(KIND, sop_uid)
        if record is None:
            raise UnknownStep("there is no such Unified Procedure Step here")
        step = Step.read(record)
        events, caveat = change(step)
        writes, jobs = written(step, events)
        if not _changes(record, writes) or work.write_records(writes, jobs):
            return caveat
        time.sleep(random.uniform(0, min(_FIRST_PAUSE_S * 2.0**attempt, _LONGEST_PAUSE_S)))
    raise OutOfResources("the step is changed by others all the time")


def change_steps(work: Work, change: Change) -> None:
    """Change all steps, as ``change_step`` does one; many in one transaction."""
    after = ""
    while page := work.records(KIND, after=after, limit=_PAGE):
        after = page[-1].key
        writes: list[RecordWrite] = []
        jobs: list[NewJob] = []
        for record in page:
            step = Step.read(record)
            events, _ = change(step)
            found, more = written(step, events)
            if _changes(record, found):
                writes += found
                jobs += more
        if writes and not work.write_records(writes, jobs):
            for record in page:
                try:
                    change_step(work, record.key, change)
                except UnknownStep:
                    continue  # it was removed meanwhile


def written(step: Step, events: list[Event]) -> tuple[list[RecordWrite], list[NewJob]]:
    """The step's own record first, then what tells its subscribers."""
    writes, jobs = told(step, events, microseconds(datetime.now(UTC)))
    return [step.write(), *writes], jobs


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return int(moment.timestamp() * 1e6)


def _changes(record: Record, writes: list[RecordWrite]) -> bool:
    return len(writes) > 1 or writes[0].content != record.content
