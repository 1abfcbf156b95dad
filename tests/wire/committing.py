"""pynetdicom as the other side of storage commitment: asks, is asked, and is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association

from pacs.dicom.uids import new_uid
from tests.builders import CT_IMAGE_STORAGE
from tests.server import Server

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"

Refs = Sequence[tuple[str, str]]  # SOP class, SOP instance


def eventually(is_so: Callable[[], Any], within_s: float = 60) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + within_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


class Told:
    """What a peer was told, by N-EVENT-REPORT; what it was asked, by N-ACTION; what it was sent, by C-STORE.

    answer: called with each request that comes and its association, before it is answered: the status.
    """

    def __init__(self, status: int = 0, answer: Callable[[Dataset, Association], int] | None = None) -> None:
        self.status = status
        self.reports: list[tuple[int, Dataset]] = []
        self.proposed: list[str] = []  # who opened associations
        self.asked: list[Dataset] = []
        self.answer = answer
        self.stored: list[str] = []

    @property
    def handlers(self) -> list[Any]:
        return [
            (evt.EVT_N_EVENT_REPORT, self._take),
            (evt.EVT_N_ACTION, self._be_asked),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ACCEPTED, lambda event: self.proposed.append(event.assoc.requestor.ae_title)),
        ]

    def of(self, uid: str) -> list[tuple[int, Dataset]]:
        return [(event_type, told) for event_type, told in self.reports if told.TransactionUID == uid]

    def _take(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        return self.status, None

    def _store(self, event: Any) -> int:
        self.stored.append(event.request.AffectedSOPInstanceUID)
        return 0

    def _be_asked(self, event: Any) -> tuple[int, None]:
        asked = event.action_information
        self.asked.append(asked)
        return (self.answer(asked, event.assoc) if self.answer else 0), None


@contextmanager
def listening(told: Told, port: int = 0, ae_title: str = "PYNET") -> Iterator[int]:
    """A peer that takes associations, as SCU and SCP of storage commitment; its port."""
    ae = AE(ae_title)
    ae.add_supported_context(PUSH_MODEL, [EXPLICIT], scu_role=True, scp_role=True)
    ae.add_supported_context(CT_IMAGE_STORAGE, [EXPLICIT])
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=told.handlers)
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


@contextmanager
def associated(server: Server, told: Told | None = None, ae_title: str = "PYNET") -> Iterator[Association]:
    """An association to the archive; released at the end."""
    ae = AE(ae_title)
    ae.add_requested_context(PUSH_MODEL, [EXPLICIT])
    association = ae.associate(
        *("127.0.0.1", server.dimse_port),
        ext_neg=[build_role(PUSH_MODEL, scu_role=True, scp_role=False)],
        evt_handlers=told.handlers if told else [],
    )
    assert association.is_established
    yield association
    if association.is_established:
        association.release()


def ask(association: Association, refs: Refs, uid: str | None = None, **changes: Any) -> tuple[int, str]:
    """N-ACTION; its status, and the Transaction UID. changes: action_type, instance, or elements by keyword."""
    uid = uid or new_uid()
    information = Dataset()
    information.TransactionUID = uid
    information.ReferencedSOPSequence = [reference(*ref) for ref in refs]
    action_type, instance = changes.pop("action_type", 1), changes.pop("instance", PUSH_MODEL_INSTANCE)
    for keyword, value in changes.items():
        if value is None:
            delattr(information, keyword)
        else:
            setattr(information, keyword, value)
    status, _ = association.send_n_action(information, action_type, PUSH_MODEL, instance)
    return status.Status, uid


def reference(sop_class_uid: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_uid
    return item


def report(port: int, uid: str, committed: Refs, failed: Sequence[tuple[str, str, int]] = (), **changes: Any) -> int:
    """Open an association to the archive and report on it, as the SCP that we are; the status."""
    ae = AE("PYNET")
    ae.add_requested_context(PUSH_MODEL, [EXPLICIT])
    role = build_role(PUSH_MODEL, scu_role=False, scp_role=True)
    association = ae.associate("127.0.0.1", port, ext_neg=[role])
    assert association.is_established
    assert association.accepted_contexts[0].as_scp
    status = send_report(association, uid, committed, failed, **changes)
    association.release()
    return status


def send_report(
    association: Association,
    uid: str,
    committed: Refs,
    failed: Sequence[tuple[str, str, int]] = (),
    event_type: int | None = None,
) -> int:
    information = Dataset()
    information.TransactionUID = uid
    if committed:
        information.ReferencedSOPSequence = [reference(*ref) for ref in committed]
    if failed:
        information.FailedSOPSequence = []
        for sop_class_uid, sop_uid, why in failed:
            item = reference(sop_class_uid, sop_uid)
            item.FailureReason = why
            information.FailedSOPSequence.append(item)
    event_type = event_type or (2 if failed else 1)
    status, _ = association.send_n_event_report(information, event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    return int(status.Status)


def later(action: Callable[[], object]) -> None:
    """In a thread: what a handler of pynetdicom must not wait for."""
    threading.Thread(target=action, daemon=True).start()


def cts(sop_uids: Sequence[str]) -> list[tuple[str, str]]:
    return [(CT_IMAGE_STORAGE, uid) for uid in sop_uids]


def committed_in(told: Dataset) -> list[str]:
    return [item.ReferencedSOPInstanceUID for item in told.get("ReferencedSOPSequence", [])]


def failed_in(told: Dataset) -> dict[str, int]:
    return {item.ReferencedSOPInstanceUID: item.FailureReason for item in told.get("FailedSOPSequence", [])}
