"""How peers of peers.toml are sent to: transfer syntaxes by preference, warm and parallel associations, limits."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.model import Target
from pacs.dimse.sender import Sender
from pacs.dimse.wire import Timeouts
from tests.builders import ct, data_set_of, real_files
from tests.server import free_port
from tests.unit.dimse.archive import CALLER, dimse_archive
from tests.wire.moving import Destination, move, storescp, study


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    with dimse_archive(tmp_path_factory.mktemp("sending")) as archive:
        yield archive


def destination(pacs, ae_title, settings, **options):
    """A peer of peers.toml."""
    made = Destination(pacs, ae_title, **options)
    pacs.write_peers(f'[peers.{ae_title}]\nhost = "127.0.0.1"\nport = {made.port}\n{settings}\n')
    return made


def stored_study(pacs, number, instances, **attributes):
    """A study's UID and its data sets by SOP Instance UID."""
    uid = f"1.2.826.0.1.3680043.10.1462.{number}"
    files = {f"{uid}.2.{k}": ct(uid, f"{uid}.1", f"{uid}.2.{k}", **attributes) for k in range(1, instances + 1)}
    for file in files.values():
        pacs.put(file)
    return uid, {sop: data_set_of(file) for sop, file in files.items()}


def moved(pacs, ae_title, uid):
    found, _ = move(pacs, ae_title, study(uid))
    return found[-1]


def test_instances_go_out_in_the_transfer_syntax_that_the_peer_is_said_to_prefer(pacs):
    uid = "1.2.826.0.1.3680043.10.1462.701"
    file = ct(uid, rows=64, columns=64)
    pacs.put(file)
    ls, stored = syntaxes.JPEG_LS_LOSSLESS, syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
    for order, expected in (
        (["JPEG-LS Lossless"], ls),
        (["stored", ls], stored),
        ([syntaxes.IMPLICIT_VR_LITTLE_ENDIAN], syntaxes.IMPLICIT_VR_LITTLE_ENDIAN),
    ):
        peer = destination(pacs, "PREFERS", f"transfer_syntaxes = {order}\nkeep_s = 0")
        assert moved(pacs, "PREFERS", uid).status == 0
        ((_, syntax, data),) = peer.received
        assert syntax == expected
        assert (data == data_set_of(file)) is (syntax == stored)
        peer.close()


def test_what_cannot_be_made_in_a_preferred_syntax_goes_out_as_it_is_stored(pacs):
    path = next(path for path, _ in real_files() if path.name == "reportsi.dcm")
    instance = pacs.put(path.read_bytes())
    peer = destination(pacs, "REPORTS", 'transfer_syntaxes = ["JPEG 2000 Lossless"]')
    assert moved(pacs, "REPORTS", instance.target.study_uid).status == 0
    ((_, syntax, _),) = peer.received
    assert syntax == instance.transfer_syntax_uid
    peer.close()


def test_a_peer_that_refuses_what_it_is_said_to_prefer_gets_the_stored_syntax(pacs):
    uid = "1.2.826.0.1.3680043.10.1462.702"
    pacs.put(ct(uid))
    takes = {syntaxes.EXPLICIT_VR_LITTLE_ENDIAN}
    peer = destination(pacs, "REFUSES", 'transfer_syntaxes = ["RLE Lossless"]', takes=takes)
    assert moved(pacs, "REFUSES", uid).status == 0
    assert [syntax for _, syntax, _ in peer.received] == list(takes)
    peer.close()


def test_a_limit_of_bytes_a_second_keeps_every_byte(pacs):
    uid = "1.2.826.0.1.3680043.10.1462.703"
    file = ct(uid, size_bytes=300_000, columns=256)
    pacs.put(file)
    peer = destination(pacs, "SLOW", 'bytes_per_s = "1MiB"')
    assert moved(pacs, "SLOW", uid).status == 0
    assert [data for _, _, data in peer.received] == [data_set_of(file)]
    peer.close()


