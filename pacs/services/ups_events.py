"""Events of Unified Procedure Steps on their way to subscribers: records, in order, until they have been received.

To an AE that subscribed over DIMSE a job brings them (N-EVENT-REPORT); one that subscribed over HTTP fetches them over
its notification connection, at whatever node that is. What nobody takes is removed after a while (``ups_cleaning``).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import orjson

from pacs.errors import NotFound, PeerFailed
from pacs.index.work import Job, NewJob, RecordWrite, Work
from pacs.services.jobs import Ended, Handler, Unavailable
from pacs.services.ups_step import Event, Step

log = logging.getLogger(__name__)

JOB_KIND = "ups-event"
EVENT_KINDS = {"dimse": "ups-report", "web": "ups-notification"}
_CHANNEL_KIND = "ups-channel"
_SEPARATOR = "\\"  # no AE title holds it
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Pending:
    """An event that waits for one subscriber. key: of its record."""

    key: str
    event: Event


def told(step: Step, events: Sequence[Event], now_us: int) -> tuple[list[RecordWrite], list[NewJob]]:
    """What has to be written with a step so that its subscribers hear of events.

    Their times follow each other whatever the nodes' clocks say: a step's events keep their order.
    """
    writes: list[RecordWrite] = []
    reached: dict[str, NewJob] = {}
    for event in events:
        step.told_us = max(now_us, step.told_us + 1)
        for ae_title, subscriber in step.subscribers.items():
            if event.receiver not in ("", ae_title):
                continue
            found, jobs = addressed(ae_title, subscriber.ways, event, step.told_us)
            writes += found
            reached.update((job.key, job) for job in jobs)
    return writes, list(reached.values())


def addressed(
    ae_title: str, ways: frozenset[str], event: Event, at_us: int, key: str = ""
) -> tuple[list[RecordWrite], list[NewJob]]:
    """Records and job that bring one event to one AE. key: makes it take the place of one of the same key."""
    content = orjson.dumps({"kind": event.kind, "sop_uid": event.sop_uid, "attributes": dict(event.attributes)})
    place = key or f"{at_us:017d}{_SEPARATOR}{event.sop_uid}"
    writes = [
        RecordWrite(EVENT_KINDS[way], f"{ae_title}{_SEPARATOR}{place}", content, label=ae_title) for way in sorted(ways)
    ]
    jobs = [NewJob(JOB_KIND, ae_title, group=ae_title)] if "dimse" in ways else []
    return writes, jobs


def age_us(key: str) -> int | None:
    """When an event happened, by its record's key; None when that does not matter."""
    place = key.split(_SEPARATOR)[1]
    return int(place) if place.isdigit() else None


class Notifications:
    """What goes to AEs over their notification connections (PS3.18 8.10.4): one connection an AE, the newest."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def open(self, ae_title: str) -> str:
        """Make a connection the AE's; returns what names it. One that it had before is its no more."""
        channel = secrets.token_hex(8)
        self._work.write_records([RecordWrite(_CHANNEL_KIND, ae_title, orjson.dumps(channel))])
        return channel

    def pending(self, ae_title: str, channel: str) -> list[Pending] | None:
        """The next events, oldest first; None when there are some, and the connection is not the AE's any more."""
        events = pending(self._work, "web", ae_title)
        current = self._work.record(_CHANNEL_KIND, ae_title) if events else None
        if events and (current is None or orjson.loads(current.content) != channel):
            return None
        return events

    def received(self, events: Sequence[Pending]) -> None:
        """The AE has them."""
        self._work.write_records([RecordWrite(EVENT_KINDS["web"], each.key, None) for each in events])

    def close(self, ae_title: str, channel: str) -> None:
        """The connection has ended."""
        current = self._work.record(_CHANNEL_KIND, ae_title)
        if current is not None and orjson.loads(current.content) == channel:
            self._work.write_records([RecordWrite(_CHANNEL_KIND, ae_title, None, expected=current.version)])


class Reporting(Protocol):
    """Reports one event to a peer over an open association."""

    def __call__(self, event: Event) -> None:
        """Raises PeerFailed: with the peer's status when it refuses the event, without when there is no answer."""


Connect = Callable[[str], AbstractContextManager[Reporting]]


class EventReports:
    """Brings events to AEs that subscribed over DIMSE, in their order (PS3.4 CC.2.4).

    connect: opens an association to an AE; raises NotFound for one that is not known, PeerFailed when there is none.
    """

    def __init__(self, work: Work, connect: Connect) -> None:
        self._work = work
        self._connect = connect

    @property
    def handler(self) -> Handler:
        return Handler(JOB_KIND, self.run, threads=4)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended | None]:
        """A job for each AE; done when nothing waits for it. Raises Unavailable when the AE cannot be reached."""
        for job in jobs:
            try:
                yield from self._bring(job.group)
            except NotFound as error:
                yield Ended(job, str(error))  # it may be known again tomorrow
            except PeerFailed as error:
                raise Unavailable(str(error)) from error
            else:
                yield Ended(job)

    def _bring(self, ae_title: str) -> Iterator[None]:
        """May be left between two events."""
        events = pending(self._work, "dimse", ae_title)
        if not events:
            return
        with self._connect(ae_title) as report:
            while events:
                for each in events:
                    self._report(report, each, ae_title)
                    yield
                events = pending(self._work, "dimse", ae_title)

    def _report(self, report: Reporting, each: Pending, ae_title: str) -> None:
        try:
            report(each.event)
        except PeerFailed as error:
            if error.status is None:
                raise
            # It has heard of it; the next event may be another matter.
            log.warning("event refused to=%s sop=%s reason=%s", ae_title, each.event.sop_uid, error)
        self._work.write_records([RecordWrite(EVENT_KINDS["dimse"], each.key, None)])


def pending(work: Work, way: str, ae_title: str) -> list[Pending]:
    """The next events that wait for an AE, oldest first."""
    found = []
    for record in work.records(EVENT_KINDS[way], labels=(ae_title, ae_title), limit=_BATCH):
        content: Mapping[str, object] = orjson.loads(record.content)
        found.append(Pending(record.key, Event(**content)))  # type: ignore[arg-type]  # as ``addressed`` wrote it
    return found
