"""What the two servers tell whoever watches them: metrics, traces and the audit trail; each after it has happened.

A watcher is called in the thread, or the event loop, that served: it must be quick, and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pacs.dicom.model import Caller


class Transfer(NamedTuple):
    """Instances of one study, on their way out."""

    study_uid: str
    sent: int
    failed: int


class Served(NamedTuple):
    """One request that was answered.

    service: such as C-STORE, QIDO-RS or WADO-RS frames. status: of the answer, as its protocol writes it (0000,
    A700; 200, 503). operation: the command; or method and route, without what identifies anybody. began: seconds since
    the epoch. received_bytes, sent_bytes: without what TCP adds. study_uid: when the request names one. parent: the
    trace that it is part of (a W3C ``traceparent``), "" for none. transfers: what sub-operations sent. peer: to whom,
    when it was not the caller.
    """

    service: str
    protocol: str
    status: str
    is_failure: bool
    operation: str
    caller: Caller
    began: float
    seconds: float
    received_bytes: int
    sent_bytes: int
    study_uid: str = ""
    parent: str = ""
    transfers: tuple[Transfer, ...] = ()
    peer: str = ""


class Associated(NamedTuple):
    """An association was accepted, or rejected (``reason``), or has ended (``is_end``).

    user: who its user identity was verified as, "" for nobody.
    """

    caller: Caller
    called: str
    reason: str = ""
    is_end: bool = False
    user: str = ""


Watch = Callable[[Served | Associated], None]


def unwatched(event: Served | Associated) -> None:
    """Nobody watches."""


def all_of(watchers: Sequence[Watch]) -> Watch:
    """One that tells each."""
    if len(watchers) == 1:
        return watchers[0]

    def tell(event: Served | Associated) -> None:
        for watcher in watchers:
            watcher(event)

    return tell
