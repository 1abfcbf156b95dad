"""C-MOVE to DCMTK's storescp and to peers in our hand, C-GET to getscu: what arrives is what was stored."""

from __future__ import annotations

import contextlib
import time
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.filereader import read_dataset

from pacs.dicom import file_meta
from pacs.dicom.uids import new_uid
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from pacs.dimse.status import Status
from pacs.errors import Rejected
from tests.builders import ct, data_set_of, real_files
from tests.server import dcmtk, free_port
from tests.unit.dimse.archive import CALLER, dimse_archive
from tests.unit.dimse.peer import CT, EXPLICIT, IMPLICIT, STUDY_GET, connected, identifier
from tests.wire.moving import Destination, add_peer, move, storescp, study

PATIENT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
COLOR_PALETTE = "1.2.840.10008.5.1.4.39.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    with dimse_archive(tmp_path_factory.mktemp("dimse")) as archive:
        yield archive


def test_every_real_file_comes_back_byte_for_byte_by_movescu(pacs, tmp_path):
    stored = {}
    for path, _ in real_files():
        with contextlib.suppress(Rejected), pacs.store.spool() as spool:
            spool.write(path.read_bytes())
            instance = pacs.store.store(spool, CALLER, derive_uids=True).instance
            stored[instance.target.sop_uid] = instance
    assert len(stored) > 50
    with storescp(pacs, tmp_path / "out", "+xa", "+B", "-pm") as destination:
        for study_uid in {instance.target.study_uid for instance in stored.values()}:
            dcmtk(
                "movescu", "-S", "-aem", destination, "-k", "QueryRetrieveLevel=STUDY",
                "-k", f"StudyInstanceUID={study_uid}", "127.0.0.1", str(pacs.port),
            )  # fmt: skip
    arrived = {}
    for path in (tmp_path / "out").iterdir():
        data = path.read_bytes()
        meta, offset = file_meta.read(data)
        arrived[meta.sop_uid] = (meta.transfer_syntax_uid, data[offset:])
    # DCMTK takes no private transfer syntax, and neither HTJ2K nor JPEG XL: it gets those decoded.
    unknown_there = {"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"}
    for uid, instance in stored.items():
        if instance.sop_class_uid == COLOR_PALETTE:  # nor that class, even when promiscuous
            continue
        assert uid in arrived, (uid, instance.transfer_syntax_uid)
        if instance.transfer_syntax_uid not in unknown_there:
            data = pacs.data_set(instance)
            # A deflated data set of odd length gets the padding that PS3.5 A.5 wants.
            assert arrived[uid] == (instance.transfer_syntax_uid, data + b"\0" * (len(data) % 2)), uid


def test_a_peer_that_takes_only_implicit_vr_gets_it_transcoded(pacs, tmp_path):
    study_uid = new_uid()
    file = ct(study_uid)
    pacs.put(file)
    with storescp(pacs, tmp_path / "out", "+xi") as destination:
        responses, _ = move(pacs, destination, study(study_uid))
    assert (responses[-1].status, responses[-1].completed) == (0, 1)
    (path,) = (tmp_path / "out").iterdir()
    arrived, sent = dcmread(path), dcmread(BytesIO(file))
    assert arrived.file_meta.TransferSyntaxUID == IMPLICIT
    assert arrived.PixelData == sent.PixelData
    assert arrived.PatientName == sent.PatientName


def test_stored_bytes_go_out_when_the_peer_takes_the_stored_syntax_and_only_then_others(pacs):
    study_uid, series_uid = new_uid(), new_uid()
    explicit = ct(study_uid, series_uid)
    implicit = ct(study_uid, series_uid, transfer_syntax=IMPLICIT)
    pacs.put(explicit)
    pacs.put(implicit)
    destination = Destination(pacs, "EXACT")
    responses, _ = move(pacs, "EXACT", study(study_uid))
    destination.close()
    assert responses[-1].status == 0
    assert destination.associations == 1
    found = sorted((syntax, data) for _, syntax, data in destination.received)
    assert found == sorted([(EXPLICIT, data_set_of(explicit)), (IMPLICIT, data_set_of(implicit))])


def test_the_sub_operations_name_their_originator(pacs):
    study_uid = new_uid()
    pacs.put(ct(study_uid))
    destination = Destination(pacs, "ORIGIN")
    move(pacs, "ORIGIN", study(study_uid), message_id=77)
    destination.close()
    ((command, _, _),) = destination.received
    assert (command.originator, command.originator_message_id) == ("MOVER", 77)
    assert destination.proposed[0].calling == "ARCHIVE"
    assert destination.proposed[0].called == "ORIGIN"


