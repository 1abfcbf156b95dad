"""Whether all of a study has arrived: what was announced, by performed steps and others, against what is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson

from pacs.dicom import performed_step
from pacs.dicom.model import Attributes, Scope, Target
from pacs.errors import NotFound, OutOfResources
from pacs.index.base import Index
from pacs.index.work import Job, NewJob, RecordWrite, at_whole, job_id
from pacs.services.jobs import Ended, Handler
from pacs.services.records import document

ARRIVAL, QUIET_TIME, COMPLETE_EVENT = "study-arrival", "study-quiet", "study-complete"

_EXPECTED = "study-expected"
_SETTLE_S = 2.0  # instances of a series that follow each other are looked at once
_ATTEMPTS = 50


class StudyState(StrEnum):
    RECEIVING = "receiving"  # something came lately, or is announced
    COMPLETE = "complete"  # all that was announced is there, and the modality has completed its step
    INCOMPLETE = "incomplete"  # quiet, and something that was announced is missing
    QUIET = "quiet"  # quiet, and nothing is known to be missing


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a study. expected, received, missing: SOP Instance UIDs, received also those unannounced.

    performed: states of its performed steps by SOP Instance UID. sources: who announced instances. times are aware.
    """

    study_uid: str
    state: StudyState
    expected: tuple[str, ...]
    received: tuple[str, ...]
    missing: tuple[str, ...]
    performed: Mapping[str, str]
    sources: tuple[str, ...]
    last_arrival: datetime | None
    quiet_at: datetime | None


def decide(
    missing: Collection[str],
    is_announced: bool,
    performed: Collection[str],
    last_activity: datetime | None,
    now: datetime,
    quiet_s: float,
) -> StudyState:
    """The state of a study. is_announced: whether it is known of any instance that it was made.

    performed: states of its performed steps. last_activity: when an instance, or word of one, came last.
    """
    is_ended = all(state in performed_step.FINAL for state in performed)
    if is_announced and not missing and is_ended and performed_step.COMPLETED in performed:
        return StudyState.COMPLETE
    if last_activity is not None and now < last_activity + timedelta(seconds=quiet_s):
        return StudyState.RECEIVING
    return StudyState.INCOMPLETE if missing else StudyState.QUIET


