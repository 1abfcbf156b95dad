"""Jobs that send instances to peers by C-STORE."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol

from pacs.dicom.model import StoredInstance
from pacs.index.base import Index
from pacs.index.work import Job
from pacs.observers.arrivals import stored
from pacs.services.following import SEND
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
    def is_success(self) -> bool: ...
    @property
    def is_warning(self) -> bool: ...


Send = Callable[[str, Sequence[StoredInstance]], Generator[Sent, None, None]]


class Sending:
    """send: sends instances to a peer by its AE title, over as few associations as can be. Raises Unavailable where
    there is no such peer.
    """

    def __init__(self, index: Index, send: Send) -> None:
        self._index = index
        self._send = send

    @property
    def handler(self) -> Handler:
        return Handler(SEND, self.run, batch=_BATCH, threads=_THREADS)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """All jobs are of one peer."""
        peer = jobs[0].group
        instances: list[StoredInstance] = []
        waiting: dict[str, Job] = {}
        for job in jobs:
            instance = stored(self._index, job)
            if instance is None:
                log.info("not sent, it has been deleted or replaced: to=%s key=%s", peer, job.key)
                yield Ended(job)
            else:
                instances.append(instance)
                waiting[instance.blob.key] = job
        sending = self._send(peer, instances)
        try:
            for outcome in sending:
                yield self._ended(waiting.pop(outcome.instance.blob.key), peer, outcome)
        finally:
            sending.close()

    def _ended(self, job: Job, peer: str, outcome: Sent) -> Ended:
        sop_uid, status = outcome.instance.target.sop_uid, outcome.status
        if outcome.is_success or outcome.is_warning or status == _DUPLICATE:
            log.info("forwarded sop=%s to=%s status=%04XH", sop_uid, peer, status)
            return Ended(job)
        if status is None:
            if outcome.is_final:
                return Ended(job, outcome.reason, is_final=True)
            # The association: what follows would fail as well.
            raise Unavailable(outcome.reason or f"{peer} cannot be reached")
        return Ended(job, outcome.reason, is_final=status in _FINAL or status >> 8 in _REFUSALS)
