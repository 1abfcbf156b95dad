"""Jobs that send what somebody asked for, a bundle of instances each (``pacs.services.sends``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from itertools import groupby

from pacs.dicom.model import StoredInstance, Target
from pacs.index.base import Index
from pacs.index.work import Job
from pacs.observers.sending import Send, failure_of
from pacs.services.jobs import Ended, Handler
from pacs.services.sends import KIND, Bundle, Sends

log = logging.getLogger(__name__)

_THREADS = 4
_NOTED_EVERY_S = 1.0  # and at a crash, at most so much is sent twice
_DELETED = "it has been deleted"


class SendingAsked:
    """send: as ``Sending`` takes it."""

    def __init__(self, index: Index, sends: Sends, send: Send) -> None:
        self._index = index
        self._sends = sends
        self._send = send

    @property
    def handler(self) -> Handler:
        return Handler(KIND, self.run, threads=_THREADS)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended | None]:
        for job in jobs:
            bundle = self._sends.bundle(job)
            if bundle is None:
                yield Ended(job)
            else:
                yield from self._bundle(job, bundle)

    def _bundle(self, job: Job, bundle: Bundle) -> Iterator[Ended | None]:
        instances = self._instances(bundle)
        sending = self._send(bundle.peer, instances)
        noted, is_wanted, transient = time.monotonic(), True, ""
        try:
            for outcome in sending:
                target = outcome.instance.target
                reason, is_final = failure_of(outcome, bundle.peer)
                if not reason:
                    bundle.note_sent(target)
                    log.info("sent sop=%s to=%s send=%s", target.sop_uid, bundle.peer, bundle.send_id)
                elif is_final:
                    bundle.note_failed(target, reason)
                else:
                    transient = reason
                if time.monotonic() - noted > _NOTED_EVERY_S:
                    is_wanted, noted = self._sends.note(bundle, job), time.monotonic()
                    if not is_wanted:
                        break
                yield None
        finally:
            sending.close()
            is_wanted = self._sends.note(bundle, job) and is_wanted
        yield Ended(job, transient if bundle.left and is_wanted else "")

    def _instances(self, bundle: Bundle) -> list[StoredInstance]:
        """Those that are left, as they are stored now. What has been deleted meanwhile has failed."""
        found: list[StoredInstance] = []
        for of, some in groupby(list(bundle.left), key=lambda target: (target.study_uid, target.series_uid)):
            wanted = list(some)
            stored = {
                instance.target.sop_uid: instance
                for instance in self._index.locate(Target(*of) if len(wanted) > 1 else wanted[0])
            }
            for target in wanted:
                instance = stored.get(target.sop_uid)
                if instance is None:
                    bundle.note_failed(target, _DELETED)
                else:
                    found.append(instance)
        return found
