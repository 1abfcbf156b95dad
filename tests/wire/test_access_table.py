"""Who may do what over DIMSE, and what they get: role by service by kind of peer, cell by cell, with pynetdicom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from pacs.archive import Archive
from pacs.auditing import Auditing
from pacs.dicom.non_patient import MODELS as NON_PATIENT
from pacs.dicom.uids import new_uid
from pacs.dimse.availability import NOTIFICATION
from pacs.dimse.command import Field
from pacs.dimse.composite import INSTANCE_ROOT_GET, INSTANCE_ROOT_MOVE, WITHOUT_BULK_DATA_GET
from pacs.dimse.models import MODELS, VERIFICATION
from pacs.dimse.mpps import RETRIEVE as MPPS_RETRIEVE
from pacs.dimse.sender import Sender
from pacs.dimse.ups import UPS_CLASSES
from pacs.dimse.wire import Timeouts
from pacs.dimse.worklist import MODALITY_WORKLIST
from pacs.metrics import Board
from pacs.offering import Offering
from pacs.peering import known_peers
from pacs.settings import Settings
from tests.builders import CT_IMAGE_STORAGE
from tests.server import Server, free_port
from tests.ups_builders import UPS_PULL, UPS_PUSH, UPS_QUERY, UPS_WATCH, step
from tests.wire.committing import PUSH_MODEL, PUSH_MODEL_INSTANCE
from tests.wire.scoped_archive import MPPS, Part, Scoped, filled
from tests.wire.test_access import PASSWORD, account_of
from tests.wire.test_mpps import begun

STUDY_FIND, STUDY_MOVE, STUDY_GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"
EXPLICIT = "1.2.840.10008.1.2.1"
NOT_AUTHORIZED = 0x0124
PEERS = """
[peers.FINDER]
services = ["find", "echo"]
[peers.PLANNER]
services = ["worklist", "mpps", "commitment"]
[peers.LOOKS]
role = "reader"
[peers.SENDS]
role = "writer"
[peers.CTONLY]
modalities = ["CT"]
[peers.LABELLED]
labels = ["mine"]
"""
Run = Callable[[Association, str], int]


@dataclass(frozen=True)
class Who:
    """calling: AE title; user: an account, by user identity negotiation."""

    calling: str
    user: str = ""

    def __str__(self) -> str:
        return f"{self.calling}-{self.user}" if self.user else self.calling


@pytest.fixture(scope="module")
def scoped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoped]:
    folder = tmp_path_factory.mktemp("access")
    (folder / "peers.toml").write_text(PEERS)
    (folder / "users").write_text("# accounts are enough\n")
    server = Server(folder, {"DIMSE_PEERS": str(folder / "peers.toml"), "DIMSE_USERS": str(folder / "users")})
    server.peers_path.write_text(f"NOBODY=127.0.0.1:{free_port()}\nDEST=127.0.0.1:{DESTINATION_PORT}\n")
    with server:
        found = filled(server)
        for role in ("reader", "writer"):
            account_of(server, role, role)
        server.stop()
        yield Scoped(server.start(), *(getattr(found, name) for name in _FIELDS))


_FIELDS = ("visible", "hidden", "mixed_study", "mixed_ct", "mixed_mr", "mixed_mr_instance", "deleted")
DESTINATION_PORT = free_port()


@contextmanager
def associated(
    scoped: Scoped, who: Who, *contexts: str, handlers: Any = (), as_scp: Sequence[str] = ()
) -> Iterator[Association]:
    ae = AE(who.calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    for uid in contexts:
        ae.add_requested_context(uid, EXPLICIT)
    items: list[Any] = [build_role(uid, scu_role=True, scp_role=True) for uid in as_scp]
    if who.user:
        item = UserIdentityNegotiation()
        item.user_identity_type, item.positive_response_requested = 2, False
        item.primary_field, item.secondary_field = who.user.encode(), PASSWORD.encode()
        items.append(item)
    server = scoped.server
    opened = ae.associate(
        "127.0.0.1", server.dimse_port, ae_title=server.ae_title, ext_neg=items, evt_handlers=list(handlers)
    )
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


# -- role × service × kind of peer -------------------------------------------------------------------------------------


def query(level: str = "STUDY", **keys: str) -> Dataset:
    made = Dataset()
    if level:
        made.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(made, name, value)
    return made


def last(answers: Any) -> int:
    return int([status.Status for status, _ in answers][-1])


def store(association: Association, sop_class: str) -> int:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, new_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = new_uid(), new_uid()
    made.PatientID, made.Modality = "STORED", "OT"
    made.file_meta = _meta(made)
    return int(association.send_c_store(made).Status)


def _meta(made: Dataset) -> Any:

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = EXPLICIT, made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return meta


def commit(association: Association, sop_class: str) -> int:
    asked, reference = Dataset(), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT_IMAGE_STORAGE, new_uid()
    asked.TransactionUID, asked.ReferencedSOPSequence = new_uid(), [reference]
    return int(association.send_n_action(asked, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)[0].Status)


def find(association: Association, sop_class: str) -> int:
    return last(association.send_c_find(query("STUDY", StudyInstanceUID=""), sop_class))


def find_flat(association: Association, sop_class: str) -> int:
    return last(association.send_c_find(query("", SOPInstanceUID=""), sop_class))


def move(association: Association, sop_class: str) -> int:
    uid = {"StudyInstanceUID": "1.2.3"} if sop_class in MODELS else {"SOPInstanceUID": "1.2.3"}
    level = "STUDY" if sop_class in MODELS else "IMAGE"
    return last(association.send_c_move(query(level, **uid), "NOWHERE", sop_class))


def get(association: Association, sop_class: str) -> int:
    uid = {"StudyInstanceUID": "1.2.3"} if sop_class in MODELS else {"SOPInstanceUID": "1.2.3"}
    level = "STUDY" if sop_class in MODELS else "IMAGE"
    return last(association.send_c_get(query(level, **uid), sop_class))


def read_step(association: Association, sop_class: str) -> int:
    return int(association.send_n_get([0x00741000], UPS_PUSH, "1.2.3", meta_uid=sop_class)[0].Status)


def create_step(association: Association, sop_class: str) -> int:
    return int(association.send_n_create(step(), UPS_PUSH, new_uid(), meta_uid=sop_class)[0].Status)


def perform(association: Association, sop_class: str) -> int:
    return int(association.send_n_create(begun(new_uid()), MPPS, new_uid())[0].Status)


def notify(association: Association, sop_class: str) -> int:
    return int(association.send_n_create(query("", StudyInstanceUID=new_uid()), NOTIFICATION, new_uid())[0].Status)


def performed(association: Association, sop_class: str) -> int:
    return int(association.send_n_get([0x00400252], MPPS_RETRIEVE, "1.2.3")[0].Status)


@dataclass(frozen=True)
class Row:
    """One service. sop_classes: each is tried, with ``run``. name: in ``services`` of peers.toml."""

    name: str
    sop_classes: Sequence[str]
    run: Run = field(compare=False)
    is_change: bool = False

    def __str__(self) -> str:
        return f"{self.name}{'-change' if self.is_change and self.name == 'ups' else ''}"


def of_models(operation: Field) -> list[str]:
    return [uid for uid, model in MODELS.items() if model.field == operation]


ROWS = [
    Row("echo", [VERIFICATION], lambda association, _: int(association.send_c_echo().Status)),
    Row("store", [CT_IMAGE_STORAGE, "1.2.826.0.1.3680043.10.1462.77"], store, is_change=True),
    Row("find", of_models(Field.C_FIND), find),
    Row("find", [model.find for model in NON_PATIENT], find_flat),
    Row("move", [*of_models(Field.C_MOVE), INSTANCE_ROOT_MOVE, *(model.move for model in NON_PATIENT)], move),
    Row(
        "get",
        [*of_models(Field.C_GET), INSTANCE_ROOT_GET, WITHOUT_BULK_DATA_GET, *(model.get for model in NON_PATIENT)],
        get,
    ),
    Row("worklist", [MODALITY_WORKLIST], lambda a, uid: last(a.send_c_find(query("", PatientID=""), uid))),
    Row("mpps", [MPPS], perform, is_change=True),
    Row("mpps-retrieve", [MPPS_RETRIEVE], performed),
    Row("ups", [UPS_PUSH, UPS_PULL, UPS_WATCH], read_step),
    Row("ups", [UPS_PULL, UPS_WATCH, UPS_QUERY], lambda a, uid: last(a.send_c_find(query("", PatientID=""), uid))),
    Row("ups", [UPS_PUSH], create_step, is_change=True),
    Row("commitment", [PUSH_MODEL], commit, is_change=True),
    Row("availability", [NOTIFICATION], notify, is_change=True),
]
# UPS Event takes no request; subscribers are told on it.
SILENT = {UPS_EVENT}
CHANGES = {"store", "mpps", "commitment", "availability"}  # what only those see offered who may change something
ALL = {row.name for row in ROWS}
READING = ALL - CHANGES
# The table.
MAY: dict[Who, set[str]] = {
    Who("STRANGER"): ALL,
    Who("FINDER"): {"find", "echo"},
    Who("PLANNER"): {"worklist", "mpps", "commitment"},
    Who("LOOKS"): READING,
    Who("SENDS"): ALL,
    Who("STRANGER", "reader"): READING,
    Who("STRANGER", "writer"): ALL,
    Who("STRANGER", "admin"): ALL,
    Who("LOOKS", "admin"): READING,
    Who("FINDER", "reader"): {"find", "echo"},
    Who("PLANNER", "reader"): {"worklist"},
    Who("PLANNER", "writer"): {"worklist", "mpps", "commitment"},
}
READERS = {Who("LOOKS"), Who("STRANGER", "reader"), Who("LOOKS", "admin"), Who("FINDER", "reader")}


@pytest.mark.parametrize("who", MAY, ids=str)
def test_every_service_lets_in_whom_it_should(scoped: Scoped, who: Who) -> None:
    """All services on one association; a cell is a service's SOP class, and what is done with it."""
    offered = dict.fromkeys(uid for row in ROWS for uid in row.sop_classes)
    wrong = []
    with associated(scoped, who, *offered) as association:
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        assert {context.result for context in association.rejected_contexts} <= {1}  # user-rejection
        for row in ROWS:
            for uid in row.sop_classes:
                seen = "refused"
                if uid in accepted:
                    seen = "0124H" if row.run(association, uid) == NOT_AUTHORIZED else "served"
                expected = "served" if row.name in MAY[who] else "refused"
                if expected == "served" and row.is_change and who in READERS:
                    expected = "0124H"
                if seen != expected:
                    wrong.append(f"{row} {uid}: {seen}, expected {expected}")
    assert wrong == []


