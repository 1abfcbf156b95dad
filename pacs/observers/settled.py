"""Jobs of studies that are complete, or quiet, and what rules do in the archive itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from pacs.dicom.model import Caller, Target
from pacs.errors import NotFound
from pacs.index.base import Index
from pacs.index.work import Job, JobState
from pacs.observers.arrivals import payload, stored, target
from pacs.services.completeness import COMPLETE_EVENT
from pacs.services.delete import Delete
from pacs.services.following import DELETE, LABEL, Arrival, Following
from pacs.services.jobs import Ended, Handler
from pacs.services.labels import Labels

log = logging.getLogger(__name__)

_AT_ONCE = 500
_LOOK_AGAIN = timedelta(seconds=3)


class Settled:
    """Rules on studies. also: called with each study that is complete, or that nothing has arrived for in a while."""

    def __init__(self, index: Index, following: Following, also: Sequence[Callable[[str], None]] = ()) -> None:
        self._index = index
        self._following = following
        self._also = also

    @property
    def handler(self) -> Handler:
        return Handler(COMPLETE_EVENT, self.run)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        for job in jobs:
            study_uid, state = job.key, payload(job)["state"]
            everything = [Arrival(each.target, each.blob.key) for each in self._index.locate(Target(study_uid))]
            matching = [rule for rule in self._following.on_study if self._index.select(rule.keys, Target(study_uid))]
            following = self._following.of_study(study_uid, state, matching, everything)
            for begin in range(0, len(following), _AT_ONCE):
                self._index.work.add_jobs(following[begin : begin + _AT_ONCE])
            for call in self._also:
                call(study_uid)
            log.info("%s study=%s instances=%d rules=%d", state, study_uid, len(everything), len(matching))
            yield Ended(job)


class Labelling:
    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    @property
    def handler(self) -> Handler:
        return Handler(LABEL, self.run, batch=50)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        for job in jobs:
            found = payload(job)
            self._labels.add(found["study"], found["label"])
            yield Ended(job)


class Deleting:
    """Deletion by a rule: hides, as any deletion; files stay until a purge."""

    def __init__(self, index: Index, delete: Delete) -> None:
        self._index = index
        self._delete = delete

    @property
    def handler(self) -> Handler:
        return Handler(DELETE, self.run, batch=50)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        for job in jobs:
            yield self._do(job)

    def _do(self, job: Job) -> Ended:
        found = payload(job)
        if stored(self._index, job) is None:
            return Ended(job)
        if found["sent"]:
            left = self._index.work.jobs(key_prefix=f"{found['key']}\\")
            if any(each.state is JobState.DEAD for each in left):
                return Ended(job, "not deleted: it could not be sent everywhere", is_final=True)
            if left:
                return Ended(job, again_at=datetime.now(UTC) + _LOOK_AGAIN)
        try:
            self._delete.delete(target(job), Caller(f"rule {found['rule']}", "", "rule"))
        except NotFound:
            log.info("not deleted by rule, it is gone already: key=%s", found["key"])
        return Ended(job)
