"""Sending instances to peers, for C-MOVE and ``pacs send``: in turn, or over several associations side by side."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from pacs.dicom.model import StoredInstance
from pacs.dimse.association import Association
from pacs.dimse.client import READ_AHEAD, Originator, Outcome, StoreUser, associate, proposals
from pacs.dimse.negotiation import ProposedContext
from pacs.dimse.outgoing import Outgoing, OutgoingAssociations
from pacs.dimse.peer import Peer
from pacs.dimse.peers import Peers
from pacs.dimse.wire import Closed, ProtocolError, Timeouts
from pacs.services.retrieve import Retrieve

log = logging.getLogger(__name__)

_LOSSES_ALLOWED = 3


class Sender:
    """Sends instances to known peers. Safe to call from any thread.

    is_keeping: keep an association to each peer for what is sent next; ``close`` then releases them.
    """

    def __init__(
        self, ae_title: str, peers: Peers, retrieve: Retrieve, timeouts: Timeouts, *, is_keeping: bool = False
    ) -> None:
        self._ae_title = ae_title
        self._peers = peers
        self._retrieve = retrieve
        self._timeouts = timeouts
        self._associations = OutgoingAssociations(self._associate, is_keeping=is_keeping)

    def find(self, ae_title: str) -> Peer | None:
        return self._peers.find(ae_title)

    def send(
        self, peer: Peer, instances: Sequence[StoredInstance], priority: int, originator: Originator | None
    ) -> Generator[Outcome, None, None]:
        """Send instances; yields what became of each, in their order. Close the iterator when it is left early.

        Where the peer takes several associations they go side by side: then those under way when the iterator is closed
        end first, untold.
        """
        position = 0
        for contexts, count in proposals(instances, peer.sending.transfer_syntaxes):
            some = instances[position : position + count]
            task = _Task(self._associations, peer, contexts, self._retrieve, priority, originator, self._wait_s(peer))
            if min(peer.sending.connections, count) > 1:
                yield from _SideBySide(task, some).outcomes()
            else:
                yield from _in_turn(task, some)
            position += count

    def close(self) -> None:
        """Keep no association any longer. Idempotent."""
        self._associations.close()

    def _associate(self, peer: Peer, contexts: Sequence[ProposedContext]) -> Association:
        return associate(peer, self._ae_title, contexts, self._timeouts)

    def _wait_s(self, peer: Peer) -> float:
        return peer.timeouts(self._timeouts).message_s


@dataclass(frozen=True, slots=True)
class _Task:
    """What all associations of one request have in common. wait_s: for a peer's place for one more association."""

    associations: OutgoingAssociations
    peer: Peer
    contexts: Sequence[ProposedContext]
    retrieve: Retrieve
    priority: int
    originator: Originator | None
    wait_s: float