def test_a_reader_is_refused_to_store_on_contexts_for_what_it_gets(scoped: Scoped) -> None:
    who = Who("STRANGER", "reader")
    with associated(scoped, who, CT_IMAGE_STORAGE, STUDY_GET, as_scp=[CT_IMAGE_STORAGE]) as association:
        for context in association.accepted_contexts:
            context._as_scu = True  # whatever was agreed on: it sends
        assert store(association, CT_IMAGE_STORAGE) == NOT_AUTHORIZED


@pytest.mark.parametrize("user", ["nobody", "reader"])
def test_an_account_that_is_not_proved_is_not_let_in(scoped: Scoped, user: str) -> None:
    ae = AE("STRANGER")
    ae.add_requested_context(VERIFICATION)
    item = UserIdentityNegotiation()
    item.user_identity_type, item.primary_field, item.secondary_field = 2, user.encode(), b"wrong"
    server = scoped.server
    opened = ae.associate("127.0.0.1", server.dimse_port, ae_title=server.ae_title, ext_neg=[item])
    assert opened.is_rejected


def test_every_sop_class_is_in_the_table(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, dicom_store_rootpath=tmp_path / "data")
    with Archive.open(settings) as archive:
        peers = known_peers(settings)
        sender = Sender("ARCHIVE", peers, archive.retrieve, Timeouts(), is_keeping=False)
        offering = Offering(settings, archive, peers, sender, lambda: [], Board(), Auditing(settings))
        served = {(uid, service.name) for service in offering.services for uid in service.sop_classes}
        offering.stop(1.0)
        offering.close()
        sender.close()
    in_table = {(uid, row.name) for row in ROWS for uid in row.sop_classes} | {(uid, "ups") for uid in SILENT}
    own = {VERIFICATION, CT_IMAGE_STORAGE, "1.2.826.0.1.3680043.10.1462.77", *MODELS}
    assert served == {(uid, name) for uid, name in in_table if uid not in own}
    assert set(UPS_CLASSES) <= {uid for uid, _ in served}


