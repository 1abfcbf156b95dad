"""What follows from a store or a deletion, as jobs that are written in the same transaction.

Kinds of jobs, and their keys:

    send           instance and peer        C-STORE to a peer; group: the peer
    stow           instance and address     STOW-RS to another archive; group: the address
    webhook        event and address        POST of an event; group: the address
    label          study and label
    delete         instance, or study       removal by a rule
    study-complete study                    it is complete, or nothing has arrived for a while: rules on studies
    fhir           study                    FHIR server brought up to date
    availability   study and peer           Instance Availability Notification; group: the peer
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from pacs.dicom.model import InstanceRecord, Target
from pacs.index.work import NewJob, at_whole
from pacs.services.availability import announcements
from pacs.services.rules import Moment, Rule

log = logging.getLogger(__name__)

SEND, STOW, WEBHOOK, LABEL, DELETE = "send", "stow", "webhook", "label", "delete"
FHIR = "fhir"
_FHIR_QUIET, _FHIR_LATEST = timedelta(seconds=3), timedelta(seconds=60)
_GRID_S = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """One stored version of an instance, as jobs speak of it."""

    target: Target
    blob_key: str

    def payload(self, **more: object) -> bytes:
        target = self.target
        return orjson.dumps(
            {
                "study": target.study_uid,
                "series": target.series_uid,
                "sop": target.sop_uid,
                "key": self.blob_key,
                **more,
            }
        )


class Following:
    """rules: in their order; all that match apply. fhir: whether a FHIR server is kept up to date. arrived: the jobs
    that look whether a study is complete, after an instance of it arrived (``Completeness.follow``). announce: AE
    titles that are told of each study that is complete, or quiet.
    """

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        *,
        fhir: bool = False,
        arrived: Callable[[str, datetime], list[NewJob]] | None = None,
        announce: Sequence[str] = (),
    ) -> None:
        self.use(rules)
        self._fhir = fhir
        self._arrived = arrived
        self._announce = announce

    def use(self, rules: Sequence[Rule]) -> None:
        """These rules, from now on."""
        self._on_instance = [rule for rule in rules if rule.moment is Moment.INSTANCE]
        self._on_study = [rule for rule in rules if rule.moment is Moment.STUDY]

    @property
    def is_needed(self) -> bool:
        return bool(self._on_instance or self._on_study or self._fhir or self._arrived)

    def after_store(self, record: InstanceRecord) -> list[NewJob]:
        """Never raises: what is stored must not hang on a rule."""
        now = datetime.now(UTC)
        target = record.header.target
        jobs = self._of_study(target, now)
        if self._arrived is not None:
            jobs += self._arrived(target.study_uid, now)
        arrival = Arrival(target, record.blob.key)
        for rule in self._on_instance:
            try:
                if rule.concerns(record.header.attributes, record.source):
                    jobs += of_instance(rule, arrival, now)
                    jobs += [_told(rule, address, "instance", target, now) for address in rule.webhook]
            except Exception:  # the other rules, and the image, are not concerned
                log.exception("rule failed rule=%s sop=%s", rule.name, target.sop_uid)
        return jobs

    def after_restore(self, target: Target) -> list[NewJob]:
        """Of what was deleted and is back. Rules have had their turn when it arrived."""
        return self._of_study(target, datetime.now(UTC))

    def after_delete(self, target: Target) -> list[NewJob]:
        return self._of_study(target, datetime.now(UTC))

    def of_study(self, study_uid: str, state: str, rules: Sequence[Rule], arrivals: Sequence[Arrival]) -> list[NewJob]:
        """Of a study that is complete, or quiet. rules: those on studies that it meets. arrivals: all its instances."""
        now = datetime.now(UTC)
        jobs = announcements(study_uid, self._announce)
        for rule in rules:
            for arrival in arrivals:
                jobs += of_instance(rule, arrival, now)
            jobs += [_told(rule, address, "study", Target(study_uid), now, state) for address in rule.webhook]
        return jobs

    @property
    def rules(self) -> Sequence[Rule]:
        return [*self._on_instance, *self._on_study]

    @property
    def on_study(self) -> Sequence[Rule]:
        return self._on_study

    def _of_study(self, target: Target, now: datetime) -> list[NewJob]:
        if not self._fhir:
            return []
        due = at_whole(now + _FHIR_QUIET, _GRID_S)
        return [NewJob(FHIR, target.study_uid, due=due, latest=now + _FHIR_LATEST)]


def of_instance(rule: Rule, arrival: Arrival, now: datetime) -> Iterator[NewJob]:
    """What a rule does with one instance."""
    for peer in rule.send:
        if rule.commit:
            # A key of its own: another rule that sends the same there must not take the place of this job.
            then = rule.name if rule.delete_after_sending else None
            payload = arrival.payload(to=peer, commit=True, delete=then)
            yield NewJob(SEND, f"{arrival.blob_key}\\{peer}\\commit", peer, payload)
        else:
            yield NewJob(SEND, f"{arrival.blob_key}\\{peer}", peer, arrival.payload(to=peer))
    for address in rule.stow:
        yield NewJob(STOW, f"{arrival.blob_key}\\{address}", address, arrival.payload(to=address))
    for label in rule.label:
        study_uid = arrival.target.study_uid
        yield NewJob(LABEL, f"{study_uid}\\{label}", payload=orjson.dumps({"study": study_uid, "label": label}))
    if rule.delete_after_sending and not rule.commit:
        yield deletion(arrival, rule.name)
    elif rule.delete_after is not None:
        due = now + rule.delete_after
        yield NewJob(DELETE, arrival.blob_key, payload=arrival.payload(rule=rule.name, sent=False), due=due)


def deletion(arrival: Arrival, rule_name: str) -> NewJob:
    """Of what has been sent everywhere."""
    return NewJob(DELETE, arrival.blob_key, payload=arrival.payload(rule=rule_name, sent=True))


def _told(rule: Rule, address: str, event: str, target: Target, now: datetime, state: str | None = None) -> NewJob:
    key = "\\".join(part for part in (target.study_uid, target.series_uid, target.sop_uid, rule.name, address) if part)
    body = {
        "event": event,
        "rule": rule.name,
        "at": now.isoformat(),
        "study": target.study_uid,
        "series": target.series_uid,
        "sop": target.sop_uid,
        "state": state,
    }
    return NewJob(WEBHOOK, key, address, orjson.dumps({"to": address, "body": body}))