def test_the_next_request_goes_over_the_association_of_the_one_before(pacs):
    uid, files = stored_study(pacs, 711, 3)
    peer = destination(pacs, "WARM", "keep_s = 600")
    for _ in range(3):
        assert moved(pacs, "WARM", uid).completed == 3
    assert (peer.associations, len(peer.received)) == (1, 9)
    assert {command.sop_uid: data for command, _, data in peer.received} == files
    peer.close()


def test_a_kept_association_is_released_when_its_time_is_over(pacs):
    uid, _ = stored_study(pacs, 718, 1)
    peer = destination(pacs, "EXPIRES", "keep_s = 0.2")
    for expected in (1, 2):
        assert moved(pacs, "EXPIRES", uid).completed == 1
        assert peer.ended.acquire(timeout=20)
        assert peer.associations == expected
    peer.close()


def test_each_request_names_its_own_originator_over_a_kept_association(pacs):
    uid, _ = stored_study(pacs, 712, 1)
    peer = destination(pacs, "NAMES", "keep_s = 600")
    for message_id in (7, 8):
        move(pacs, "NAMES", study(uid), message_id=message_id)
    assert [command.originator_message_id for command, *_ in peer.received] == [7, 8]
    assert peer.associations == 1
    peer.close()


def test_nothing_is_kept_where_that_is_said(pacs):
    uid, _ = stored_study(pacs, 713, 1)
    peer = destination(pacs, "COLD", "keep_s = 0")
    for expected in (1, 2):
        assert moved(pacs, "COLD", uid).completed == 1
        assert peer.associations == expected
    peer.close()


def test_a_kept_association_that_does_not_serve_makes_room_for_another(pacs):
    ct_uid, _ = stored_study(pacs, 714, 1)
    report = pacs.put(next(path for path, _ in real_files() if path.name == "reportsi.dcm").read_bytes())
    # It serves one association at a time: the second would wait for ever.
    peer = destination(pacs, "SINGLE", "keep_s = 600")
    assert moved(pacs, "SINGLE", ct_uid).completed == 1
    assert moved(pacs, "SINGLE", report.target.study_uid).completed == 1
    assert moved(pacs, "SINGLE", ct_uid).completed == 1
    assert peer.associations == 3
    peer.close()


def test_other_settings_of_the_peer_hold_at_once(pacs):
    uid, _ = stored_study(pacs, 715, 1)
    first = destination(pacs, "MOVED", "keep_s = 600")
    assert moved(pacs, "MOVED", uid).completed == 1
    second = destination(pacs, "MOVED", "keep_s = 600")
    assert moved(pacs, "MOVED", uid).completed == 1
    assert (first.associations, second.associations) == (1, 1)
    assert first.ended.acquire(timeout=20)
    first.close()
    second.close()


def test_a_peer_that_left_a_kept_association_loses_nothing(pacs):
    uid, _ = stored_study(pacs, 716, 2)
    peer = destination(pacs, "LEFT", "keep_s = 600")
    assert moved(pacs, "LEFT", uid).completed == 2
    peer.connections[-1].shutdown(socket.SHUT_RDWR)
    assert moved(pacs, "LEFT", uid).completed == 2
    assert peer.associations == 2
    peer.close()


def test_a_kept_association_that_breaks_at_its_first_use_loses_nothing(pacs):
    uid, _ = stored_study(pacs, 717, 2)
    peer = destination(pacs, "BREAKS", "keep_s = 600", close_after=3)
    assert moved(pacs, "BREAKS", uid).completed == 2
    again = moved(pacs, "BREAKS", uid)
    assert (again.completed, again.failed) == (2, 0)
    assert peer.associations == 2
    peer.close()


def test_instances_go_over_several_associations_side_by_side_each_once(pacs):
    uid, files = stored_study(pacs, 721, 12)
    # None of the three answers before all three have an instance.
    peer = destination(pacs, "THREE", "connections = 3", at_once=True, together=3)
    last = moved(pacs, "THREE", uid)
    assert (last.status, last.completed, last.failed) == (0, 12, 0)
    assert peer.most_open == 3
    assert len(peer.received) == 12
    assert {command.sop_uid: data for command, _, data in peer.received} == files
    peer.close()