# -- scope -------------------------------------------------------------------------------------------------------------

SCOPED = [
    Who("CTONLY"),
    Who("LABELLED"),
    Who("STRANGER", "by-modality"),
    Who("STRANGER", "by-label"),
    Who("CTONLY", "by-label"),
    Who("SENDS", "by-modality"),
]


def sees_all_of_mixed(who: Who) -> bool:
    return who in (Who("LABELLED"), Who("STRANGER", "by-label"))


def found(association: Association, sop_class: str, tag: str, level: str, **keys: str) -> set[str]:
    """Values of an attribute of all answers."""
    asked = query(level, **{tag: "", **keys})
    return {str(getattr(row, tag)) for _, row in association.send_c_find(asked, sop_class) if row is not None}


@pytest.mark.parametrize("who", SCOPED, ids=str)
def test_c_find_finds_what_is_visible(scoped: Scoped, who: Who) -> None:
    models = (STUDY_FIND, PATIENT_FIND, MODALITY_WORKLIST, UPS_PULL)
    with associated(scoped, who, *models) as association:
        studies = found(association, STUDY_FIND, "StudyInstanceUID", "STUDY")
        assert studies == {scoped.visible.study, scoped.mixed_study}
        patients = found(association, PATIENT_FIND, "PatientID", "PATIENT")
        assert patients == {scoped.visible.patient, "MIXED"}
        series = found(association, STUDY_FIND, "SeriesInstanceUID", "SERIES", StudyInstanceUID=scoped.mixed_study)
        is_all = sees_all_of_mixed(who)
        assert series == {scoped.mixed_ct, *([scoped.mixed_mr] if is_all else [])}
        keys = {"StudyInstanceUID": scoped.mixed_study, "SeriesInstanceUID": scoped.mixed_mr}
        images = found(association, STUDY_FIND, "SOPInstanceUID", "IMAGE", **keys)
        assert len(images) == (2 if is_all else 0)
        asked = query("STUDY", StudyInstanceUID=scoped.mixed_study, ModalitiesInStudy="")
        asked.NumberOfStudyRelatedInstances = None
        (row,) = [row for _, row in association.send_c_find(asked, STUDY_FIND) if row is not None]
        assert row.NumberOfStudyRelatedInstances == (3 if is_all else 1)
        assert ("MR" in row.ModalitiesInStudy) is is_all
        hidden = found(association, STUDY_FIND, "StudyInstanceUID", "STUDY", StudyInstanceUID=scoped.hidden.study)
        assert hidden == set()
        assert found(association, MODALITY_WORKLIST, "PatientID", "") == {scoped.visible.patient}
        assert found(association, UPS_PULL, "PatientID", "") == {scoped.visible.patient}


