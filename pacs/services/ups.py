"""Unified Procedure Steps (PS3.4 CC, PS3.18 11): one state machine for DIMSE and for HTTP.

Steps are records. A change is written together with the events that it causes, provided that nobody else has changed
the step meanwhile; else it is tried again on what is there now. So any number of processes and nodes may serve them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pacs.dicom.matchers import Matcher, Single, TagPath, UidList
from pacs.dicom.matching import matches_all
from pacs.dicom.model import Attributes, Caller, Scope
from pacs.errors import Conflict
from pacs.index.work import Record, Work
from pacs.services import ups_attributes as names
from pacs.services.ups_outcomes import Caveat, UnknownStep
from pacs.services.ups_records import change_step, read_step, records, written
from pacs.services.ups_step import KIND, Step, labels
from pacs.services.ups_subscriptions import Subscriptions

log = logging.getLogger(__name__)

_STUDY_UID = "0020000D"
SeenStudies = Callable[[Sequence[str], Scope], Collection[str]]


def _none_seen(study_uids: Sequence[str], scope: Scope) -> Collection[str]:
    return ()


@dataclass(frozen=True, slots=True)
class ProcedureSteps:
    """Safe to call from any thread. All raise OutOfResources when the index cannot be reached.

    seen_studies: which of some studies, by their UIDs, something is visible of within a scope. Who sees a part of the
    archive sees the steps that name studies, wherever in their attributes, all of which are among those; the others are
    not there.
    """

    work: Work
    subscriptions: Subscriptions
    seen_studies: SeenStudies = _none_seen

    def create(self, sop_uid: str, attributes: Attributes, caller: Caller) -> Caveat | None:
        """N-CREATE, Create Workitem. Raises AttributeRefused, NotScheduled, and Conflict when the step is there."""
        step, events, caveat = Step.created(sop_uid, attributes, datetime.now(UTC))
        taken_over = self.subscriptions.take_over(step)
        writes, jobs = written(step, events)
        if not self.work.write_records(writes, jobs):
            raise Conflict("a Unified Procedure Step of this UID is there already", names.UPS_PUSH, sop_uid)
        self.subscriptions.catch_up(step, events, taken_over)
        log.info("step created sop=%s by=%s", sop_uid, caller.name)
        return caveat

    def update(self, sop_uid: str, attributes: Attributes, transaction: str, caller: Caller) -> Caveat | None:
        """N-SET, Update Workitem. transaction: "" for none. Raises UnknownStep, StepRefused and AttributeRefused."""
        caveat = change_step(
            self.work, sop_uid, lambda step: self._seen(step, caller).update(attributes, transaction, datetime.now(UTC))
        )
        log.info("step updated sop=%s by=%s", sop_uid, caller.name)
        return caveat

    def change_state(self, sop_uid: str, state: str, transaction: str, caller: Caller) -> Caveat | None:
        """N-ACTION Change UPS State, Change Workitem State. Raises UnknownStep, StepRefused and Invalid kinds."""
        caveat = change_step(
            self.work,
            sop_uid,
            lambda step: self._seen(step, caller).change_state(state, transaction, datetime.now(UTC)),
        )
        log.info("step is now %s sop=%s by=%s", state, sop_uid, caller.name)
        return caveat

    def request_cancel(self, sop_uid: str, requester: str, attributes: Attributes, caller: Caller) -> Caveat | None:
        """N-ACTION Request UPS Cancel, Request Cancellation. Raises UnknownStep and StepCompleted."""
        caveat = change_step(
            self.work,
            sop_uid,
            lambda step: self._seen(step, caller).request_cancel(requester, attributes, datetime.now(UTC)),
        )
        log.info("cancelling asked for sop=%s requester=%s by=%s", sop_uid, requester, caller.name)
        return caveat

    def retrieve(self, sop_uid: str, caller: Caller) -> Attributes:
        """N-GET, Retrieve Workitem: all attributes but the Transaction UID. Raises UnknownStep."""
        return self._seen(read_step(self.work, sop_uid), caller).attributes

    def search(self, keys: Mapping[TagPath, Matcher], caller: Caller) -> Iterator[Attributes]:
        """C-FIND, Search: those that match, in the order of their UIDs."""
        for record in self._candidates(keys):
            attributes = Step.read(record).attributes
            if matches_all(keys, attributes) and self._sees(attributes, caller.scope):
                yield attributes

    def _seen(self, step: Step, caller: Caller) -> Step:
        if not self._sees(step.attributes, caller.scope):
            raise UnknownStep("there is no such Unified Procedure Step here")
        return step

    def _sees(self, attributes: Attributes, scope: Scope) -> bool:
        if scope.is_everything:
            return True
        named = sorted(set(_studies(attributes)))
        return bool(named) and set(named) <= set(self.seen_studies(named, scope))

    def _candidates(self, keys: Mapping[TagPath, Matcher]) -> Iterator[Record]:
        wanted = keys.get((names.SOP_UID,))
        if isinstance(wanted, UidList):
            found = (self.work.record(KIND, uid) for uid in sorted(set(wanted.values)))
            return (record for record in found if record is not None)
        state = keys.get((names.STATE,))
        return records(self.work, labels(state.value.strip().upper()) if isinstance(state, Single) else None)


def _studies(attributes: Attributes) -> Iterator[str]:
    """Study Instance UIDs at any depth."""
    for tag, element in attributes.items():
        values: Sequence[Any] = element.get("Value") or ()
        if tag == _STUDY_UID:
            yield from (str(value) for value in values if value)
        elif element.get("vr") == "SQ":
            for item in values:
                yield from _studies(item)
