"""Associations that instances are sent over: opened, kept for what is sent next, no more of them than a peer takes."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pacs.dimse.association import Association
from pacs.dimse.client import end
from pacs.dimse.negotiation import ProposedContext
from pacs.dimse.peer import Peer
from pacs.dimse.wire import Closed, ProtocolError

log = logging.getLogger(__name__)

_RELEASE_S = 2.0  # what a peer gets to confirm a release that somebody waits for

Pairs = frozenset[tuple[str, str]]


@dataclass(eq=False, slots=True)
class Outgoing:
    """One association in use, or kept. is_warm: it has served before, and the peer may have left it since."""

    peer: Peer
    association: Association
    offered: Pairs
    is_warm: bool = False
    timer: threading.Timer | None = field(default=None, repr=False)


class OutgoingAssociations:
    """associate: opens one; raises Closed and ProtocolError. is_keeping: keep them as the peer's ``keep_s`` says.

    Of each peer one is kept at most. Safe to call from any thread.
    """

    def __init__(
        self, associate: Callable[[Peer, Sequence[ProposedContext]], Association], *, is_keeping: bool
    ) -> None:
        self._associate = associate
        self._is_keeping = is_keeping
        self._changed = threading.Condition()
        self._kept: dict[str, Outgoing] = {}  # by AE title
        self._open: Counter[str] = Counter()  # by AE title; those that are kept too

    def take(self, peer: Peer, contexts: Sequence[ProposedContext], within_s: float) -> Outgoing:
        """The one that was kept when it serves, else a new one, as soon as there may be one more.

        within_s: how long to wait for that. Raises Closed and ProtocolError.
        """
        offered = _pairs(contexts)
        deadline = time.monotonic() + within_s
        while True:
            with self._changed:
                kept = self._kept.pop(peer.ae_title, None)
                if kept is None and self._has_room(peer):
                    self._open[peer.ae_title] += 1
                    break
                if kept is None and not self._changed.wait(deadline - time.monotonic()):
                    raise Closed(f"{peer.ae_title} has as many associations as it may (max_associations)")
            if kept is not None:
                _stop_timer(kept)
                if kept.peer == peer and offered <= kept.offered and _is_quiet(kept.association):
                    return kept
                # A peer that serves one association at a time would let the next wait until this one ends.
                self._end(kept)
        return self._opened(peer, contexts, offered)

    def take_further(self, peer: Peer, contexts: Sequence[ProposedContext]) -> Outgoing | None:
        """A new one, where the peer takes one more; None where it does not. Raises Closed and ProtocolError."""
        with self._changed:
            if not self._has_room(peer):
                return None
            self._open[peer.ae_title] += 1
        return self._opened(peer, contexts, _pairs(contexts))

    def give_back(self, outgoing: Outgoing) -> None:
        """It is in order, and was used to its end: keep it, or release it."""
        if not self._keep(outgoing, outgoing.peer.sending.keep_s):
            self._end(outgoing)

    def drop(self, outgoing: Outgoing) -> None:
        """It is lost."""
        outgoing.association.close()
        self._leave(outgoing.peer)

    def close(self) -> None:
        """Release those that are kept, and keep no more. Idempotent."""
        with self._changed:
            self._is_keeping = False
            kept, self._kept = list(self._kept.values()), {}
        for outgoing in kept:
            _stop_timer(outgoing)
            self._end(outgoing)

    def _keep(self, outgoing: Outgoing, keep_s: float) -> bool:
        with self._changed:
            if not self._is_keeping or keep_s == 0 or outgoing.peer.ae_title in self._kept:
                return False
            timer = threading.Timer(keep_s, self._expire, (outgoing,))
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:  # no more threads
                return False
            outgoing.is_warm, outgoing.timer = True, timer
            self._kept[outgoing.peer.ae_title] = outgoing
            self._changed.notify_all()
            return True

    def _has_room(self, peer: Peer) -> bool:
        limit = peer.sending.max_associations
        return limit is None or self._open[peer.ae_title] < limit

    def _opened(self, peer: Peer, contexts: Sequence[ProposedContext], offered: Pairs) -> Outgoing:
        try:
            return Outgoing(peer, self._associate(peer, contexts), offered)
        except BaseException:
            self._leave(peer)
            raise

    def _expire(self, outgoing: Outgoing) -> None:
        with self._changed:
            if self._kept.get(outgoing.peer.ae_title) is not outgoing:
                return
            del self._kept[outgoing.peer.ae_title]
        self._end(outgoing)

    def _end(self, outgoing: Outgoing) -> None:
        outgoing.association.set_timeout(_RELEASE_S)
        end(outgoing.association)
        self._leave(outgoing.peer)

    def _leave(self, peer: Peer) -> None:
        with self._changed:
            self._open[peer.ae_title] -= 1
            if not self._open[peer.ae_title]:
                del self._open[peer.ae_title]
            self._changed.notify_all()


def _pairs(contexts: Sequence[ProposedContext]) -> Pairs:
    return frozenset((context.abstract_syntax, syntax) for context in contexts for syntax in context.transfer_syntaxes)


def _stop_timer(outgoing: Outgoing) -> None:
    if outgoing.timer is not None:
        outgoing.timer.cancel()
        outgoing.timer = None


def _is_quiet(association: Association) -> bool:
    """Whether the peer has neither left nor said anything since."""
    try:
        return not association.is_readable(0)
    except (Closed, ProtocolError):
        return False