@pytest.mark.parametrize("who", SCOPED, ids=str)
def test_steps_of_what_is_hidden_are_not_there(scoped: Scoped, who: Who) -> None:
    with associated(scoped, who, MPPS_RETRIEVE, UPS_PULL, UPS_WATCH) as association:
        for part, expected in ((scoped.visible, (0, 0)), (scoped.hidden, (0x0112, 0xC307))):
            performed, _ = association.send_n_get([0x00400252], MPPS_RETRIEVE, part.mpps)
            planned, _ = association.send_n_get([0x00741000], UPS_PUSH, part.workitem, meta_uid=UPS_PULL)
            assert (performed.Status, planned.Status) == expected
        asked = Dataset()
        asked.ReceivingAE, asked.DeletionLock = "NOBODY", "FALSE"
        status, _ = association.send_n_action(asked, 3, UPS_PUSH, "1.2.840.10008.5.1.4.34.5", meta_uid=UPS_WATCH)
        assert status.Status == NOT_AUTHORIZED


def wanted(scoped: Scoped, who: Who) -> list[tuple[Dataset, str, int]]:
    """Identifiers, whether the retrieval is by instance, and how many instances come."""
    mixed = 3 if sees_all_of_mixed(who) else 1
    return [
        (query("STUDY", StudyInstanceUID=scoped.visible.study), "study", 1),
        (query("STUDY", StudyInstanceUID=scoped.hidden.study), "study", 0),
        (query("STUDY", StudyInstanceUID=scoped.mixed_study), "study", mixed),
        (of_series(scoped), "study", mixed - 1),
        (of_image(scoped.hidden), "study", 0),
        (query("IMAGE", SOPInstanceUID=scoped.hidden.instance), "instance", 0),
        (query("IMAGE", SOPInstanceUID=scoped.visible.instance), "instance", 1),
        (query("IMAGE", SOPInstanceUID=scoped.mixed_mr_instance), "instance", int(mixed > 1)),
    ]


