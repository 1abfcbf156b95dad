"""Performed procedure steps with pynetdicom as the modality: legal and illegal orders, the worklist, completeness."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from pydicom.dataset import Dataset
from pynetdicom import AE

from pacs.dicom.uids import new_uid
from tests.builders import ct
from tests.server import Server
from tests.wire.clients import stow
from tests.worklists import order, step_status, write_file

MPPS = "1.2.840.10008.3.1.2.3.3"
RETRIEVE = "1.2.840.10008.3.1.2.3.4"
JSON = {"Content-Type": "application/dicom+json"}


class Modality:
    """An association that performs steps. Statuses come back as (status, error ID)."""

    def __init__(self, association: Any) -> None:
        self._association = association

    def create(self, uid: str | None, attributes: Dataset) -> Dataset:
        status, _ = self._association.send_n_create(attributes, MPPS, uid)
        return status

    def set(self, uid: str, attributes: Dataset) -> Dataset:
        status, _ = self._association.send_n_set(attributes, MPPS, uid)
        return status

    def get(self, uid: str, *tags: int) -> tuple[Dataset, Dataset]:
        found: tuple[Dataset, Dataset] = self._association.send_n_get(list(tags), RETRIEVE, uid)
        return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("worklist")
    write_file(folder / "file.wl", study="1.2.50", step="FILE")
    with Server(tmp_path_factory.mktemp("archive"), {"WORKLIST_FOLDER": str(folder), "STUDY_QUIET_S": "0.2"}) as server:
        yield server


@pytest.fixture
def modality(archive: Server) -> Iterator[Modality]:
    with associated(archive) as found:
        yield found


@contextlib.contextmanager
def associated(archive: Server) -> Iterator[Modality]:
    ae = AE("MODALITY")
    ae.add_requested_context(MPPS)
    ae.add_requested_context(RETRIEVE)
    association = ae.associate("127.0.0.1", archive.dimse_port)
    assert association.is_established
    try:
        yield Modality(association)
        assert association.is_established  # whatever was refused
    finally:
        association.release()


def begun(study: str, step: str = "", **changes: Any) -> Dataset:
    """What a modality says when it begins. changes: by keyword; None takes the attribute away."""
    made = Dataset()
    reference = Dataset()
    reference.StudyInstanceUID = study
    reference.AccessionNumber = "A1"
    reference.ScheduledProcedureStepID = step
    made.ScheduledStepAttributesSequence = [reference]
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Doe^Jane", "P1", "", ""
    made.PerformedProcedureStepID, made.PerformedStationAETitle, made.Modality = "PPS1", "MODALITY", "CT"
    made.PerformedProcedureStepStartDate, made.PerformedProcedureStepStartTime = "20260102", "101500"
    made.PerformedProcedureStepStatus = "IN PROGRESS"
    made.PerformedProcedureStepEndDate, made.PerformedProcedureStepEndTime = "", ""
    made.PerformedSeriesSequence = []
    for keyword, value in changes.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def ended(status: str, *instances: str, series: str | None = None) -> Dataset:
    made = Dataset()
    made.PerformedProcedureStepStatus = status
    made.PerformedProcedureStepEndDate, made.PerformedProcedureStepEndTime = "20260102", "104500"
    one = Dataset()
    one.SeriesInstanceUID, one.ProtocolName = series or new_uid(), "Head"
    one.ReferencedImageSequence = []
    for uid in instances:
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
        one.ReferencedImageSequence.append(image)
    made.PerformedSeriesSequence = [one]
    return made


def ordered(archive: Server, study: str, step: str = "S1") -> str:
    """The address of a new worklist item."""
    item = order(**{"0020000D": {"vr": "UI", "Value": [study]}, "step": {"00400009": {"vr": "SH", "Value": [step]}}})
    response = requests.post(f"{archive.dicomweb_url}/mwlitems", json=item, headers=JSON, timeout=60)
    assert response.status_code == 201, response.text
    return response.headers["Location"]


def status_at(address: str) -> str:
    return step_status(requests.get(address, timeout=60).json())


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
def test_a_step_moves_its_worklist_item(archive: Server, modality: Modality, final: str) -> None:
    study, uid = new_uid(), new_uid()
    address = ordered(archive, study)
    other = ordered(archive, study, "S2")
    assert modality.create(uid, begun(study, "S1")).Status == 0
    assert status_at(address) == "STARTED"
    assert modality.set(uid, ended("IN PROGRESS")).Status == 0
    assert status_at(address) == "STARTED"
    assert modality.set(uid, ended(final)).Status == 0
    assert status_at(address) == final
    assert status_at(other) == "SCHEDULED"


def test_an_item_is_found_by_accession_number_where_the_step_is_not_named(archive: Server, modality: Modality) -> None:
    study = new_uid()
    address = ordered(archive, study)
    assert modality.create(new_uid(), begun(study)).Status == 0
    assert status_at(address) == "STARTED"


def test_the_item_of_a_file_is_moved(archive: Server, modality: Modality) -> None:
    uid = new_uid()
    address = f"{archive.dicomweb_url}/mwlitems/1.2.50/FILE"
    assert modality.create(uid, begun("1.2.50", "FILE")).Status == 0
    assert status_at(address) == "STARTED"
    assert modality.set(uid, ended("COMPLETED")).Status == 0
    assert status_at(address) == "COMPLETED"


def test_a_step_that_begins_again_reopens_its_item(archive: Server, modality: Modality) -> None:
    study, first, second = new_uid(), new_uid(), new_uid()
    address = ordered(archive, study)
    modality.create(first, begun(study, "S1"))
    modality.set(first, ended("DISCONTINUED"))
    assert modality.create(second, begun(study, "S1")).Status == 0
    assert status_at(address) == "STARTED"
    modality.set(second, ended("COMPLETED"))
    assert status_at(address) == "COMPLETED"


def test_a_step_that_nobody_ordered_is_taken(modality: Modality) -> None:
    uid = new_uid()
    assert modality.create(uid, begun(new_uid())).Status == 0
    assert modality.set(uid, ended("COMPLETED")).Status == 0


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
@pytest.mark.parametrize("then", ["IN PROGRESS", "COMPLETED", "DISCONTINUED"])
def test_after_the_end_nothing_is_changed(modality: Modality, final: str, then: str) -> None:
    uid = new_uid()
    modality.create(uid, begun(new_uid()))
    modality.set(uid, ended(final))
    refused = modality.set(uid, ended(then))
    assert (refused.Status, refused.ErrorID) == (0x0110, 0xA710)
    assert refused.ErrorComment == "Performed Procedure Step Object may no longer be updated"
    status, found = modality.get(uid)
    assert (status.Status, found.PerformedProcedureStepStatus) == (0, final)


def test_the_same_step_twice_is_a_duplicate(modality: Modality) -> None:
    uid = new_uid()
    assert modality.create(uid, begun(new_uid())).Status == 0
    assert modality.create(uid, begun(new_uid())).Status == 0x0111
    assert modality.set(uid, ended("COMPLETED")).Status == 0


def test_a_step_that_never_began_is_unknown(modality: Modality) -> None:
    assert modality.set(new_uid(), ended("COMPLETED")).Status == 0x0112
    assert modality.get(new_uid())[0].Status == 0x0112


def test_a_step_without_a_uid_is_given_one(archive: Server, modality: Modality) -> None:
    study = new_uid()
    assert modality.create(None, begun(study)).Status == 0
    query = {"ScheduledStepAttributesSequence.StudyInstanceUID": study}
    (found,) = requests.get(f"{archive.dicomweb_url}/mpps", params=query, timeout=60).json()
    assert modality.set(found["00080018"]["Value"][0], ended("COMPLETED")).Status == 0


@pytest.mark.parametrize(
    ("changes", "status", "named"),
    [
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106, "PerformedProcedureStepStatus"),
        ({"PerformedProcedureStepStatus": "SCHEDULED"}, 0x0106, "PerformedProcedureStepStatus"),
        ({"PerformedProcedureStepStatus": ""}, 0x0121, "PerformedProcedureStepStatus"),
        ({"PerformedProcedureStepID": None}, 0x0120, "PerformedProcedureStepID"),
        ({"PerformedStationAETitle": ""}, 0x0121, "PerformedStationAETitle"),
        ({"PerformedProcedureStepStartDate": None}, 0x0120, "PerformedProcedureStepStartDate"),
        ({"Modality": ""}, 0x0121, "Modality"),
        ({"ScheduledStepAttributesSequence": None}, 0x0120, "ScheduledStepAttributesSequence"),
        ({"ScheduledStepAttributesSequence": []}, 0x0121, "ScheduledStepAttributesSequence"),
        ({"ScheduledStepAttributesSequence": [Dataset()]}, 0x0120, "StudyInstanceUID"),
    ],
)
def test_what_cannot_begin_is_refused_naming_the_attribute(
    modality: Modality, changes: dict[str, Any], status: int, named: str
) -> None:
    uid = new_uid()
    refused = modality.create(uid, begun(new_uid(), **changes))
    assert refused.Status == status
    assert named in refused.ErrorComment
    assert modality.create(uid, begun(new_uid())).Status == 0


def test_a_step_cannot_be_completed_without_its_end_and_series(modality: Modality) -> None:
    uid = new_uid()
    modality.create(uid, begun(new_uid()))
    without_end, without_series, without_uid = (ended("COMPLETED") for _ in range(3))
    del without_end.PerformedProcedureStepEndTime
    without_series.PerformedSeriesSequence = []
    without_uid.PerformedSeriesSequence[0].SeriesInstanceUID = ""
    for wrong in (without_end, without_series, without_uid):
        assert modality.set(uid, wrong).Status in (0x0120, 0x0121)
    unknown = ended("COMPLETED")
    unknown.PerformedProcedureStepStatus = "PAUSED"
    assert modality.set(uid, unknown).Status == 0x0106
    discontinued = ended("DISCONTINUED")
    discontinued.PerformedSeriesSequence = []
    assert modality.set(uid, discontinued).Status == 0


def test_who_and_what_for_stays_as_it_began(modality: Modality) -> None:
    uid, study = new_uid(), new_uid()
    modality.create(uid, begun(study))
    same = ended("IN PROGRESS")
    same.PatientID, same.Modality = "P1", "CT"
    assert modality.set(uid, same).Status == 0
    other = ended("COMPLETED")
    other.PatientID = "P2"
    warned = modality.set(uid, other)
    assert warned.Status == 0x0107
    _, found = modality.get(uid)
    assert (found.PatientID, found.PerformedProcedureStepStatus) == ("P1", "COMPLETED")


def test_attributes_are_got_by_name(modality: Modality) -> None:
    uid = new_uid()
    modality.create(uid, begun(new_uid()))
    status, found = modality.get(uid, 0x00400253, 0x00080060)
    assert status.Status == 0
    assert [element.keyword for element in found] == ["Modality", "PerformedProcedureStepID"]
    status, found = modality.get(uid, 0x00400253, 0x00400280)
    assert status.Status == 0x0001
    assert [element.keyword for element in found] == ["PerformedProcedureStepID"]


def test_steps_are_read_over_rest(archive: Server, modality: Modality) -> None:
    study, uid = new_uid(), new_uid()
    modality.create(uid, begun(study, PerformedProcedureStepStartDate="20270303"))
    url = f"{archive.dicomweb_url}/mpps"
    (found,) = requests.get(url, params={"00400270.StudyInstanceUID": study}, timeout=60).json()
    assert found["00080018"]["Value"] == [uid]
    (found,) = requests.get(
        url, params={"PerformedProcedureStepStartDate": "20270301-20270304", "includefield": "PatientID"}, timeout=30
    ).json()
    assert set(found) == {"00080018", "00100020", "00400244"}
    assert requests.get(url, params={"PerformedProcedureStepStartDate": "20280101-"}, timeout=60).status_code == 204
    assert requests.get(f"{url}/{uid}", timeout=60).json()["00400252"]["Value"] == ["IN PROGRESS"]
    assert requests.get(f"{url}/{new_uid()}", timeout=60).status_code == 404


def test_completeness_follows_what_arrives_and_what_was_announced(archive: Server, modality: Modality) -> None:
    study, series, uid = new_uid(), new_uid(), new_uid()
    images = [new_uid() for _ in range(3)]

    def report() -> dict[str, Any]:
        response = requests.get(f"{archive.dicomweb_url}/studies/{study}/completeness", timeout=60)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    missing = requests.get(f"{archive.dicomweb_url}/studies/{study}/completeness", timeout=60)
    assert missing.status_code == 404
    modality.create(uid, begun(study))
    stow(archive, [ct(study, series, images[0])])
    seen = report()
    assert (seen["expected"], seen["received"], seen["missing"]) == (0, 1, [])
    assert seen["performedSteps"] == [{"SOPInstanceUID": uid, "state": "IN PROGRESS"}]
    assert seen["lastArrival"]
    modality.set(uid, ended("COMPLETED", *images, series=series))
    seen = report()
    assert (seen["expected"], seen["received"], seen["missing"]) == (3, 1, images[1:])
    assert seen["state"] in ("receiving", "incomplete")
    stow(archive, [ct(study, series, image) for image in images[1:]])
    seen = report()
    assert (seen["state"], seen["received"], seen["missing"]) == ("complete", 3, [])
    assert seen["expectedBy"] == [f"mpps {uid}"]