def test_every_sub_operation_is_reported_as_it_ends(pacs):
    study_uid = new_uid()
    for number in range(5):
        pacs.put(ct(study_uid, InstanceNumber=number))
    destination = Destination(pacs, "PROGRESS")
    responses, _ = move(pacs, "PROGRESS", study(study_uid))
    destination.close()
    assert [(r.status, r.remaining, r.completed) for r in responses[:-1]] == [(0xFF00, 4 - n, n + 1) for n in range(5)]
    final = responses[-1]
    assert (final.status, final.remaining, final.completed, final.failed, final.warnings) == (0, None, 5, 0, 0)


def test_what_the_peer_refuses_is_listed(pacs):
    study_uid, series_uid = new_uid(), new_uid()
    sops = [new_uid() for _ in range(4)]
    for number, sop_uid in enumerate(sops):
        pacs.put(ct(study_uid, series_uid, sop_uid, InstanceNumber=number))
    destination = Destination(pacs, "PICKY", statuses=[0, 0xA700, 0xB000, 0])
    responses, data_set = move(pacs, "PICKY", study(study_uid))
    destination.close()
    final = responses[-1]
    assert (final.status, final.completed, final.failed, final.warnings) == (0xB000, 2, 1, 1)
    assert data_set.FailedSOPInstanceUIDList == sops[1]


def test_when_nothing_could_be_sent_the_status_says_so(pacs):
    study_uid = new_uid()
    sop_uid = new_uid()
    pacs.put(ct(study_uid, sop_uid=sop_uid))
    destination = Destination(pacs, "REFUSER", statuses=[0xA700])
    responses, data_set = move(pacs, "REFUSER", study(study_uid))
    destination.close()
    assert (responses[-1].status, responses[-1].failed) == (0xA702, 1)
    assert data_set.FailedSOPInstanceUIDList == sop_uid


def test_a_destination_that_cannot_be_reached_fails_all_at_once(pacs):
    study_uid = new_uid()
    for _ in range(10):
        pacs.put(ct(study_uid))
    add_peer(pacs, "NOBODY", free_port())
    began = time.monotonic()
    responses, data_set = move(pacs, "NOBODY", study(study_uid))
    assert time.monotonic() - began < 2
    assert (responses[-1].status, responses[-1].failed) == (0xA702, 10)
    assert "NOBODY" in responses[-1].error_comment
    assert len(data_set.FailedSOPInstanceUIDList) == 10


def test_a_destination_that_goes_away_once_loses_one_instance(pacs):
    study_uid = new_uid()
    for number in range(5):
        pacs.put(ct(study_uid, InstanceNumber=number))
    destination = Destination(pacs, "SHAKY", close_after=2)
    responses, _ = move(pacs, "SHAKY", study(study_uid))
    destination.close()
    assert (responses[-1].status, responses[-1].completed, responses[-1].failed) == (0xB000, 4, 1)
    assert destination.associations == 2


