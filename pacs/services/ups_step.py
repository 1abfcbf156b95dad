"""One Unified Procedure Step as it is kept, and how requests change it: the state machine of PS3.4 CC.1.1.

Pure: a method changes the step in memory, says which events that causes, and leaves storing both to its caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from pacs.dicom.json_model import dumps
from pacs.dicom.model import Attributes
from pacs.dicom.uids import is_possible, new_uid
from pacs.index.work import Record, RecordWrite
from pacs.services import ups_attributes as names
from pacs.services.ups_attributes import CANCELED, COMPLETED, IN_PROGRESS, SCHEDULED
from pacs.services.ups_outcomes import (
    AttributeMissing,
    AttributeWrong,
    Caveat,
    OnlyCreationSchedules,
    StepClaimed,
    StepCompleted,
    StepFinal,
    StepFinalUpdate,
    StepUnclaimed,
    WrongTransaction,
)

KIND = "ups"
WORKLIST_LABEL = "WORKLIST"  # of steps that come without one (Table CC.2.5-3 has the SCP fill it in)
FINAL = (COMPLETED, CANCELED)
_STATES = (SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED)
_ALREADY = {COMPLETED: Caveat.ALREADY_COMPLETED, CANCELED: Caveat.ALREADY_CANCELED}
# DCM 110513: what PS3.16 CID 9301 has for a reason that nobody gave.
_NO_REASON = {
    "00080100": {"vr": "SH", "Value": ["110513"]},
    "00080102": {"vr": "SH", "Value": ["DCM"]},
    "00080104": {"vr": "LO", "Value": ["Discontinued for unspecified reason"]},
}
_CANCEL_INFORMATION = (names.REASON, names.REASON_CODE, "0074100A", "0074100C")


@dataclass(frozen=True, slots=True)
class Event:
    """Of PS3.4 Table CC.2.4-1. kind: Event Type ID. sop_uid: of the step, or the well-known one of all.

    receiver: the AE that alone is told, "" for all subscribers.
    """

    kind: int
    sop_uid: str
    attributes: Attributes
    receiver: str = ""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One AE's subscription. ways: "dimse" and "web", how events reach it. has_lock: the step must not go."""

    has_lock: bool
    ways: frozenset[str]