class _Lane:
    """One association, and another when it is lost, but not again and again. Used by one thread."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._outgoing: Outgoing | None = None
        self._user: StoreUser | None = None
        self._losses = 0
        self._reason = ""

    @property
    def has_given_up(self) -> bool:
        return self._losses >= _LOSSES_ALLOWED

    def open_further(self) -> bool:
        """Have an association besides others; False when the peer does not take one more."""
        task = self._task
        try:
            outgoing = task.associations.take_further(task.peer, task.contexts)
        except (Closed, ProtocolError) as error:
            log.info("no further association to=%s reason=%s", task.peer.ae_title, error)
            return False
        if outgoing is not None:
            self._use(outgoing)
        return outgoing is not None

    def send(self, instance: StoredInstance, following: Sequence[StoredInstance] = ()) -> Outcome:
        """What became of it, whatever that was. following: what this lane will send next."""
        if self.has_given_up:
            return Outcome(instance, None, self._reason, is_peer_away=True)
        task = self._task
        try:
            user = self._user or self._use(task.associations.take(task.peer, task.contexts, task.wait_s))
        except (Closed, ProtocolError) as error:
            # Where no association can be had, none will be had for the next instance.
            return self._failed(instance, error, _LOSSES_ALLOWED)
        try:
            outcome = user.attempt(instance, following)
        except (Closed, ProtocolError) as error:
            if self._drop():
                # The peer left it while it rested: not this instance's fault.
                return self.send(instance, following)
            return self._failed(instance, error, self._losses + 1)
        except BaseException:
            self._drop()
            raise
        assert self._outgoing is not None
        self._outgoing.is_warm = False
        self._losses = 0
        return outcome

    def end(self) -> None:
        if self._outgoing is not None:
            self._task.associations.give_back(self._outgoing)
            self._outgoing = self._user = None

    def _use(self, outgoing: Outgoing) -> StoreUser:
        task = self._task
        self._outgoing = outgoing
        self._user = StoreUser(outgoing.association, task.retrieve, task.priority, task.originator, task.peer.sending)
        return self._user

    def _drop(self) -> bool:
        """Let go of an association that is lost; whether it was one that had been kept, and not used since."""
        assert self._outgoing is not None
        was_warm = self._outgoing.is_warm
        self._task.associations.drop(self._outgoing)
        self._outgoing = self._user = None
        return was_warm

    def _failed(self, instance: StoredInstance, error: Exception, losses: int) -> Outcome:
        self._losses, self._reason = losses, str(error)
        log.warning("sending failed to=%s reason=%s", self._task.peer.ae_title, self._reason)
        return Outcome(instance, None, self._reason, is_peer_away=self.has_given_up)


def _in_turn(task: _Task, instances: Sequence[StoredInstance]) -> Generator[Outcome, None, None]:
    lane = _Lane(task)
    try:
        for position, instance in enumerate(instances):
            yield lane.send(instance, instances[position + 1 : position + 1 + READ_AHEAD])
    finally:
        lane.end()


class _SideBySide:
    """Several lanes, a thread each, that take the next instance whenever they are free."""

    def __init__(self, task: _Task, instances: Sequence[StoredInstance]) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._left = iter(enumerate(instances))
        self._count = len(instances)
        self._lanes = min(task.peer.sending.connections, len(instances))
        self._is_stopping = False
        self._sending: set[threading.Thread] = set()
        self._results: SimpleQueue[tuple[int, Outcome]] = SimpleQueue()

    def outcomes(self) -> Generator[Outcome, None, None]:
        name = f"sending-{self._task.peer.ae_title}"
        threads = [
            threading.Thread(target=self._work, args=(number,), name=f"{name}-{number}", daemon=True)
            for number in range(self._lanes)
        ]
        for thread in threads:
            thread.start()
        try:
            known: dict[int, Outcome] = {}
            for position in range(self._count):
                while position not in known:
                    other, outcome = self._results.get()
                    known[other] = outcome
                yield known.pop(position)
        finally:
            with self._lock:
                self._is_stopping = True
                sending = set(self._sending)
            # Not for those that a peer keeps waiting for their association: they find out by themselves.
            for thread in sending:
                thread.join()

    def _work(self, number: int) -> None:
        lane = _Lane(self._task)
        try:
            if number and not lane.open_further() and self._leave():
                return
            with self._lock:
                self._sending.add(threading.current_thread())
            while (taken := self._next()) is not None:
                position, instance = taken
                self._results.put((position, self._outcome(lane, instance)))
                if lane.has_given_up and self._leave():
                    return
        finally:
            lane.end()

    def _next(self) -> tuple[int, StoredInstance] | None:
        with self._lock:
            return None if self._is_stopping else next(self._left, None)

    def _leave(self) -> bool:
        """Whether other lanes go on. The last one stays: somebody has to say what became of every instance."""
        with self._lock:
            if self._lanes == 1:
                return False
            self._lanes -= 1
            return True

    def _outcome(self, lane: _Lane, instance: StoredInstance) -> Outcome:
        try:
            return lane.send(instance)
        except Exception:
            log.exception("sending failed sop=%s", instance.target.sop_uid)
            return Outcome(instance, None, "internal error")
