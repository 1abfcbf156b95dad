"""Who may associate, and for what: strict mode, addresses, services and limits of peers.toml, tried with DCMTK."""

from __future__ import annotations

import contextlib

import pytest

from pacs.dimse.command import HAS_DATA_SET, Command, Field
from tests.builders import ct
from tests.server import dcmtk
from tests.unit.dimse.archive import dimse_archive
from tests.unit.dimse.peer import CT, EXPLICIT, STUDY_FIND, STUDY_GET, VERIFICATION, connected, find, identifier

STUDY = "1.2.826.0.1.3680043.10.1462.601"
ECHO = (VERIFICATION, [EXPLICIT])
CALLING_NOT_RECOGNIZED = bytes((1, 1, 3))
TOO_MANY = bytes((2, 3, 2))


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    with dimse_archive(tmp_path_factory.mktemp("open")) as archive:
        archive.put(ct(STUDY))
        yield archive


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    with dimse_archive(tmp_path_factory.mktemp("strict"), strict_calling=True) as archive:
        yield archive


def answer_to(pacs, calling, *contexts, **kwargs):
    """The A-ASSOCIATE-RJ's result, source and reason, or None when it is accepted."""
    with connected(pacs.port, *(contexts or (ECHO,)), calling=calling, **kwargs) as peer:
        return None if peer.is_accepted else peer.answer[7:10]


def test_strict_mode_knows_only_peers_of_either_file(strict):
    strict.peers_path.write_text("OLD=127.0.0.1:104\nELSEWHERE=192.0.2.1:104\n")
    strict.write_peers('[peers.NEW]\naddresses = ["127.0.0.0/8"]\n[peers.FAR]\naddresses = ["192.0.2.0/24"]\n')
    assert answer_to(strict, "OLD") is None
    assert answer_to(strict, "NEW") is None
    for stranger in ("STRANGER", "old", "FAR", "ELSEWHERE"):
        assert answer_to(strict, stranger) == CALLING_NOT_RECOGNIZED, stranger


def test_dcmtk_is_told_why(strict):
    refused = dcmtk("echoscu", "-aet", "STRANGER", "-aec", "ARCHIVE", "127.0.0.1", str(strict.port))
    assert refused.returncode != 0
    assert "Calling AE Title Not Recognized" in refused.stdout


def test_a_peer_that_only_calls_needs_addresses_in_strict_mode(strict):
    strict.write_peers("[peers.CALLER]\nservices = ['echo']\n")
    assert answer_to(strict, "CALLER") == CALLING_NOT_RECOGNIZED


def test_without_strict_mode_unknown_callers_do_all_and_known_ones_keep_to_their_addresses(pacs):
    pacs.write_peers('[peers.FAR]\naddresses = ["192.0.2.0/24"]\n[peers.BROKEN]\nadresses = []\n[peers.FREE]\n')
    assert answer_to(pacs, "STRANGER") is None
    assert answer_to(pacs, "FREE") is None
    assert answer_to(pacs, "FAR") == CALLING_NOT_RECOGNIZED
    assert answer_to(pacs, "BROKEN") == CALLING_NOT_RECOGNIZED


def test_contexts_of_services_that_are_not_allowed_are_refused_as_such(pacs):
    pacs.write_peers('[peers.FINDER]\nservices = ["find"]\n')
    unknown = ("1.2.840.10008.1.20.1.999", [EXPLICIT])
    contexts = (ECHO, (STUDY_FIND, [EXPLICIT]), (CT, [EXPLICIT]), (STUDY_GET, [EXPLICIT]), unknown)
    with connected(pacs.port, *contexts, calling="FINDER") as peer:
        assert list(peer.accepted.contexts) == [3]
        answers, last = find(peer, identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY), context_id=3)
        assert (len(answers), last.status) == (1, 0)


def test_storescu_sends_nothing_where_it_may_not_store(pacs, tmp_path):
    pacs.write_peers('[peers.FINDER]\nservices = ["find", "echo"]\n')
    (tmp_path / "file.dcm").write_bytes(ct("1.2.826.0.1.3680043.10.1462.602"))
    address = ("-aet", "FINDER", "-aec", "ARCHIVE", "127.0.0.1", str(pacs.port))
    refused = dcmtk("storescu", *address, str(tmp_path / "file.dcm"))
    assert refused.returncode != 0
    assert "No Acceptable Presentation Contexts" in refused.stdout
    assert dcmtk("echoscu", *address).returncode == 0
    assert pacs.holds("1.2.826.0.1.3680043.10.1462.602") == 0


def test_who_may_get_and_not_store_receives_and_is_refused_to_send(pacs, tmp_path):
    pacs.write_peers('[peers.GETTER]\nservices = ["get"]\n')
    got = dcmtk(
        "getscu", "-S", "-aet", "GETTER", "-aec", "ARCHIVE", "-od", str(tmp_path), "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={STUDY}", "127.0.0.1", str(pacs.port),
    )  # fmt: skip
    assert got.returncode == 0, got.stdout
    assert len(list(tmp_path.iterdir())) == 1

    with connected(pacs.port, (CT, [EXPLICIT]), calling="GETTER", as_scp=[CT]) as peer:
        command = Command(Field.C_STORE, CT, message_id=1, priority=0, data_set_type=HAS_DATA_SET, sop_uid="1.2.3")
        peer.association.send(1, command, b"\0" * 1000)
        assert peer.association.response(1).command.status == 0x0124
    with connected(pacs.port, (CT, [EXPLICIT]), calling="GETTER") as peer:
        assert not peer.accepted.contexts


def test_a_peer_has_no_more_associations_than_its_limit(pacs):
    pacs.write_peers("[peers.BUSY]\nmax_associations = 2\n")
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            assert stack.enter_context(connected(pacs.port, ECHO, calling="BUSY")).is_accepted
        assert answer_to(pacs, "BUSY") == TOO_MANY
        assert answer_to(pacs, "OTHER") is None
