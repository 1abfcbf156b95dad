"""pynetdicom as the client: an implementation that shares no line with ours or DCMTK's above the PDU items."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    Verification,
)

from pacs.dicom.uids import new_uid
from tests.builders import ct
from tests.server import free_port
from tests.unit.dimse.archive import dimse_archive


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    with dimse_archive(tmp_path_factory.mktemp("dimse")) as archive:
        yield archive


@pytest.fixture
def associate(pacs):
    opened = []

    def open_association(*classes, handlers=(), roles=()):
        ae = AE("PYNET")
        for uid in classes:
            ae.add_requested_context(uid)
        association = ae.associate(
            "127.0.0.1", pacs.port, ext_neg=list(roles), evt_handlers=list(handlers), ae_title="ARCHIVE"
        )
        assert association.is_established
        opened.append(association)
        return association

    yield open_association
    for association in opened:
        association.release()
        assert association.is_released


def question(level, **keys):
    data_set = Dataset()
    data_set.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(data_set, keyword, value)
    return data_set


def test_store_find_and_get(associate):
    study_uid, sop_uid = new_uid(), new_uid()
    sent = dcmread(BytesIO(ct(study_uid, sop_uid=sop_uid, PatientID="PYNET")))
    came = []

    def receive(event):
        came.append(event.dataset)
        return 0x0000

    association = associate(
        CTImageStorage,
        PatientRootQueryRetrieveInformationModelFind,
        PatientRootQueryRetrieveInformationModelGet,
        roles=[build_role(CTImageStorage, scp_role=True, scu_role=True)],
        handlers=[(evt.EVT_C_STORE, receive)],
    )
    assert association.send_c_store(sent).Status == 0

    asked = question("STUDY", PatientID="PYNET", StudyInstanceUID="", PatientName="")
    answers = list(association.send_c_find(asked, PatientRootQueryRetrieveInformationModelFind))
    assert [status.Status for status, _ in answers] == [0xFF00, 0x0000]
    assert answers[0][1].StudyInstanceUID == study_uid
    assert answers[0][1].PatientName == "Doe^Jane"

    asked = question("IMAGE", PatientID="PYNET", StudyInstanceUID=study_uid, SOPInstanceUID=sop_uid)
    answers = list(association.send_c_get(asked, PatientRootQueryRetrieveInformationModelGet))
    assert answers[-1][0].Status == 0
    assert answers[-1][0].NumberOfCompletedSuboperations == 1
    assert [data_set.SOPInstanceUID for data_set in came] == [sop_uid]
    assert came[0].PixelData == sent.PixelData


def test_move_to_a_pynetdicom_scp(pacs, associate):
    study_uid = new_uid()
    for number in range(3):
        pacs.put(ct(study_uid, PatientID="MOVED", InstanceNumber=number))
    came = []

    def receive(event):
        came.append((event.dataset.SOPInstanceUID, event.request.MoveOriginatorApplicationEntityTitle))
        return 0x0000

    port = free_port()
    scp = AE("PYSCP")
    scp.add_supported_context(CTImageStorage)
    server = scp.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, receive)])
    pacs.peers_path.write_text(f"PYSCP=127.0.0.1:{port}\n")
    try:
        association = associate(PatientRootQueryRetrieveInformationModelMove)
        asked = question("PATIENT", PatientID="MOVED")
        answers = list(association.send_c_move(asked, "PYSCP", PatientRootQueryRetrieveInformationModelMove))
    finally:
        server.shutdown()
    assert [status.Status for status, _ in answers] == [0xFF00, 0xFF00, 0xFF00, 0x0000]
    assert len({uid for uid, _ in came}) == 3
    assert {originator for _, originator in came} == {"PYNET"}


def test_several_requests_over_one_association(associate):
    association = associate(Verification)
    for _ in range(5):
        assert association.send_c_echo().Status == 0