@dataclass(slots=True)
class Step:
    """attributes: without Transaction UID and Specific Character Set. transaction: its performer's, "" before.

    told_us: time of its newest event, microseconds since 1970. version: of the record, 0 for none.
    """

    sop_uid: str
    attributes: dict[str, Any]
    transaction: str = ""
    subscribers: dict[str, Subscriber] = field(default_factory=dict)
    told_us: int = 0
    version: int = 0

    @property
    def state(self) -> str:
        return names.value_of(self.attributes, names.STATE)

    @property
    def is_locked(self) -> bool:
        return any(subscriber.has_lock for subscriber in self.subscribers.values())

    @classmethod
    def created(cls, sop_uid: str, given: Attributes, now: datetime) -> tuple[Step, list[Event], Caveat | None]:
        """A new step (PS3.4 CC.2.5). Raises AttributeRefused and NotScheduled."""
        names.check_creation(given)
        left_out = (names.CHARACTER_SET, names.TRANSACTION_UID, names.MODIFIED)
        attributes = {tag: element for tag, element in given.items() if tag not in left_out}
        step = cls(sop_uid, names.completed(attributes))
        step.attributes.pop(names.TRANSACTION_UID, None)
        step._set(names.SOP_CLASS_UID, "UI", names.UPS_PUSH)
        step._set(names.SOP_UID, "UI", sop_uid)
        step._set(names.MODIFIED, "DT", date_time(now))
        if not names.value_of(given, names.WORKLIST_LABEL):
            step._set(names.WORKLIST_LABEL, "LO", WORKLIST_LABEL)
        events = [step.state_report()]
        if step._is_assigned():
            events.append(step._assigned())
        is_otherwise = bool(names.value_of(given, names.MODIFIED)) or any(
            names.value_of(given, tag) not in ("", names.value_of(step.attributes, tag))
            for tag in (names.SOP_CLASS_UID, names.SOP_UID)
        )
        return step, events, Caveat.CREATED_OTHERWISE if is_otherwise else None

    # -- requests ------------------------------------------------------------------------------------------------------

    def update(self, given: Attributes, transaction: str, now: datetime) -> tuple[list[Event], Caveat | None]:
        """N-SET (CC.2.6). transaction: "" for none. Raises StepRefused kinds and AttributeRefused."""
        if self.state in FINAL:
            raise StepFinalUpdate(f"the step is {self.state} and may no longer be updated")
        if self.state == IN_PROGRESS:
            self._check_transaction(transaction)
        elif transaction:
            raise StepUnclaimed("the step is not IN PROGRESS, so it has no Transaction UID", is_update=True)
        left_out = (names.CHARACTER_SET, names.TRANSACTION_UID, names.MODIFIED)
        changes = {tag: element for tag, element in given.items() if tag not in left_out}
        names.check_update(changes, self.attributes)
        before = dict(self.attributes)
        self.attributes.update(changes)
        caveat = Caveat.UPDATED_OTHERWISE if names.value_of(given, names.MODIFIED) else None
        if self.attributes == before:
            return [], caveat
        self._set(names.MODIFIED, "DT", date_time(now))
        events = []
        if _differ(before, self.attributes, names.READINESS):
            events.append(self.state_report())
        if _differ(before, self.attributes, names.PROGRESS):
            events.append(Event(3, self.sop_uid, {names.PROGRESS: self.attributes[names.PROGRESS]}))
        if _differ(before, self.attributes, names.STATION_NAME, names.PERFORMERS):
            events.append(self._assigned())
        return events, caveat

    def change_state(self, state: str, transaction: str, now: datetime) -> tuple[list[Event], Caveat | None]:
        """N-ACTION Change UPS State (CC.2.1): Table CC.1.1-2 row by row. Raises StepRefused kinds and Invalid."""
        state = CANCELED if state == "CANCELLED" else state  # as PS3.18 11.7.1.4 spells it
        if not state:
            raise AttributeMissing("Procedure Step State is missing", (names.STATE,))
        if state not in _STATES:
            raise AttributeWrong(f"Procedure Step State must be one of {', '.join(_STATES[1:])}", (names.STATE,))
        if state == SCHEDULED:
            raise OnlyCreationSchedules("a step becomes SCHEDULED only when it is created", names.STATE)
        self._check_transaction(transaction)
        if state == IN_PROGRESS:
            if self.state == IN_PROGRESS:
                raise StepClaimed("the step is already IN PROGRESS")
            if self.state in FINAL:
                raise StepFinal(f"the step is {self.state} and may no longer be updated")
            self.transaction = transaction
            return [self._become(IN_PROGRESS)], None
        if self.state == state:
            return [], _ALREADY[state]
        if self.state in FINAL:
            raise StepFinal(f"the step is {self.state} and may no longer be updated")
        if self.state == SCHEDULED:
            raise StepUnclaimed("the step is not IN PROGRESS yet")
        return [self._end(state, now)], None

    def request_cancel(self, requester: str, given: Attributes, now: datetime) -> tuple[list[Event], Caveat | None]:
        """N-ACTION Request UPS Cancel (CC.2.2); requester: an AE title. Raises StepCompleted."""
        if self.state == COMPLETED:
            raise StepCompleted("the step is COMPLETED already")
        if self.state == CANCELED:
            return [], Caveat.ALREADY_CANCELED
        told = {tag: given[tag] for tag in _CANCEL_INFORMATION if tag in given}
        requested = {"00741236": {"vr": "AE", "Value": [requester]}, **told}
        events = [Event(2, self.sop_uid, dict(sorted(requested.items())))]
        if self.state == SCHEDULED:
            # Nobody performs it: the archive claims and cancels it itself.
            self.transaction = new_uid()
            events.append(self._become(IN_PROGRESS))
            self._progress().update({tag: told[tag] for tag in (names.REASON, names.REASON_CODE) if tag in told})
            events.append(self._end(CANCELED, now))
        return events, None

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def subscribe(self, ae_title: str, way: str, *, has_lock: bool) -> list[Event]:
        """To this step (Table CC.2.3-2, specific UPS): whatever there was before, it is as asked now."""
        there = self.subscribers.get(ae_title)
        self.subscribers[ae_title] = Subscriber(has_lock, frozenset({way}) | (there.ways if there else frozenset()))
        return [self.state_report(ae_title)]

    def subscribe_along(self, ae_title: str, ways: frozenset[str], *, has_lock: bool) -> bool:
        """As one of all steps (Table CC.2.3-2, globally): a lock that is there stays. Whether the AE is new."""
        there = self.subscribers.get(ae_title)
        if there is not None:
            has_lock, ways = there.has_lock, there.ways | ways
        self.subscribers[ae_title] = Subscriber(has_lock, ways)
        return there is None

    def unsubscribe(self, ae_title: str) -> bool:
        """Whether there was a subscription."""
        return self.subscribers.pop(ae_title, None) is not None

    # -- events --------------------------------------------------------------------------------------------------------

    def state_report(self, receiver: str = "") -> Event:
        """UPS State Report, as things are now."""
        told = {tag: self.attributes[tag] for tag in (names.STATE, names.READINESS) if tag in self.attributes}
        if self.state == CANCELED:
            progress = names.items_of(self.attributes, names.PROGRESS)
            for tag in (names.REASON, names.REASON_CODE):
                if progress and tag in progress[0]:
                    told[tag] = progress[0][tag]
        return Event(1, self.sop_uid, dict(sorted(told.items())), receiver)

    def _assigned(self) -> Event:
        told = {
            tag: self.attributes[tag]
            for tag in (names.STATION_NAME, names.PERFORMERS)
            if names.items_of(self.attributes, tag)
        }
        performers = names.items_of(self.attributes, names.PERFORMERS)
        codes = [code for performer in performers for code in names.items_of(performer, "00404009")]
        if codes:
            told["00404009"] = {"vr": "SQ", "Value": codes}
        organization = next((one for one in performers if names.value_of(one, "00404036")), None)
        if organization:
            told["00404036"] = organization["00404036"]
        return Event(5, self.sop_uid, dict(sorted(told.items())))

    def _is_assigned(self) -> bool:
        return any(names.items_of(self.attributes, tag) for tag in (names.STATION_NAME, names.PERFORMERS))

    # -- states --------------------------------------------------------------------------------------------------------

    def _check_transaction(self, transaction: str) -> None:
        """Before it is claimed any Transaction UID is correct; after that only its performer's."""
        if not transaction:
            raise WrongTransaction("the Transaction UID is missing", is_missing=True)
        is_correct = is_possible(transaction) if self.state == SCHEDULED else transaction == self.transaction
        if not is_correct:
            raise WrongTransaction("the Transaction UID is not that of the step's performer", is_missing=False)

    def _become(self, state: str) -> Event:
        self._set(names.STATE, "CS", state)
        return self.state_report()

    def _end(self, state: str, now: datetime) -> Event:
        if state == CANCELED:
            progress = self._progress()
            # The time has to be filled in (Table CC.2.5-3). The reason is, so that a step can be canceled without N-SET
            # (CC.2.5.1.3.2, note).
            if not names.value_of(progress, names.CANCELED_AT):
                progress[names.CANCELED_AT] = {"vr": "DT", "Value": [date_time(now)]}
            if not names.items_of(progress, names.REASON_CODE):
                progress[names.REASON_CODE] = {"vr": "SQ", "Value": [_NO_REASON]}
        names.check_final(self.attributes, state)
        self._set(names.MODIFIED, "DT", date_time(now))
        return self._become(state)

    def _progress(self) -> dict[str, Any]:
        """The item of the Progress Information Sequence, made when there is none."""
        items = names.items_of(self.attributes, names.PROGRESS) or [{}]
        self.attributes[names.PROGRESS] = {"vr": "SQ", "Value": items}
        return items[0]

    def _set(self, tag: str, vr: str, value: str) -> None:
        self.attributes[tag] = {"vr": vr, "Value": [value]}

    # -- record --------------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, record: Record) -> Step:
        content = orjson.loads(record.content)
        subscribers = {
            ae_title: Subscriber(has_lock, frozenset(ways))
            for ae_title, (has_lock, ways) in content["subscribers"].items()
        }
        return cls(
            record.key,
            content["attributes"],
            content["transaction"],
            subscribers,
            content["told"],
            record.version,
        )

    def write(self) -> RecordWrite:
        """The record as it should be now, provided that nobody else has changed it.

        Its label: the state, and when it was changed last; of one in a final state when it came to that.
        """
        subscribers = {
            ae_title: (subscriber.has_lock, sorted(subscriber.ways))
            for ae_title, subscriber in self.subscribers.items()
        }
        content: dict[str, object] = {
            "attributes": orjson.Fragment(dumps(dict(sorted(self.attributes.items())))),
            "transaction": self.transaction,
            "subscribers": subscribers,
            "told": self.told_us,
        }
        changed = names.value_of(self.attributes, names.MODIFIED)
        return RecordWrite(KIND, self.sop_uid, orjson.dumps(content), self.version, f"{self.state} {changed}")


def labels(state: str) -> tuple[str, str]:
    """First and last label of the steps in one state."""
    return f"{state} ", f"{state}!"  # which comes after the blank


def date_time(moment: datetime) -> str:
    """A DT in UTC, to the microsecond."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")


def _differ(before: Mapping[str, Any], after: Mapping[str, Any], *tags: str) -> bool:
    return any(before.get(tag) != after.get(tag) for tag in tags)
