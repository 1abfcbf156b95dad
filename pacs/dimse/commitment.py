"""Storage Commitment Push Model SCP (PS3.4 J.3): requests are taken in at once, and answered when files were read.

The answer goes out on the requester's own association while that stays open, else on one of ours, as a job: whoever
runs it, and whenever the requester can be reached.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from pacs.dicom import uids
from pacs.dicom.model import Attributes, Caller
from pacs.dicom.references import FAILED_SOPS, REFERENCED_SOPS, Reference, failed_sequence, references, sequence
from pacs.dimse.association import Message
from pacs.dimse.normalized import NormalizedUser
from pacs.dimse.outbox import Outbox, event_report
from pacs.dimse.peers import Peers
from pacs.dimse.requests import Requests
from pacs.dimse.service import read_attributes
from pacs.dimse.status import (
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_ACTION_TYPE,
    NO_SUCH_SOP_INSTANCE,
    SUCCESS,
    Refused,
    Status,
    comment,
)
from pacs.dimse.wire import Timeouts
from pacs.errors import Cancelled, Conflict, Invalid, PacsError, PeerFailed
from pacs.index.work import Job
from pacs.services.commitment import COMMITMENT, Commitments, Result, Transaction
from pacs.services.jobs import Ended, Handler, Unavailable

log = logging.getLogger(__name__)

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST_ACTION = 1
ALL_COMMITTED, FAILURES_EXIST = 1, 2  # event types
TRANSACTION_UID = "00081195"
LIMIT = 16 << 20  # of a request's data set: 100,000 references
_RETRIEVE_AE_TITLE = "00080054"
_THREADS = 8
_BATCH = 20
_MARGIN_S = 5.0  # for an answer that went out on the requester's association at the last moment


class CommitmentProvider:
    """wait_s: how long the requester's association is used for the answer; 0: not at all. wake: there is a job."""

    def __init__(
        self,
        commitments: Commitments,
        peers: Peers,
        ae_title: str,
        timeouts: Timeouts,
        *,
        wait_s: float,
        wake: Callable[[], None],
    ) -> None:
        self._commitments = commitments
        self._peers = peers
        self._ae_title = ae_title
        self._timeouts = timeouts
        self._wait_s = wait_s
        self._wake = wake
        self._threads = ThreadPoolExecutor(_THREADS, "commitment")
        self._stopping = threading.Event()

    def handler(self) -> Handler:
        return Handler(COMMITMENT, self.run, batch=_BATCH)

    def stop(self) -> None:
        """Read no further files: what is under way is left to its job. Does not wait."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and wait for what is under way. Call it when the associations have ended. Idempotent."""
        self._stopping.set()
        self._threads.shutdown()

    def serve(self, message: Message, caller: Caller) -> None:
        """N-ACTION: take a request in (PS3.4 J.3.2)."""
        uid, asked = _request(message)
        margin_s = min(self._wait_s, _MARGIN_S)
        try:
            transaction = self._commitments.accept(uid, caller, asked, self._wait_s + margin_s)
        except Conflict as error:
            raise Refused(Status(INVALID_ARGUMENT_VALUE, comment(str(error)))) from error
        message.respond(Status(SUCCESS))
        if not self._wait_s:
            self._wake()
            return
        try:
            self._threads.submit(
                self._answer_here, transaction, message.association.outbox(), time.monotonic() + self._wait_s
            )
        except RuntimeError:  # closed: its job will do it
            log.debug("left to its job transaction=%s", uid)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Answer requests of one requester (PS3.4 J.3.3), on an association of our own."""
        open_jobs: list[tuple[Job, Transaction]] = []
        for job in jobs:
            transaction = self._commitments.find(job.key)
            if transaction is None or transaction.result is not None:
                yield Ended(job)  # told already, or forgotten
            elif transaction.by_web:
                self._commitments.settle(transaction, self._commitments.check(transaction, self._stopping.is_set))
                yield Ended(job)
            else:
                open_jobs.append((job, transaction))
        if open_jobs:
            yield from self._answer_elsewhere(open_jobs)

    def _answer_here(self, transaction: Transaction, outbox: Outbox, until: float) -> None:
        """On the association that the request came on, if there is time."""
        try:
            if not self._is_answered_here(transaction, outbox, until):
                self._commitments.hurry(transaction)
                self._wake()
        except Cancelled:
            log.info("left to its job transaction=%s", transaction.uid)
        except PacsError as error:
            log.warning("left to its job transaction=%s reason=%s", transaction.uid, error)
        except Exception:
            log.exception("left to its job transaction=%s", transaction.uid)

    def _is_answered_here(self, transaction: Transaction, outbox: Outbox, until: float) -> bool:
        if time.monotonic() >= until:
            return False
        result = self._commitments.check(transaction, self._stopping.is_set)
        if time.monotonic() >= until:
            return False
        event_type, attributes = self._report(transaction, result)
        answer = outbox.post(event_report(PUSH_MODEL, PUSH_MODEL_INSTANCE, event_type, attributes))
        try:
            try:
                answer.result(until - time.monotonic())
            except TimeoutError:
                if answer.cancel():
                    return False
                answer.result()
        except PeerFailed as error:
            log.info("not told on its association transaction=%s reason=%s", transaction.uid, error)
            return False
        self._commitments.settle(transaction, result)
        self._commitments.done(transaction)
        return True

    def _answer_elsewhere(self, open_jobs: Sequence[tuple[Job, Transaction]]) -> Iterator[Ended]:
        first = open_jobs[0][0]
        peer = self._peers.find(first.group)
        if peer is None:
            raise Unavailable(
                f"{first.group} asked for storage commitment and is no known peer: add it to the peers with its address"
            )
        requests = Requests(peer, self._ae_title, peer.timeouts(self._timeouts))
        try:
            if any(job.attempts > 1 for job, _ in open_jobs):
                # Not all files are read anew for one who is still away.
                with self._associated(requests):
                    pass
            results = [(job, each, self._commitments.check(each, self._stopping.is_set)) for job, each in open_jobs]
            with self._associated(requests) as user:
                for job, transaction, result in results:
                    event_type, attributes = self._report(transaction, result)
                    try:
                        user.report(PUSH_MODEL, PUSH_MODEL_INSTANCE, event_type, attributes)
                    except PeerFailed as error:
                        if error.status is None:
                            raise
                        yield Ended(job, str(error))
                        continue
                    self._commitments.settle(transaction, result)
                    yield Ended(job)
        except PeerFailed as error:
            raise Unavailable(str(error)) from error

    def _associated(self, requests: Requests) -> AbstractContextManager[NormalizedUser]:
        # We are the SCP of an association that we open (PS3.7 D.3.3.4).
        return requests.normalized([PUSH_MODEL], roles={PUSH_MODEL: (False, True)})

    def _report(self, transaction: Transaction, result: Result) -> tuple[int, Attributes]:
        """Event type and attributes (PS3.4 Table J.3-2)."""
        committed = list(transaction.committed(result))
        attributes = {
            _RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [self._ae_title]},
            TRANSACTION_UID: {"vr": "UI", "Value": [transaction.uid]},
        }
        if result.failed:
            attributes[FAILED_SOPS] = failed_sequence(transaction.failed(result))
        if committed:
            attributes[REFERENCED_SOPS] = sequence(committed)
        return FAILURES_EXIST if result.failed else ALL_COMMITTED, dict(sorted(attributes.items()))


def _request(message: Message) -> tuple[str, list[Reference]]:
    """Transaction UID and references of an N-ACTION (PS3.4 Table J.3-1). Raises Refused."""
    command = message.command
    attributes = read_attributes(message, LIMIT)
    if command.instance_uid != PUSH_MODEL_INSTANCE:
        raise Refused(Status(NO_SUCH_SOP_INSTANCE, "not the Storage Commitment Push Model's SOP instance"))
    if command.action_type != REQUEST_ACTION:
        raise Refused(Status(NO_SUCH_ACTION_TYPE, "the action type is not 1, which requests storage commitment"))
    uid = str(next(iter(attributes.get(TRANSACTION_UID, {}).get("Value") or [""])) or "")
    try:
        asked = references(attributes)
    except Invalid as error:
        raise Refused(Status(INVALID_ARGUMENT_VALUE, comment(str(error)))) from error
    if not uids.is_possible(uid):
        raise Refused(Status(INVALID_ARGUMENT_VALUE, "Transaction UID is missing, or is no UID"))
    if not asked:
        raise Refused(Status(INVALID_ARGUMENT_VALUE, "Referenced SOP Sequence is missing or empty"))
    return uid, asked
