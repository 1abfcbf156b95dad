"""Unified Procedure Steps (PS3.4 CC, PS3.18 11): one state machine for DIMSE and for HTTP.

Steps are records. A change is written together with the events that it causes, provided that nobody else has changed
the step meanwhile; else it is tried again on what is there now. So any number of processes and nodes may serve them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pacs.dicom.matchers import Matcher, Single, TagPath, UidList
from pacs.dicom.matching import matches_all
from pacs.dicom.model import Attributes, Caller
from pacs.errors import Conflict
from pacs.index.work import Record, Work
from pacs.services import ups_attributes as names
from pacs.services.ups_outcomes import Caveat
from pacs.services.ups_records import change_step, read_step, records, written
from pacs.services.ups_step import KIND, Step, labels
from pacs.services.ups_subscriptions import Subscriptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProcedureSteps:
    """Safe to call from any thread. All raise OutOfResources when the index cannot be reached."""

    work: Work
    subscriptions: Subscriptions

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
        caveat = change_step(self.work, sop_uid, lambda step: step.update(attributes, transaction, datetime.now(UTC)))
        log.info("step updated sop=%s by=%s", sop_uid, caller.name)
        return caveat

    def change_state(self, sop_uid: str, state: str, transaction: str, caller: Caller) -> Caveat | None:
        """N-ACTION Change UPS State, Change Workitem State. Raises UnknownStep, StepRefused and Invalid kinds."""
        caveat = change_step(self.work, sop_uid, lambda step: step.change_state(state, transaction, datetime.now(UTC)))
        log.info("step is now %s sop=%s by=%s", state, sop_uid, caller.name)
        return caveat

    def request_cancel(self, sop_uid: str, requester: str, attributes: Attributes, caller: Caller) -> Caveat | None:
        """N-ACTION Request UPS Cancel, Request Cancellation. Raises UnknownStep and StepCompleted."""
        caveat = change_step(
            self.work, sop_uid, lambda step: step.request_cancel(requester, attributes, datetime.now(UTC))
        )
        log.info("cancelling asked for sop=%s requester=%s by=%s", sop_uid, requester, caller.name)
        return caveat

    def retrieve(self, sop_uid: str) -> Attributes:
        """N-GET, Retrieve Workitem: all attributes but the Transaction UID. Raises UnknownStep."""
        return read_step(self.work, sop_uid).attributes

    def search(self, keys: Mapping[TagPath, Matcher]) -> Iterator[Attributes]:
        """C-FIND, Search: those that match, in the order of their UIDs."""
        for record in self._candidates(keys):
            attributes = Step.read(record).attributes
            if matches_all(keys, attributes):
                yield attributes

    def _candidates(self, keys: Mapping[TagPath, Matcher]) -> Iterator[Record]:
        wanted = keys.get((names.SOP_UID,))
        if isinstance(wanted, UidList):
            found = (self.work.record(KIND, uid) for uid in sorted(set(wanted.values)))
            return (record for record in found if record is not None)
        state = keys.get((names.STATE,))
        return records(self.work, labels(state.value.strip().upper()) if isinstance(state, Single) else None)