def of_series(scoped: Scoped) -> Dataset:
    return query("SERIES", StudyInstanceUID=scoped.mixed_study, SeriesInstanceUID=scoped.mixed_mr)


def of_image(part: Part) -> Dataset:
    uids = {"StudyInstanceUID": part.study, "SeriesInstanceUID": part.series, "SOPInstanceUID": part.instance}
    return query("IMAGE", **uids)


@pytest.mark.parametrize("who", SCOPED, ids=str)
def test_c_get_gets_what_is_visible(scoped: Scoped, who: Who) -> None:
    received: list[str] = []

    def take(event: Any) -> int:
        received.append(event.request.AffectedSOPInstanceUID)
        return 0

    contexts = (STUDY_GET, INSTANCE_ROOT_GET, WITHOUT_BULK_DATA_GET, CT_IMAGE_STORAGE)
    handlers = [(evt.EVT_C_STORE, take)]
    with associated(scoped, who, *contexts, handlers=handlers, as_scp=[CT_IMAGE_STORAGE]) as association:
        for asked, kind, count in wanted(scoped, who):
            for model in (STUDY_GET,) if kind == "study" else (INSTANCE_ROOT_GET, WITHOUT_BULK_DATA_GET):
                received.clear()
                assert last(association.send_c_get(asked, model)) == 0
                assert len(received) == count, (model, asked)
        frames = query("FRAME", SOPInstanceUID=scoped.hidden.instance)
        frames.SimpleFrameList = [1]
        assert last(association.send_c_get(frames, INSTANCE_ROOT_GET)) == 0xAA00


@pytest.fixture(scope="module")
def destination() -> Iterator[list[str]]:
    """SOP Instance UIDs that came to the peer DEST."""
    received: list[str] = []

    def take(event: Any) -> int:
        received.append(event.request.AffectedSOPInstanceUID)
        return 0

    ae = AE("DEST")
    ae.add_supported_context(CT_IMAGE_STORAGE, EXPLICIT)
    server = ae.start_server(("127.0.0.1", DESTINATION_PORT), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    yield received
    server.shutdown()


@pytest.mark.parametrize("who", SCOPED, ids=str)
def test_c_move_moves_what_is_visible(scoped: Scoped, destination: list[str], who: Who) -> None:
    with associated(scoped, who, STUDY_MOVE, INSTANCE_ROOT_MOVE) as association:
        for asked, kind, count in wanted(scoped, who):
            destination.clear()
            model = STUDY_MOVE if kind == "study" else INSTANCE_ROOT_MOVE
            assert last(association.send_c_move(asked, "DEST", model)) == 0
            assert len(destination) == count, asked


def test_a_modality_stores_and_commits_what_it_does_not_see(scoped: Scoped) -> None:
    with associated(scoped, Who("CTONLY"), CT_IMAGE_STORAGE, STUDY_FIND) as association:
        uid = new_uid()
        made = Dataset()
        made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID = CT_IMAGE_STORAGE, new_uid(), uid
        made.SeriesInstanceUID, made.PatientID, made.Modality = new_uid(), "SENT", "SR"
        made.file_meta = _meta(made)
        assert association.send_c_store(made).Status == 0
        assert found(association, STUDY_FIND, "StudyInstanceUID", "STUDY", StudyInstanceUID=uid) == set()
    with associated(scoped, Who("STRANGER"), STUDY_FIND) as association:
        assert found(association, STUDY_FIND, "StudyInstanceUID", "STUDY", StudyInstanceUID=uid) == {uid}
