"""Instance Availability Notification (PS3.4 R): pynetdicom is told of studies that have settled, and tells us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from pacs.dicom.uids import new_uid
from tests import builders
from tests.builders import CT_IMAGE_STORAGE
from tests.server import Server, free_port
from tests.wire.clients import stow
from tests.wire.committing import EXPLICIT, eventually

NOTIFICATION = "1.2.840.10008.5.1.4.33"
MPPS = "1.2.840.10008.3.1.2.3.3"


def test_a_study_that_has_settled_is_announced_and_what_comes_later_too(
    start_archive: Callable[..., Server],
) -> None:
    server = start_archive({"IAN_AES": "RIS", "STUDY_QUIET_S": "0.5"})
    port = free_port()
    server.add_peer("RIS", port)
    study_uid, step = new_uid(), new_uid()
    performed = {"ReferencedPerformedProcedureStepSequence": [reference(MPPS, step)]}
    series = {new_uid(): [new_uid(), new_uid()], new_uid(): [new_uid()]}
    files = [
        builders.ct(study_uid, series_uid, uid, rows=8, columns=8, **performed)
        for series_uid, uids in series.items()
        for uid in uids
    ]
    told: list[Dataset] = []

    def take(event: Any) -> tuple[int, Dataset]:
        assert event.request.AffectedSOPInstanceUID
        told.append(event.attribute_list)
        return 0x0110 if len(told) == 1 else 0, Dataset()

    ae = AE("RIS")
    ae.add_supported_context(NOTIFICATION, [EXPLICIT])
    ris = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_CREATE, take)])
    try:
        assert stow(server, files).status_code == 200
        eventually(lambda: len(told) == 2)  # refused once
        assert found_in(told[1]) == (study_uid, {uid: set(uids) for uid, uids in series.items()})
        (of_step,) = told[1].ReferencedPerformedProcedureStepSequence
        assert (of_step.ReferencedSOPClassUID, of_step.ReferencedSOPInstanceUID) == (MPPS, step)
        (first, *_) = told[1].ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert (first.ReferencedSOPClassUID, first.InstanceAvailability) == (CT_IMAGE_STORAGE, "ONLINE")
        assert first.RetrieveAETitle == "DCMQRSCP"
        late, other_series = new_uid(), new_uid()
        assert stow(server, [builders.ct(study_uid, other_series, late)]).status_code == 200
        eventually(lambda: len(told) == 3)
        assert found_in(told[2])[1][other_series] == {late}
        assert len(told[2].ReferencedPerformedProcedureStepSequence) == 0, "one series names no step"
    finally:
        ris.shutdown()


def test_a_notification_of_a_peer_is_taken_note_of(archive: Server) -> None:
    study_uid = new_uid()
    notice = Dataset()
    notice.ReferencedPerformedProcedureStepSequence = []
    notice.StudyInstanceUID = study_uid
    series = Dataset()
    series.SeriesInstanceUID = new_uid()
    series.ReferencedSOPSequence = [Dataset(), Dataset()]
    notice.ReferencedSeriesSequence = [series]
    ae = AE("OTHER")
    ae.add_requested_context(NOTIFICATION, [EXPLICIT])
    association = ae.associate("127.0.0.1", archive.dimse_port)
    assert association.send_n_create(notice, NOTIFICATION, new_uid())[0].Status == 0
    del notice.StudyInstanceUID
    assert association.send_n_create(notice, NOTIFICATION, new_uid())[0].Status == 0x0120
    association.release()
    assert f"available elsewhere study={study_uid} at=OTHER series=1 instances=2" in archive.log()


def reference(sop_class_uid: str, sop_uid: str) -> dict[str, str]:
    return {"ReferencedSOPClassUID": sop_class_uid, "ReferencedSOPInstanceUID": sop_uid}


def found_in(told: Dataset) -> tuple[str, dict[str, set[str]]]:
    return str(told.StudyInstanceUID), {
        each.SeriesInstanceUID: {item.ReferencedSOPInstanceUID for item in each.ReferencedSOPSequence}
        for each in told.ReferencedSeriesSequence
    }