def test_what_became_of_each_is_told_in_order_whichever_was_done_first(pacs):
    uid, _ = stored_study(pacs, 727, 6)
    instances = pacs.retrieve.instances(Target(uid), CALLER)
    slow, refused = instances[0].target.sop_uid, instances[1].target.sop_uid
    peer = destination(pacs, "ORDER", "connections = 3", at_once=True, answers={slow: (0, 0.3), refused: (0xA900, 0.0)})
    sender = Sender("ARCHIVE", pacs.peers, pacs.retrieve, Timeouts(5, 5))
    outcomes = list(sender.send(sender.find("ORDER"), instances, 0, None))
    assert [outcome.instance for outcome in outcomes] == instances
    assert [outcome.status for outcome in outcomes] == [0, 0xA900, 0, 0, 0, 0]
    peer.close()


def test_more_associations_than_the_peer_may_have_are_not_opened(pacs):
    uid, _ = stored_study(pacs, 722, 6)
    peer = destination(pacs, "TWO", "connections = 4\nmax_associations = 2", at_once=True, together=2)
    assert moved(pacs, "TWO", uid).completed == 6
    assert peer.most_open == 2
    peer.close()


def test_requests_wait_for_a_place_at_a_peer_that_takes_one(pacs):
    uid, _ = stored_study(pacs, 723, 3)
    peer = destination(pacs, "ONE", "max_associations = 1\nkeep_s = 0", at_once=True, delay_s=0.05)
    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(lambda _: moved(pacs, "ONE", uid).completed, range(3)))
    assert counts == [3, 3, 3]
    assert (peer.most_open, peer.associations) == (1, 3)
    peer.close()


def test_a_peer_that_serves_one_after_the_other_still_gets_all(pacs, tmp_path):
    uid, files = stored_study(pacs, 724, 8)
    with storescp(pacs, tmp_path / "out", "+B") as ae_title:
        port = pacs.peers_path.read_text().strip().rpartition(":")[2]
        pacs.write_peers(f'[peers.{ae_title}]\nhost = "127.0.0.1"\nport = {port}\nconnections = 3\nkeep_s = 0\n')
        assert moved(pacs, ae_title, uid).completed == 8
    arrived = [path.read_bytes() for path in (tmp_path / "out").iterdir()]
    assert len(arrived) == 8
    assert all(sum(data.endswith(file) for data in arrived) == 1 for file in files.values())


def test_when_every_association_is_lost_each_instance_is_told_as_failed(pacs):
    uid, _ = stored_study(pacs, 725, 6)
    port = free_port()
    pacs.write_peers(f'[peers.GONE]\nhost = "127.0.0.1"\nport = {port}\nconnections = 3\n')
    last = moved(pacs, "GONE", uid)
    assert (last.status, last.completed, last.failed) == (0xA702, 0, 6)


def test_a_cancel_ends_what_is_sent_side_by_side(pacs):
    uid, _ = stored_study(pacs, 726, 20)
    peer = destination(pacs, "CANCELLED", "connections = 2", at_once=True, delay_s=0.1)
    found, _ = move(pacs, "CANCELLED", study(uid), cancel_after=3)
    assert found[-1].status == 0xFE00
    assert found[-1].completed + found[-1].remaining == 20
    assert len(peer.received) < 20
    peer.close()


def test_kept_associations_are_released_when_the_server_stops(tmp_path):
    with dimse_archive(tmp_path) as archive:
        uid, _ = stored_study(archive, 731, 1)
        peer = destination(archive, "WARM", "keep_s = 600")
        assert moved(archive, "WARM", uid).completed == 1
        assert not peer.ended.acquire(blocking=False)
    assert peer.ended.acquire(timeout=20)
    peer.close()
