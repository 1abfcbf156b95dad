"""Subscriptions to Unified Procedure Steps (PS3.4 CC.2.3, PS3.18 11.10 to 11.12): to one, to all, to some of all.

A step's record holds its own subscribers. One record holds the AEs that are subscribed to steps still to come; when a
step is created it takes over those that it concerns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from pacs.dicom.keys import combine, from_identifier, from_parameter
from pacs.dicom.matchers import Matcher, TagPath
from pacs.dicom.matching import is_universal, matches_all
from pacs.dicom.model import Attributes, Caller
from pacs.errors import Forbidden, Invalid, OutOfResources
from pacs.index.work import Record, RecordWrite, Work
from pacs.services.ups_outcomes import ActionMisplaced, Caveat, UnknownStep
from pacs.services.ups_records import change_step, change_steps
from pacs.services.ups_step import Event, Step

log = logging.getLogger(__name__)

ALL_STEPS = "1.2.840.10008.5.1.4.34.5"
FILTERED_STEPS = "1.2.840.10008.5.1.4.34.5.1"
_KIND, _KEY = "ups-subscriptions", "all"
_ATTEMPTS = 60


@dataclass(frozen=True, slots=True)
class GlobalSubscription:
    """To all steps to come that match. asked: the filter as it came, an identifier or parameters; None for all."""

    has_lock: bool
    ways: frozenset[str]
    asked: Attributes | list[tuple[str, str]] | None = None

    def covers(self, attributes: Attributes) -> bool:
        return self.asked is None or matches_all(matchers(self.asked), attributes)


def check_sees_all(caller: Caller) -> None:
    """Raises Forbidden."""
    if not caller.scope.is_everything:
        raise Forbidden("events of procedure steps go to those alone who see the whole archive")


class Subscriptions:
    """Safe to call from any thread. All raise OutOfResources when the index cannot be written.

    Events tell of steps, and go to an AE, whoever speaks for it: only those who see everything may subscribe one. All
    that takes a caller raises Forbidden for others.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    def subscribe(
        self,
        sop_uid: str,
        ae_title: str,
        way: str,
        caller: Caller,
        *,
        has_lock: bool,
        asked: Attributes | list[tuple[str, str]] | None = None,
    ) -> None:
        """Subscribe an AE to a step, to all (``ALL_STEPS``), or to those that match ``asked`` (``FILTERED_STEPS``).

        way: "dimse" or "web", how events are to reach it. has_lock: steps stay until the AE unsubscribes. An AE has one
        subscription to all or a part of all: the last one. Raises UnknownStep, and Invalid for a filter that is none.
        """
        check_sees_all(caller)
        if sop_uid not in (ALL_STEPS, FILTERED_STEPS):
            change_step(self._work, sop_uid, lambda step: (step.subscribe(ae_title, way, has_lock=has_lock), None))
        else:
            if sop_uid == ALL_STEPS:
                asked = None
            elif not asked or not matchers(asked):
                raise Invalid("a filtered subscription needs a filter", "filter")
            subscription = GlobalSubscription(has_lock, frozenset({way}), asked)
            self._change(lambda found: found.update({ae_title: subscription}))
            change_steps(self._work, lambda step: (_joined(step, ae_title, subscription), None))
        log.info("subscribed ae=%s sop=%s lock=%s by=%s", ae_title, sop_uid, has_lock, caller.name)

    def unsubscribe(self, sop_uid: str, ae_title: str, caller: Caller) -> bool:
        """Whether there was anything to end. From all: from every single step as well. Raises UnknownStep."""
        check_sees_all(caller)
        found: list[str] = []

        def change(step: Step) -> tuple[list[Event], Caveat | None]:
            if step.unsubscribe(ae_title):
                found.append(step.sop_uid)
            return [], None

        if sop_uid not in (ALL_STEPS, FILTERED_STEPS):
            change_step(self._work, sop_uid, change)
        else:
            if ae_title in self.of_all():
                found.append(sop_uid)
                self._change(lambda there: there.pop(ae_title, None))
            change_steps(self._work, change)
        log.info("unsubscribed ae=%s sop=%s by=%s", ae_title, sop_uid, caller.name)
        return bool(found)

    def suspend(self, sop_uid: str, ae_title: str, caller: Caller) -> bool:
        """Take no part in steps to come; whether there was such a subscription. Raises ActionMisplaced."""
        check_sees_all(caller)
        if sop_uid not in (ALL_STEPS, FILTERED_STEPS):
            raise ActionMisplaced("only a subscription to all steps can be suspended")
        was_there = ae_title in self.of_all()
        if was_there:
            self._change(lambda there: there.pop(ae_title, None))
        log.info("suspended ae=%s by=%s", ae_title, caller.name)
        return was_there

    def of_all(self) -> dict[str, GlobalSubscription]:
        """By AE title, those to steps to come."""
        return _read(self._work.record(_KIND, _KEY))

    def take_over(self, step: Step) -> dict[str, GlobalSubscription]:
        """Subscribe to a new step whom it concerns; returns what was asked for, for ``catch_up``."""
        found = self.of_all()
        for ae_title, subscription in found.items():
            if subscription.covers(step.attributes):
                step.subscribe_along(ae_title, subscription.ways, has_lock=subscription.has_lock)
        return found

    def catch_up(self, step: Step, events: list[Event], before: Mapping[str, GlobalSubscription]) -> None:
        """After a step was stored: who subscribed since ``take_over`` may have looked before it was there."""
        later = {one: found for one, found in self.of_all().items() if before.get(one) != found}
        if not later:
            return

        def change(there: Step) -> tuple[list[Event], Caveat | None]:
            new = [one for one, found in later.items() if found.covers(there.attributes)]
            joined = [one for one in new if there.subscribe_along(one, later[one].ways, has_lock=later[one].has_lock)]
            return [Event(event.kind, event.sop_uid, event.attributes, one) for one in joined for event in events], None

        try:
            change_step(self._work, step.sop_uid, change)
        except UnknownStep:
            return  # removed already

    def _change(self, change: Callable[[dict[str, GlobalSubscription]], object]) -> None:
        """Change the record of subscriptions to all."""
        for _ in range(_ATTEMPTS):
            record = self._work.record(_KIND, _KEY)
            found = _read(record)
            change(found)
            content = {
                one: {"lock": each.has_lock, "ways": sorted(each.ways), "asked": each.asked}
                for one, each in found.items()
            }
            expected = record.version if record else 0
            if self._work.write_records([RecordWrite(_KIND, _KEY, orjson.dumps(content), expected)]):
                return
        raise OutOfResources("the subscriptions are changed by others all the time")


def matchers(asked: Attributes | list[tuple[str, str]]) -> dict[TagPath, Matcher]:
    """What a filter asks. Raises Invalid."""
    if isinstance(asked, Mapping):
        return from_identifier(asked).matchers
    found = dict(from_parameter(name, [value]) for name, value in asked)
    return combine({path: matcher for path, matcher in found.items() if not is_universal(matcher)})


def _joined(step: Step, ae_title: str, subscription: GlobalSubscription) -> list[Event]:
    """Of a subscription to all, one step that is there already (Table CC.2.3-2)."""
    if not subscription.covers(step.attributes):
        return []
    is_new = step.subscribe_along(ae_title, subscription.ways, has_lock=subscription.has_lock)
    return [step.state_report(ae_title)] if is_new and subscription.has_lock else []


def _read(record: Record | None) -> dict[str, GlobalSubscription]:
    if record is None:
        return {}
    found = {}
    for ae_title, content in orjson.loads(record.content).items():
        asked = content["asked"]
        if isinstance(asked, list):
            asked = [(name, value) for name, value in asked]
        found[ae_title] = GlobalSubscription(content["lock"], frozenset(content["ways"]), asked)
    return found
