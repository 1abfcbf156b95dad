"""C-ECHO and C-STORE as DCMTK, pynetdicom and a peer in our hand do them, against the real archive."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pynetdicom import AE

from pacs.dicom.uids import new_uid
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from pacs.errors import OutOfResources
from tests.builders import ct, data_set_of
from tests.server import dcmtk, dcmtk_environment
from tests.unit.dimse.archive import dimse_archive
from tests.unit.dimse.peer import CT, EXPLICIT, IMPLICIT, VERIFICATION, connected, p_data

PRIVATE_CLASS = "1.2.276.0.99.1.1"
PRIVATE_SYNTAX = "1.2.276.0.99.2.1"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    with dimse_archive(tmp_path_factory.mktemp("dimse")) as archive:
        yield archive


def store_command(sop_uid, message_id=1, sop_class=CT):
    return Command(
        field=Field.C_STORE,
        sop_class_uid=sop_class,
        message_id=message_id,
        priority=0,
        data_set_type=HAS_DATA_SET,
        sop_uid=sop_uid,
    )


def send(peer, file, sop_uid, message_id=1, context_id=1, **kwargs):
    peer.association.send(context_id, store_command(sop_uid, message_id, **kwargs), data_set_of(file))
    return peer.association.response(message_id).command


def test_echoscu_is_answered_whatever_it_calls_us(pacs):
    assert dcmtk("echoscu", "-aec", "ANYTHING", "127.0.0.1", str(pacs.port)).returncode == 0


def test_echoscu_proposing_128_contexts_is_answered(pacs):
    answer = dcmtk("echoscu", "-d", "-ppc", "128", "127.0.0.1", str(pacs.port))
    assert answer.returncode == 0
    assert answer.stdout.count("(Accepted)") == 128


def test_pynetdicom_is_answered(pacs):
    ae = AE("PYNET")
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("127.0.0.1", pacs.port)
    assert association.is_established
    assert association.send_c_echo().Status == 0
    association.release()
    assert association.is_released


def test_what_storescu_sends_is_stored_byte_for_byte(pacs, tmp_path):
    sop_uid, study_uid = new_uid(), new_uid()
    file = ct(study_uid, sop_uid=sop_uid)
    (tmp_path / "a.dcm").write_bytes(file)
    sent = dcmtk("storescu", "-v", "-aet", "MODALITY", "127.0.0.1", str(pacs.port), tmp_path / "a.dcm")
    assert sent.returncode == 0, sent.stdout
    (instance,) = [each for each in pacs.instances() if each.target.sop_uid == sop_uid]
    assert pacs.data_set(instance) == data_set_of(file)
    assert instance.target.study_uid == study_uid


def test_the_same_instance_twice_is_a_success_and_other_bytes_are_a_duplicate(pacs):
    sop_uid = new_uid()
    study, series = new_uid(), new_uid()
    file = ct(study, series, sop_uid)
    with connected(pacs.port, (CT, [EXPLICIT])) as peer:
        assert send(peer, file, sop_uid, 1).status == 0
        assert send(peer, file, sop_uid, 2).status == 0
        answer = send(peer, ct(study, series, sop_uid, StudyDescription="another"), sop_uid, 3)
    assert answer.status == 0x0111
    assert answer.error_comment
    assert answer.sop_uid == sop_uid
    assert pacs.holds(study) == 1


def test_private_classes_and_transfer_syntaxes_are_stored(pacs):
    sop_uid, study_uid = new_uid(), new_uid()
    file = ct(study_uid, sop_uid=sop_uid, SOPClassUID=PRIVATE_CLASS)
    with connected(pacs.port, (PRIVATE_CLASS, [PRIVATE_SYNTAX])) as peer:
        assert send(peer, file, sop_uid, sop_class=PRIVATE_CLASS).status == 0
    (instance,) = [each for each in pacs.instances() if each.target.sop_uid == sop_uid]
    assert instance.transfer_syntax_uid == PRIVATE_SYNTAX
    assert pacs.data_set(instance) == data_set_of(file)


def test_an_instance_that_is_not_what_the_command_says_is_refused(pacs):
    study_uid = new_uid()
    with connected(pacs.port, (CT, [EXPLICIT]), ("1.2.840.10008.5.1.4.1.1.4", [EXPLICIT])) as peer:
        answer = send(peer, ct(study_uid), new_uid(), 1)
        assert answer.status == 0xA900
        sop_uid = new_uid()
        answer = send(peer, ct(study_uid, sop_uid=sop_uid), sop_uid, 2, 3, sop_class="1.2.840.10008.5.1.4.1.1.4")
        assert answer.status == 0xA900
    assert pacs.holds(study_uid) == 0


def test_garbage_for_a_data_set_is_refused_and_the_association_lives_on(pacs):
    with connected(pacs.port, (CT, [EXPLICIT]), (VERIFICATION, [IMPLICIT])) as peer:
        peer.association.send(1, store_command(new_uid(), 1), os.urandom(5000))
        answer = peer.association.response(1).command
        assert answer.status != 0
        assert answer.error_comment
        peer.association.send(3, Command(field=Field.C_ECHO, sop_class_uid=VERIFICATION, message_id=2))
        assert peer.association.response(2).command.status == 0
    assert pacs.eventually_nothing_incoming()


def test_missing_study_and_series_uids_are_made_up(pacs):
    sop_uid = new_uid()
    file = ct(sop_uid=sop_uid, StudyInstanceUID=..., SeriesInstanceUID=...)
    with connected(pacs.port, (CT, [EXPLICIT])) as peer:
        assert send(peer, file, sop_uid).status == 0
    (instance,) = [each for each in pacs.instances() if each.target.sop_uid == sop_uid]
    assert pacs.data_set(instance) == data_set_of(file)


def test_an_unknown_request_is_answered_as_such(pacs):
    with connected(pacs.port, (CT, [EXPLICIT]), (VERIFICATION, [IMPLICIT])) as peer:
        peer.association.send(3, Command(field=0x0110, requested_sop_class_uid=VERIFICATION, message_id=1))
        assert peer.association.response(1).command.status == 0x0211
        peer.association.send(3, store_command(new_uid(), 2), b"")
        assert peer.association.response(2).command.status == 0x0122


def test_a_full_disk_is_told_and_nothing_stays_behind(pacs, monkeypatch):
    written = []

    def full(spool, data):
        written.append(len(data))
        raise OutOfResources("the disk is full")

    with connected(pacs.port, (CT, [EXPLICIT])) as peer:
        monkeypatch.setattr("pacs.services.spool.Spool.write", full)
        answer = send(peer, ct(size_bytes=1_000_000, columns=512), new_uid(), 1)
        assert (answer.status, answer.error_comment) == (0xA700, "the disk is full")
        monkeypatch.undo()
        assert pacs.incoming() == []
        sop_uid = new_uid()
        assert send(peer, ct(sop_uid=sop_uid), sop_uid, 2).status == 0
    assert len(written) == 1
    assert pacs.eventually_nothing_incoming()


def test_an_unexpected_error_ends_the_request_and_not_the_association(pacs, monkeypatch, caplog):
    with connected(pacs.port, (CT, [EXPLICIT])) as peer:
        monkeypatch.setattr("pacs.services.store.Store.store", lambda *args, **kwargs: 1 // 0)
        answer = send(peer, ct(), new_uid(), 1)
        assert (answer.status, answer.error_comment) == (0x0110, "internal error")
        monkeypatch.undo()
        sop_uid = new_uid()
        assert send(peer, ct(sop_uid=sop_uid), sop_uid, 2).status == 0
    assert any(record.exc_info for record in caplog.records)
    assert pacs.eventually_nothing_incoming()


@pytest.mark.parametrize("how", ["close", "abort", "half"])
def test_half_an_instance_leaves_nothing_behind(pacs, how):
    study_uid, sop_uid = new_uid(), new_uid()
    data = data_set_of(ct(study_uid, sop_uid=sop_uid, size_bytes=500_000, columns=512))
    with connected(pacs.port, (CT, [EXPLICIT])) as peer:
        peer.wire.send(p_data(1, 3, store_command(sop_uid).encode()) + p_data(1, 0, data[:100_000]))
        if how == "abort":
            peer.association.abort()
        elif how == "half":
            peer.wire.send(p_data(1, 0, data[100_000:200_000])[:50_000])
        deadline = time.monotonic() + 60
        while how != "abort" and not pacs.incoming() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert pacs.eventually_nothing_incoming()
    assert pacs.holds(study_uid) == 0


def test_a_killed_storescu_leaves_nothing_behind(pacs, tmp_path):
    study_uid = new_uid()
    for number in range(50):
        (tmp_path / f"{number}.dcm").write_bytes(ct(study_uid, size_bytes=2_000_000, columns=512))
    sender = subprocess.Popen(
        ["/usr/bin/storescu", "127.0.0.1", str(pacs.port), "+sd", str(tmp_path)],
        env=dcmtk_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not pacs.holds(study_uid):
        time.sleep(0.005)
    sender.send_signal(signal.SIGKILL)
    sender.wait()
    assert pacs.eventually_nothing_incoming()
    assert 0 < pacs.holds(study_uid) <= 50
    assert dcmtk("echoscu", "127.0.0.1", str(pacs.port)).returncode == 0


def test_eight_associations_at_once_store_one_study(pacs):
    study_uid = new_uid()
    series = [new_uid() for _ in range(4)]

    def sender(number):
        with connected(pacs.port, (CT, [EXPLICIT]), calling=f"SCU{number}") as peer:
            statuses = []
            for message_id in range(1, 21):
                sop_uid = new_uid()
                file = ct(study_uid, series[message_id % 4], sop_uid)
                statuses.append(send(peer, file, sop_uid, message_id).status)
            peer.association.release()
            return statuses

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sender, range(8))) == [[0] * 20] * 8
    assert pacs.holds(study_uid) == 160


def test_a_pdu_size_of_any_peer_is_respected(pacs):
    sop_uid = new_uid()
    with connected(pacs.port, (CT, [EXPLICIT]), max_pdu=0) as peer:
        assert peer.accepted.max_pdu == 131072
        assert send(peer, ct(sop_uid=sop_uid, size_bytes=3_000_000, columns=512), sop_uid).status == 0


def test_threads_end_with_their_associations(pacs):
    for _ in range(3):
        with connected(pacs.port, (VERIFICATION, [IMPLICIT])) as peer:
            peer.association.release()
    deadline = time.monotonic() + 60
    names = []
    while time.monotonic() < deadline:
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("dimse-")]
        if names == ["dimse-listener"]:
            return
        time.sleep(0.05)
    raise AssertionError(names)
