"""Jobs that send instances to peers by C-STORE."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol

from pacs.dicom.model import StoredInstance
from pacs.index.base import Index
from pacs.index.work import Job, NewJob
from pacs.observers.arrivals import payload, stored
from pacs.services.following import SEND, Arrival, deletion
from pacs.services.jobs import Ended, Handler, Unavailable

log = logging.getLogger(__name__)

_BATCH = 100
_THREADS = 4
_DUPLICATE = 0x0111  # the peer has it
# What a peer may say of one instance for good (PS3.4 B.2.3): it does not fit its SOP class, cannot be understood, its
# SOP class is not taken, or is not a valid one.
_REFUSALS = (0xA9, 0xC0, 0xC1, 0xC2, 0xC3)
_FINAL = frozenset({0x0117, 0x0118, 0x0119, 0x0122})


class Sent(Protocol):
    """What became of one instance: ``pacs.dimse.client.Outcome``."""

    @property
    def instance(self) -> StoredInstance: ...
    @property
    def status(self) -> int | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def is_final(self) -> bool: ...
    @property
    def is_peer_away(self) -> bool: ...
    @property
    def is_success(self) -> bool: ...
    @property
    def is_warning(self) -> bool: ...


Send = Callable[[str, Sequence[StoredInstance]], Generator[Sent, None, None]]
# Has a peer asked for storage commitment; the jobs follow once all is committed.
Commit = Callable[[str, Sequence[StoredInstance], Sequence[NewJob]], object]


class Sending:
    """send: sends instances to a peer by its AE title, over as few associations as can be. Raises Unavailable where
    there is no such peer. commit: for jobs of rules that want it.
    """

    def __init__(self, index: Index, send: Send, commit: Commit) -> None:
        self._index = index
        self._send = send
        self._commit = commit

    @property
    def handler(self) -> Handler:
        return Handler(SEND, self.run, batch=_BATCH, threads=_THREADS)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """All jobs are of one peer."""
        peer = jobs[0].group
        instances: list[StoredInstance] = []
        waiting: dict[str, list[Job]] = {}  # by blob: several rules may send the same there
        for job in jobs:
            instance = stored(self._index, job)
            if instance is None:
                log.info("not sent, it has been deleted or replaced: to=%s key=%s", peer, job.key)
                yield Ended(job)
            else:
                if instance.blob.key not in waiting:
                    instances.append(instance)
                waiting.setdefault(instance.blob.key, []).append(job)
        sending = self._send(peer, instances)
        arrived: list[tuple[Job, StoredInstance]] = []  # to be committed, and not done before that is asked for
        try:
            for outcome in sending:
                for job in waiting.pop(outcome.instance.blob.key):
                    ended = self._ended(job, peer, outcome)
                    if not ended.error and payload(job).get("commit"):
                        arrived.append((job, outcome.instance))
                    else:
                        yield ended
        except Unavailable:
            yield from self._committed(peer, arrived)
            raise
        finally:
            sending.close()
        yield from self._committed(peer, arrived)

    def _committed(self, peer: str, arrived: Sequence[tuple[Job, StoredInstance]]) -> Iterator[Ended]:
        if arrived:
            then = [
                deletion(Arrival(instance.target, instance.blob.key), rule_name)
                for job, instance in arrived
                if (rule_name := payload(job).get("delete"))
            ]
            self._commit(peer, [instance for _, instance in arrived], then)
        yield from (Ended(job) for job, _ in arrived)

    def _ended(self, job: Job, peer: str, outcome: Sent) -> Ended:
        reason, is_final = failure_of(outcome, peer)
        if not reason:
            log.info("forwarded sop=%s to=%s status=%04XH", outcome.instance.target.sop_uid, peer, outcome.status)
        return Ended(job, reason, is_final=is_final)


def failure_of(outcome: Sent, peer: str) -> tuple[str, bool]:
    """Why an instance did not arrive, "" when it did, and whether that is for good.

    Raises Unavailable where it was not this instance's fault.
    """
    status = outcome.status
    if outcome.is_success or outcome.is_warning or status == _DUPLICATE:
        return "", False
    if status is None:
        if outcome.is_peer_away:
            raise Unavailable(outcome.reason or f"{peer} cannot be reached")
        # This instance alone: what stands behind it in the queue must not wait for it.
        return outcome.reason or "it was not sent", outcome.is_final
    return outcome.reason or f"refused with {status:04X}H", status in _FINAL or status >> 8 in _REFUSALS