class Completeness:
    """quiet_s: how long nothing may come before a study counts as quiet.

    is_followed: whether somebody acts on the event that a study is complete, or quiet: a job of kind
    ``COMPLETE_EVENT`` whose key is the Study Instance UID. Without, no job is ever written.
    """

    def __init__(self, index: Index, quiet_s: float, *, is_followed: bool = False) -> None:
        self._index = index
        self._quiet_s = quiet_s
        self._is_followed = is_followed

    def use(self, quiet_s: float, *, is_followed: bool) -> None:
        """Other values, from now on."""
        self._quiet_s, self._is_followed = quiet_s, is_followed

    # -- asking --

    def report(self, study_uid: str, now: datetime | None = None) -> Report:
        """Raises NotFound for a study that nothing is known of."""
        record = self._index.work.record(_EXPECTED, study_uid)
        content = _content(record.content if record else None)
        sources = content["sources"]
        studies = {study_uid, *(study for source in sources.values() for study in source["studies"])}
        last_arrival = self._index.last_arrival(study_uid)
        if record is None and last_arrival is None:
            raise NotFound("nothing is known of this study")
        own: list[str] = []
        stored: set[str] = set()
        for study in sorted(studies):
            found = [each.target.sop_uid or "" for each in self._index.locate(Target(study))]
            stored.update(found)
            if study == study_uid:
                own = found
        expected = tuple(dict.fromkeys(uid for source in sources.values() for uid in source["instances"]))
        missing = tuple(uid for uid in expected if uid not in stored)
        activity = [at for at in (last_arrival, _time(content["at"])) if at is not None]
        last_activity = max(activity, default=None)
        performed = content["performed"]
        state = decide(
            missing, bool(expected), performed.values(), last_activity, now or datetime.now(UTC), self._quiet_s
        )
        return Report(
            study_uid,
            state,
            expected,
            tuple(own),
            missing,
            performed,
            tuple(sources),
            last_arrival,
            last_activity and last_activity + timedelta(seconds=self._quiet_s),
        )

    def report_to(self, scope: Scope, study_uid: str) -> Report:
        """``report`` for somebody who sees all that has arrived of a study. Raises NotFound for others too.

        What is missing, and what was performed, has no modality yet: nobody is told a part of it.
        """
        if not scope.is_everything:
            seen = self._index.locate(Target(study_uid), scope=scope)
            if not seen or len(seen) < len(self._index.locate(Target(study_uid))):
                raise NotFound("nothing is known of this study")
        return self.report(study_uid)

    def is_complete(self, study_uid: str) -> bool:
        """Whether all that was announced is there, and the modality has completed it. False for an unknown study."""
        try:
            return self.report(study_uid).state is StudyState.COMPLETE
        except NotFound:
            return False

    # -- announcing --

    def expect(self, study_uid: str, instances: Sequence[str], source: str) -> None:
        """Note that a study should hold these SOP Instance UIDs. source: who says so; what it said before is replaced.

        Raises OutOfResources when others change the same all the time.
        """
        for _ in range(_ATTEMPTS):
            write = self._expectation(study_uid, instances, source, [study_uid], None)
            if self._index.work.write_records([write], self.follow(study_uid, datetime.now(UTC))):
                return
        raise OutOfResources("others change what this study should hold at the moment")

    def expectations(self, step: Attributes) -> tuple[list[RecordWrite], list[NewJob]]:
        """What a performed step announces, to be written together with it.

        It does not say which of its studies an instance is in, so each should be somewhere in one of them.
        """
        sop_uid, state = performed_step.sop_uid_of(step), performed_step.state_of(step)
        studies, instances = performed_step.studies(step), performed_step.instances(step)
        source = f"mpps {sop_uid}"
        writes = [self._expectation(study, instances, source, studies, (sop_uid, state)) for study in studies]
        now = datetime.now(UTC)
        return writes, [job for study in studies for job in self.follow(study, now)]

    def _expectation(
        self,
        study_uid: str,
        instances: Sequence[str],
        source: str,
        studies: Sequence[str],
        performed: tuple[str, str] | None,
    ) -> RecordWrite:
        record = self._index.work.record(_EXPECTED, study_uid)
        content = _content(record.content if record else None)
        content["at"] = datetime.now(UTC).isoformat()
        content["sources"][source] = {"instances": list(instances), "studies": list(studies)}
        if performed is not None:
            content["performed"][performed[0]] = performed[1]
        return RecordWrite(_EXPECTED, study_uid, document(content), record.version if record else 0)

    # -- following --

    def follow(self, study_uid: str, at: datetime) -> list[NewJob]:
        """What follows from the arrival of an instance, to be written in its transaction; nothing when nobody follows.

        A study has one such job; each further instance puts it off. at: when the instance came.
        """
        if not self._is_followed:
            return []
        settle_s = min(_SETTLE_S, self._quiet_s)
        due = at_whole(at + timedelta(seconds=settle_s), settle_s)
        return [NewJob(ARRIVAL, study_uid, due=due, latest=at + timedelta(seconds=self._quiet_s))]

    def handlers(self) -> list[Handler]:
        """Who does the jobs of ``follow``, and those that come of them."""
        return [Handler(kind, self.look, batch=20) for kind in (ARRIVAL, QUIET_TIME)]

    def look(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Look whether studies are complete, or quiet, and say so; else look again when they would be quiet."""
        for job in jobs:
            self._look(job.key)
            yield Ended(job)

    def _look(self, study_uid: str) -> None:
        work = self._index.work
        try:
            report = self.report(study_uid)
        except NotFound:
            return  # deleted meanwhile
        if report.state is StudyState.RECEIVING:
            # A job of another kind: the next arrival has to be looked at before that.
            work.add_jobs([NewJob(QUIET_TIME, study_uid, due=report.quiet_at)])
            return
        payload = orjson.dumps({"state": report.state, "missing": len(report.missing)})
        work.add_jobs([NewJob(COMPLETE_EVENT, study_uid, payload=payload)])
        work.discard_jobs([job_id(QUIET_TIME, study_uid)])


def _content(stored: bytes | None) -> dict[str, Any]:
    if stored is None:
        return {"at": "", "performed": {}, "sources": {}}
    found: dict[str, Any] = orjson.loads(stored)
    return found


def _time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