def test_an_instance_that_no_accepted_syntax_can_carry_fails_alone(pacs):
    study_uid = new_uid()
    series_uid, sop_uid = new_uid(), new_uid()
    pacs.put(ct(study_uid, series_uid))
    pacs.put(ct(study_uid, series_uid, sop_uid, SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
    destination = Destination(pacs, "ONLYJPEG", takes=[JPEG_BASELINE])
    responses, _ = move(pacs, "ONLYJPEG", study(study_uid))
    destination.close()
    assert (responses[-1].status, responses[-1].failed) == (0xA702, 2)
    assert destination.received == []


def test_more_contexts_than_an_association_holds_take_several(pacs):
    study_uid, series_uid = new_uid(), new_uid()
    for number in range(70):  # 70 classes, two transfer syntaxes each
        pacs.put(ct(study_uid, series_uid, SOPClassUID=f"1.2.276.0.99.7.{number}", InstanceNumber=number, rows=1))
    destination = Destination(pacs, "WIDE")
    responses, _ = move(pacs, "WIDE", study(study_uid))
    destination.close()
    assert (responses[-1].status, responses[-1].completed) == (0, 70)
    assert destination.associations == 2
    assert all(len(proposal.contexts) <= 128 for proposal in destination.proposed)


def test_cancel_stops_between_sub_operations(pacs):
    study_uid = new_uid()
    for number in range(40):
        pacs.put(ct(study_uid, InstanceNumber=number, rows=4))
    destination = Destination(pacs, "SLOW", delay_s=0.05)
    responses, _ = move(pacs, "SLOW", study(study_uid), cancel_after=3)
    destination.close()
    final = responses[-1]
    assert final.status == 0xFE00
    assert 3 <= final.completed < 20
    assert final.remaining == 40 - final.completed
    assert len(destination.received) == final.completed


def test_movescu_cancels(pacs):
    study_uid = new_uid()
    for number in range(20):
        pacs.put(ct(study_uid, InstanceNumber=number, rows=4))
    destination = Destination(pacs, "SLOWER", delay_s=0.1)
    moved = dcmtk(
        "movescu", "-v", "-S", "--cancel", "2", "-aem", "SLOWER", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={study_uid}", "127.0.0.1", str(pacs.port),
    )  # fmt: skip
    destination.close()
    assert "Cancel" in moved.stdout, moved.stdout
    assert len(destination.received) < 20


def test_an_unknown_destination_is_told(pacs):
    responses, _ = move(pacs, "NOWHERE", study(new_uid()))
    assert responses[-1].status == 0xA801
    assert "NOWHERE" in responses[-1].error_comment


def test_a_peer_added_while_running_is_known_at_once(pacs, tmp_path):
    study_uid = new_uid()
    pacs.put(ct(study_uid))
    assert move(pacs, "LATECOMER", study(study_uid))[0][-1].status == 0xA801
    with storescp(pacs, tmp_path / "out", ae_title="LATECOMER"):
        assert move(pacs, "LATECOMER", study(study_uid))[0][-1].status == 0


def test_no_match_is_a_success_with_zero_counts(pacs):
    destination = Destination(pacs, "UNUSED")
    responses, _ = move(pacs, "UNUSED", study(new_uid()))
    destination.close()
    (final,) = responses
    assert (final.status, final.completed, final.failed, final.warnings) == (0, 0, 0, 0)
    assert destination.associations == 0


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyInstanceUID": "1.2.3"},
        {"QueryRetrieveLevel": "STUDY"},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "*"},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.*"},
        {"QueryRetrieveLevel": "STUDY", "PatientID": "P1"},
        {"QueryRetrieveLevel": "PATIENT", "PatientID": "P1"},
        {"QueryRetrieveLevel": "NONSENSE", "StudyInstanceUID": "1.2.3"},
    ],
)
def test_an_identifier_that_chooses_nothing_definite_is_refused(pacs, keys):
    destination = Destination(pacs, "UNUSED")
    responses, _ = move(pacs, "UNUSED", identifier(**keys))
    destination.close()
    assert responses[-1].status == 0xA900
    assert responses[-1].error_comment


@pytest.mark.parametrize("keys", [{"PatientID": "*"}, {"PatientID": "P?"}])
def test_no_pattern_sends_all_patients(pacs, keys):
    destination = Destination(pacs, "UNUSED")
    responses, _ = move(pacs, "UNUSED", identifier(QueryRetrieveLevel="PATIENT", **keys), PATIENT_MOVE)
    destination.close()
    assert responses[-1].status == 0xA900


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_all_levels_can_be_moved(pacs, level):
    patient, study_uid, series_uid, sop_uid = new_uid(), new_uid(), new_uid(), new_uid()
    pacs.put(ct(study_uid, series_uid, sop_uid, PatientID=patient))
    pacs.put(ct(study_uid, series_uid, PatientID=patient))
    pacs.put(ct(study_uid, PatientID=patient))
    pacs.put(ct(PatientID=patient))
    keys = [("PatientID", patient), ("StudyInstanceUID", study_uid), ("SeriesInstanceUID", series_uid)]
    depth = ["PATIENT", "STUDY", "SERIES", "IMAGE"].index(level) + 1
    asked = dict([*keys, ("SOPInstanceUID", sop_uid)][:depth])
    destination = Destination(pacs, "LEVELS")
    responses, _ = move(pacs, "LEVELS", identifier(QueryRetrieveLevel=level, **asked), PATIENT_MOVE)
    # Relational: the unique key of the level alone.
    last = dict([list(asked.items())[-1]])
    again, _ = move(pacs, "LEVELS", identifier(QueryRetrieveLevel=level, **last), PATIENT_MOVE)
    destination.close()
    expected = {"PATIENT": 4, "STUDY": 3, "SERIES": 2, "IMAGE": 1}[level]
    assert responses[-1].completed == again[-1].completed == expected


def test_a_list_of_uids_is_moved(pacs):
    studies = [new_uid() for _ in range(3)]
    for study_uid in studies:
        pacs.put(ct(study_uid))
    destination = Destination(pacs, "LISTS")
    responses, _ = move(pacs, "LISTS", identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=studies[:2]))
    destination.close()
    assert responses[-1].completed == 2


