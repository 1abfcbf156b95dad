"""Objects that belong to no patient: stored without a study, found and fetched by their own models (PS3.4 GG)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association

from pacs.dicom.non_patient import CLASSES, MODELS, NonPatientModel
from pacs.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from pacs.dicom.uids import new_uid
from tests import builders
from tests.server import Server
from tests.wire.clients import data_set_of, qido, retrieve_files, stow, value

HANGING, PALETTE = MODELS[0], MODELS[1]
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def made(sop_class: str, uid: str, **attributes: Any) -> bytes:
    return builders.part10({"SOPClassUID": sop_class, "SOPInstanceUID": uid, **attributes})


@pytest.fixture(scope="module")
def stored(archive: Server) -> dict[str, str]:
    """One of each storage class, sent by C-STORE: SOP class → SOP instance."""
    uids = {sop_class: new_uid() for sop_class in sorted(CLASSES)}
    with associated(archive, *uids) as association:
        for sop_class, uid in uids.items():
            file = made(
                sop_class, uid, HangingProtocolName=f"name of {uid}", ContentLabel="LABEL", Manufacturer="Maker"
            )
            assert association.send_c_store(dcmread(BytesIO(file))).Status == 0
    return uids


class associated:
    """An association for these classes."""

    def __init__(self, server: Server, *classes: str, scp: tuple[str, ...] = (), take: Any = None) -> None:
        ae = AE("PYNET")
        for sop_class in (*classes, *scp):
            ae.add_requested_context(sop_class, EXPLICIT_VR_LITTLE_ENDIAN)
        handlers = [(evt.EVT_C_STORE, take)] if take else []
        roles = [build_role(uid, scp_role=True) for uid in scp]
        self._association = ae.associate("127.0.0.1", server.dimse_port, ext_neg=roles, evt_handlers=handlers)

    def __enter__(self) -> Association:
        assert self._association.is_established
        return self._association

    def __exit__(self, *_: object) -> None:
        self._association.release()


def find(association: Association, model: str, **keys: Any) -> tuple[int, list[Dataset]]:
    """The final status, and the answers."""
    answers = list(association.send_c_find(keyed(**keys), model))
    return answers[-1][0].Status, [found for _, found in answers[:-1]]


def keyed(**keys: Any) -> Dataset:
    data_set = Dataset()
    for keyword, wanted in keys.items():
        setattr(data_set, keyword, wanted)
    return data_set


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_each_model_finds_and_gives_its_own_objects(
    archive: Server, stored: dict[str, str], model: NonPatientModel
) -> None:
    mine = {stored[sop_class] for sop_class in model.classes}
    received: dict[str, bytes] = {}

    def take(event: Any) -> int:
        received[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return 0

    with associated(archive, model.find, model.get, scp=tuple(model.classes), take=take) as association:
        status, answers = find(association, model.find, SOPClassUID="", SOPInstanceUID="")
        assert (status, {each.SOPInstanceUID for each in answers}) == (0, mine)
        assert all(set(each.dir()) == {"SOPClassUID", "SOPInstanceUID"} for each in answers)
        statuses = [
            status.Status for status, _ in association.send_c_get(keyed(SOPInstanceUID=[*stored.values()]), model.get)
        ]
    assert statuses[-1] == 0
    assert received.keys() == mine


def test_keys_are_those_of_the_objects(archive: Server, stored: dict[str, str]) -> None:
    definition = {"Modality": "CT", "Laterality": "R"}
    uid, name = new_uid(), "Thorax^Größe"
    file = made(
        *(next(iter(HANGING.classes)), uid),
        HangingProtocolName=name,
        HangingProtocolLevel="SITE",
        HangingProtocolDefinitionSequence=[definition],
    )
    assert stow(archive, [file]).status_code == 200
    with associated(archive, HANGING.find) as association:
        asked = {"SOPInstanceUID": "", "HangingProtocolName": "Thorax*", "HangingProtocolLevel": ""}
        status, (found,) = find(association, HANGING.find, **asked)
        assert (status, found.SOPInstanceUID, found.HangingProtocolName) == (0, uid, name)
        assert found.HangingProtocolLevel == "SITE"
        in_sequence = {"HangingProtocolDefinitionSequence": [keyed(Modality="CT", Laterality="")]}
        _, (found,) = find(association, HANGING.find, SOPInstanceUID="", **in_sequence)
        assert found.HangingProtocolDefinitionSequence[0].Laterality == "R"
        for nothing in (
            {"HangingProtocolName": "Abdomen"},
            {"HangingProtocolDefinitionSequence": [keyed(Modality="MR")]},
            {"SOPInstanceUID": stored[next(iter(PALETTE.classes))]},
            {"SOPClassUID": next(iter(PALETTE.classes))},
        ):
            assert find(association, HANGING.find, **nothing) == (0, []), nothing


def test_a_retrieve_needs_a_uid_and_a_known_destination(archive: Server, stored: dict[str, str]) -> None:
    uid = stored[next(iter(PALETTE.classes))]
    with associated(archive, PALETTE.move) as association:
        for keys, destination, status in (
            ({"SOPInstanceUID": uid}, "NOBODY", 0xA801),
            ({"SOPInstanceUID": ""}, "NOBODY", 0xA900),
        ):
            ((answer, _),) = association.send_c_move(keyed(**keys), destination, PALETTE.move)
            assert answer.Status == status


@pytest.fixture(scope="module")
def by_web(archive: Server) -> tuple[str, bytes]:
    uid = new_uid()
    file = made(next(iter(PALETTE.classes)), uid, ContentLabel="HOT")
    assert stow(archive, [file]).status_code == 200
    return uid, file


def test_they_come_and_go_by_dicomweb_too(archive: Server, by_web: tuple[str, bytes]) -> None:
    uid, file = by_web
    (row,) = qido(archive, "/instances", {"SOPClassUID": next(iter(PALETTE.classes)), "SOPInstanceUID": uid})
    path = f"/studies/{value(row, '0020000D')}/series/{value(row, '0020000E')}/instances/{uid}"
    (back,) = retrieve_files(archive, path)
    assert data_set_of(back) == data_set_of(file)
    assert stow(archive, [file]).status_code == 200, "again"


def test_an_image_without_a_study_is_still_refused_by_dicomweb(archive: Server) -> None:
    assert stow(archive, [builders.ct(StudyInstanceUID=...)]).status_code == 409
