"""Storage Commitment Push Model SCU (PS3.4 J.3): asks peers to commit what they were sent, and takes their answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from pacs.dicom.model import Caller
from pacs.dicom.references import REFERENCED_SOPS, failures, references, sequence
from pacs.dimse.association import Message
from pacs.dimse.command import Field
from pacs.dimse.commitment import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    LIMIT,
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_ACTION,
    TRANSACTION_UID,
    CommitmentProvider,
)
from pacs.dimse.normalized import NormalizedUser
from pacs.dimse.peers import Peers
from pacs.dimse.requests import Requests
from pacs.dimse.service import Service, read_attributes
from pacs.dimse.status import INVALID_ARGUMENT_VALUE, NO_SUCH_EVENT_TYPE, SUCCESS, Refused, Status, comment
from pacs.dimse.wire import Timeouts
from pacs.errors import Invalid, NotFound, PeerFailed
from pacs.index.work import Job
from pacs.services.commitment_requests import COMMITMENT_REQUEST, Asked, CommitmentRequests, State
from pacs.services.jobs import Ended, Handler, Unavailable

log = logging.getLogger(__name__)

_BATCH = 20
_REFUSED_PAUSE_S = 600.0


class CommitmentUser:
    """wake: there may be a job. listen_s: how long the association stays open for answers that come on it."""

    def __init__(
        self,
        asked: CommitmentRequests,
        peers: Peers,
        ae_title: str,
        timeouts: Timeouts,
        *,
        wake: Callable[[], None],
        listen_s: float = 2.0,
    ) -> None:
        self._asked = asked
        self._peers = peers
        self._ae_title = ae_title
        self._timeouts = timeouts
        self._wake = wake
        self._listen_s = listen_s

    def handler(self) -> Handler:
        return Handler(COMMITMENT_REQUEST, self.run, batch=_BATCH)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Ask one peer, and ask again what it has not answered."""
        to_ask: list[tuple[Job, Asked]] = []
        for job in jobs:
            asked = self._asked.find(job.key)
            if asked is not None and asked.state is State.WAITING:
                to_ask.append((job, asked))
            else:
                yield self._look_after(job, asked)
        if not to_ask:
            return
        peer = self._peers.find(jobs[0].group)
        if peer is None:
            raise Unavailable(f"{jobs[0].group} is no known peer: add it to the peers with its address")
        try:
            with Requests(peer, self._ae_title, peer.timeouts(self._timeouts)).normalized(
                [PUSH_MODEL], [commitment_service(None, self)]
            ) as user:
                yield from self._ask(user, to_ask)
        except PeerFailed as error:
            raise Unavailable(str(error)) from error

    def _look_after(self, job: Job, asked: Asked | None) -> Ended:
        """A job that has nothing to ask now, because of what has happened since it was added."""
        if asked is not None and asked.state is State.UNANSWERED:  # somebody wants it tried again
            self._asked.repeat(asked, at_most=False)
        elif asked is not None and asked.state is State.ASKED:
            if self._asked.is_overdue(asked):
                return self._repeated(job, asked, 0.0, f"{asked.peer} has not answered")
            self._asked.wait_on(asked)
        return Ended(job)

    def _repeated(self, job: Job, asked: Asked, pause_s: float, reason: str) -> Ended:
        log.warning("no commitment transaction=%s peer=%s reason=%s", asked.uid, asked.peer, reason)
        if self._asked.repeat(asked, after_s=pause_s):
            return Ended(job)  # the next round has a job of its own
        return Ended(job, f"{reason}; asked {asked.rounds} times", is_final=True)

    def _ask(self, user: NormalizedUser, to_ask: Sequence[tuple[Job, Asked]]) -> Iterator[Ended]:
        waiting = []
        for job, asked in to_ask:
            attributes = {
                TRANSACTION_UID: {"vr": "UI", "Value": [asked.uid]},
                REFERENCED_SOPS: sequence(asked.references),
            }
            try:
                user.action(PUSH_MODEL, PUSH_MODEL_INSTANCE, REQUEST_ACTION, attributes)
            except PeerFailed as error:
                if error.status is None:
                    raise
                yield self._repeated(job, asked, _REFUSED_PAUSE_S, str(error))
                continue
            log.info("asked for commitment transaction=%s peer=%s", asked.uid, asked.peer)
            self._asked.note_asked(asked)
            waiting.append(asked.uid)
            yield Ended(job)
        until = time.monotonic() + self._listen_s
        try:
            while any(self._is_open(uid) for uid in waiting) and (left_s := until - time.monotonic()) > 0:
                user.listen(left_s)
        except PeerFailed as error:  # the answers will come on another association
            log.debug("peer ended the association reason=%s", error)

    def _is_open(self, uid: str) -> bool:
        asked = self._asked.find(uid)
        return asked is not None and asked.is_open

    def take_report(self, message: Message, caller: Caller) -> None:
        """N-EVENT-REPORT: a peer's answer, on whatever association it comes (PS3.4 J.3.3)."""
        event_type = message.command.event_type
        attributes = read_attributes(message, LIMIT)
        if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
            raise Refused(Status(NO_SUCH_EVENT_TYPE, "the event type is neither 1 nor 2"))
        uid = str(next(iter(attributes.get(TRANSACTION_UID, {}).get("Value") or [""])) or "")
        try:
            committed = [each.sop_uid for each in references(attributes)]
            asked = self._asked.settle(uid, committed, failures(attributes))
        except (Invalid, NotFound) as error:
            raise Refused(Status(INVALID_ARGUMENT_VALUE, comment(str(error)))) from error
        if caller.name != asked.peer:
            log.warning("commitment of another AE transaction=%s asked=%s from=%s", uid, asked.peer, caller.name)
        message.respond(Status(SUCCESS))
        self._wake()


def commitment_service(provider: CommitmentProvider | None, user: CommitmentUser) -> Service:
    """Both sides of the SOP class, for servers; the user's alone for associations that we open."""
    serve = {Field.N_EVENT_REPORT: user.take_report}
    if provider is not None:
        serve[Field.N_ACTION] = provider.serve
    return Service("commitment", frozenset({PUSH_MODEL}), serve, may_use=True)