def test_getscu_gets_a_study_byte_for_byte(pacs, tmp_path):
    study_uid = new_uid()
    files = {}
    for number in range(3):
        sop_uid = new_uid()
        files[sop_uid] = ct(study_uid, sop_uid=sop_uid, InstanceNumber=number)
        pacs.put(files[sop_uid])
    got = dcmtk(
        "getscu", "-v", "-S", "-od", tmp_path, "+B", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={study_uid}", "127.0.0.1", str(pacs.port),
    )  # fmt: skip
    assert got.returncode == 0, got.stdout
    arrived = {}
    for path in tmp_path.iterdir():
        meta, offset = file_meta.read(path.read_bytes())
        arrived[meta.sop_uid] = path.read_bytes()[offset:]
    assert arrived == {uid: data_set_of(file) for uid, file in files.items()}


def get(peer, data, cancel_after=None):
    """C-GET on context 1, answering its sub-operations; returns what came, and the final response."""
    command = Command(field=Field.C_GET, sop_class_uid=STUDY_GET, message_id=9, priority=0, data_set_type=HAS_DATA_SET)
    peer.association.send(1, command, data)
    came = []
    while True:
        message = peer.association._next_message()
        if message.command.field == Field.C_STORE:
            came.append((message.context.transfer_syntax, b"".join(bytes(v) for v in message.fragments())))
            if cancel_after == len(came):
                peer.association.send(1, Command(field=Field.C_CANCEL, responded_id=9))
            message.respond(Status(0), sop_uid=message.command.sop_uid)
        elif message.command.status != 0xFF00:
            return came, message.command, message.data_set()


def test_get_sends_back_on_the_same_association(pacs):
    study_uid = new_uid()
    file = ct(study_uid)
    pacs.put(file)
    with connected(pacs.port, (STUDY_GET, [EXPLICIT]), (CT, [EXPLICIT]), as_scp=[CT]) as peer:
        came, final, _ = get(peer, study(study_uid))
        assert came == [(EXPLICIT, data_set_of(file))]
        assert (final.status, final.completed) == (0, 1)


def test_get_transcodes_when_only_another_syntax_is_accepted(pacs):
    study_uid = new_uid()
    pacs.put(ct(study_uid))
    with connected(pacs.port, (STUDY_GET, [EXPLICIT]), (CT, [IMPLICIT]), as_scp=[CT]) as peer:
        ((syntax, data),), final, _ = get(peer, study(study_uid))
    assert (syntax, final.status) == (IMPLICIT, 0)
    assert read_dataset(BytesIO(data), True, True).PatientID == "P1"


def test_get_fails_for_what_the_peer_cannot_receive(pacs):
    study_uid, sop_uid = new_uid(), new_uid()
    pacs.put(ct(study_uid, sop_uid=sop_uid))
    with connected(pacs.port, (STUDY_GET, [EXPLICIT]), (CT, [EXPLICIT])) as peer:  # no SCP role
        came, final, data = get(peer, study(study_uid))
    assert (came, final.status, final.failed) == ([], 0xA702, 1)
    assert read_dataset(BytesIO(data), False, True).FailedSOPInstanceUIDList == sop_uid


def test_get_is_cancelled_between_sub_operations(pacs):
    study_uid = new_uid()
    for number in range(10):
        pacs.put(ct(study_uid, InstanceNumber=number))
    with connected(pacs.port, (STUDY_GET, [EXPLICIT]), (CT, [EXPLICIT]), as_scp=[CT]) as peer:
        came, final, _ = get(peer, study(study_uid), cancel_after=2)
    assert final.status == 0xFE00
    assert (len(came), final.completed, final.remaining) == (2, 2, 8)


def test_a_file_that_is_gone_fails_alone(pacs):
    study_uid, series_uid = new_uid(), new_uid()
    first = pacs.put(ct(study_uid, series_uid, InstanceNumber=1))
    pacs.put(ct(study_uid, series_uid, InstanceNumber=2))
    pacs.blobs.delete(first.blob)
    with connected(pacs.port, (STUDY_GET, [EXPLICIT]), (CT, [EXPLICIT]), as_scp=[CT]) as peer:
        came, final, _ = get(peer, study(study_uid))
    assert (len(came), final.status, final.completed, final.failed) == (1, 0xB000, 1, 1)


def test_a_peer_that_leaves_in_the_middle_of_a_get_disturbs_nobody(pacs, caplog):
    study_uid = new_uid()
    for number in range(5):
        pacs.put(ct(study_uid, InstanceNumber=number, size_bytes=2_000_000, columns=512))
    with connected(pacs.port, (STUDY_GET, [EXPLICIT]), (CT, [EXPLICIT]), as_scp=[CT]) as peer:
        command = Command(field=Field.C_GET, sop_class_uid=STUDY_GET, message_id=1, data_set_type=HAS_DATA_SET)
        peer.association.send(1, command, study(study_uid))
        time.sleep(0.2)
    time.sleep(0.2)
    assert not any(record.exc_info for record in caplog.records)
    assert dcmtk("echoscu", "127.0.0.1", str(pacs.port)).returncode == 0
