"""The audit trail: gathers what is done with each study, and writes it down, message by message (PS3.15 A.5).

Whoever stores or views waits for none of this: an access is counted in memory, and written within the window. What a
crash within that time takes along is what was not written yet.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pacs import correlation
from pacs.dicom.model import Caller
from pacs.errors import PacsError
from pacs.observers.audit_message import Gathered, Source, message
from pacs.services.accesses import Access, Action
from pacs.watching import Associated, Served

log = logging.getLogger(__name__)

_IDS = 20  # of one message
_VIEWS = ("WADO-RS metadata", "WADO-RS rendered", "WADO-RS bulk data", "WADO-RS frames")
_FILES = ("WADO-RS", "WADO-URI")
_REFUSED = ("401", "403")

Write = Callable[[Sequence[bytes]], None]


class Audit:
    """window_s: how long accesses are gathered, from the first one on, whether it was started by then or not."""

    def __init__(self, source: Source, *, window_s: float = 2.0) -> None:
        self._source = source
        self._unwritten: list[tuple[Write, list[bytes]]] = []
        self._patient_of: Callable[[str], str] = lambda study_uid: ""
        self._window_s = window_s
        self._lock = threading.Lock()
        self._gathered: dict[tuple[object, ...], Gathered] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self, writers: Sequence[Write], patient_of: Callable[[str], str]) -> None:
        """writers: of a window's messages; may block, and raise PacsError or OSError: then they are asked again.

        patient_of: Patient ID of a study, "" when it is not known; may raise PacsError.
        """
        self._unwritten = [(write, []) for write in writers]
        self._patient_of = patient_of
        self.hear(Access(Action.STARTED, self._self()))
        self._thread.start()

    def stop(self) -> None:
        """Write what is left."""
        self.hear(Access(Action.STOPPED, self._self()))
        self._stop.set()
        self._thread.join()

    def hear(self, access: Access) -> None:
        """A ``services.accesses.Hear``. Quick; from any thread."""
        caller = access.caller
        key = (
            *(access.action, caller.name, caller.protocol, _host(caller.address), access.study_uid),
            *(access.is_failure, access.peer, access.part, access.detail),
        )
        cause = correlation.current()
        with self._lock:
            event = self._gathered.get(key)
            if event is None:
                event = self._gathered[key] = Gathered(
                    access.action,
                    caller,
                    datetime.now(UTC),
                    access.study_uid,
                    access.patient_id,
                    access.is_failure,
                    access.peer,
                    access.part,
                    access.detail,
                )
            event.count += 1
            event.patient_id = event.patient_id or access.patient_id
            if access.instances:
                event.classes[access.sop_class_uid] = event.classes.get(access.sop_class_uid, 0) + access.instances
            if cause and len(event.ids) < _IDS:
                event.ids.add(cause)

    def watch(self, event: Served | Associated) -> None:
        """A ``watching.Watch``: what the servers know better than the services do."""
        if isinstance(event, Associated):
            if event.reason:
                self.hear(Access(Action.ALERTED, event.caller, is_failure=True, detail=event.reason))
            elif event.user and not event.is_end:
                self.hear(Access(Action.LOGGED_IN, event.caller, detail=event.user))
            return
        for study_uid, sent, failed in event.transfers:
            for number, is_failure in ((sent, False), (failed, True)):
                if number:
                    self.hear(
                        Access(
                            Action.SENT,
                            event.caller,
                            study_uid,
                            instances=number,
                            is_failure=is_failure,
                            peer=event.peer,
                            detail="not sent" if is_failure else "",
                        )
                    )
        if event.protocol == "web":
            self._watch_web(event)

    def _watch_web(self, served: Served) -> None:
        if served.status in _REFUSED:
            self.hear(
                Access(
                    Action.ALERTED,
                    served.caller,
                    is_failure=True,
                    part=served.operation,
                    detail=f"refused with status {served.status}",
                )
            )
        elif served.study_uid and served.status != "304" and (served.service in _VIEWS or served.service in _FILES):
            action = Action.SENT if served.service in _FILES else Action.VIEWED
            detail = f"status {served.status}" if served.is_failure else ""
            self.hear(Access(action, served.caller, served.study_uid, is_failure=served.is_failure, detail=detail))

    def _run(self) -> None:
        while not self._stop.wait(self._window_s):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            events, self._gathered = list(self._gathered.values()), {}
        # The study may have been deleted by now; whoever deleted it knew.
        known = {event.study_uid: event.patient_id for event in events if event.patient_id}
        for event in events:
            event.patient_id = event.patient_id or known.get(event.study_uid, "")
        messages = [self._message(event) for event in events]
        for write, unwritten in self._unwritten:
            unwritten += messages
            if not unwritten:
                continue
            try:
                write(unwritten)
            except (PacsError, OSError) as error:
                log.error("audit messages are not written, and tried again: count=%d reason=%s", len(unwritten), error)
            else:
                unwritten.clear()

    def _message(self, event: Gathered) -> bytes:
        if event.study_uid and not event.patient_id:
            try:
                event.patient_id = self._patient_of(event.study_uid)
            except PacsError as error:
                log.warning("patient of an audit message is not known study=%s reason=%s", event.study_uid, error)
        return message(event, self._source)

    def _self(self) -> Caller:
        return Caller(self._source.ae_title, self._source.host, "audit")


def _host(address: str) -> str:
    """Each association of a modality comes from another port."""
    return address.rpartition(":")[0] if address.count(":") == 1 else address
