"""What is negotiated with pynetdicom: users, extensions of queries, operations at once, 128 contexts."""

from __future__ import annotations

import socket

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    CTImageStorage,
    EnhancedCTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from pacs.dimse import negotiation
from pacs.dimse.negotiation import Proposal
from pacs.dimse.peers import Peers
from pacs.dimse.requests import Requests
from pacs.dimse.user import Identities, Identity, IdentityType
from pacs.dimse.users import Users, hashed
from pacs.dimse.wire import Timeouts
from pacs.peering import unlimited
from tests.builders import ct
from tests.server import Server
from tests.unit.dimse.archive import dimse_archive

STUDY_FIND = StudyRootQueryRetrieveInformationModelFind


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    path = tmp_path_factory.mktemp("users") / "users"
    path.write_text(f"anna:{hashed('secret')}\nconsole:*\n")
    return unlimited(Users(path).check)


@pytest.fixture(scope="module")
def pacs(tmp_path_factory, users):
    checks = {IdentityType.USERNAME: users, IdentityType.USERNAME_PASSCODE: users}
    with dimse_archive(tmp_path_factory.mktemp("open"), identities=Identities(checks)) as archive:
        archive.put(ct("1.2.826.0.1.3680043.10.1462.801", PatientName="Meyer^Anna"))
        yield archive


@pytest.fixture(scope="module")
def closed(tmp_path_factory, users):
    """Where only users come in."""
    checks = {IdentityType.USERNAME_PASSCODE: users}
    with dimse_archive(tmp_path_factory.mktemp("closed"), identities=Identities(checks, is_required=True)) as archive:
        yield archive


def associated(pacs, *items, contexts=None):
    entity = AE("PYNET")
    entity.requested_contexts = contexts or [build_context(Verification), build_context(STUDY_FIND)]
    return entity.associate("127.0.0.1", pacs.port, ext_neg=list(items), ae_title="ARCHIVE")


def identity(kind, primary, secondary=b"", *, asks=True):
    item = UserIdentityNegotiation()
    item.user_identity_type, item.positive_response_requested = kind, asks
    item.primary_field = primary
    if kind == 2:
        item.secondary_field = secondary
    return item


def answers(association, kind):
    return [item for item in association.acceptor.primitive.user_information if isinstance(item, kind)]


@pytest.mark.parametrize(
    ("item", "is_accepted", "is_confirmed"),
    [
        (identity(1, b"console"), True, True),
        (identity(2, b"anna", b"secret"), True, True),
        (identity(2, b"anna", b"secret", asks=False), True, False),
        (identity(2, b"anna", b"wrong"), False, False),
        (identity(1, b"anna"), False, False),
        (identity(3, b"ticket"), True, False),
        (identity(4, b"<assertion/>"), True, False),
        (identity(5, b"a.b.c"), True, False),
    ],
    ids=["name", "passcode", "unasked", "wrong", "no-passcode", "kerberos", "saml", "jwt"],
)
def test_users_are_verified_and_what_cannot_be_is_not_confirmed(pacs, item, is_accepted, is_confirmed):
    association = associated(pacs, item)
    assert association.is_established is is_accepted
    if is_accepted:
        assert bool(answers(association, UserIdentityNegotiation)) is is_confirmed
        assert association.send_c_echo().Status == 0
        association.release()


def test_who_is_not_that_user_is_rejected_for_good_by_the_provider(pacs):
    user = Identity(IdentityType.USERNAME_PASSCODE, b"anna", b"wrong")
    with socket.create_connection(("127.0.0.1", pacs.port), 10) as connection:
        connection.sendall(negotiation.request(Proposal("ARCHIVE", "PEER", (), user=user)))
        assert connection.recv(10) == bytes((3, 0, 0, 0, 0, 4, 0, 1, 2, 1))


def test_where_users_are_required_nobody_else_comes_in(closed):
    for items in ([], [identity(3, b"ticket")], [identity(1, b"console")]):
        assert not associated(closed, *items).is_established
    association = associated(closed, identity(2, b"anna", b"secret"))
    assert association.is_established
    association.release()


def test_we_say_who_we_are(tmp_path):
    seen = []

    def note(event):
        seen.append((event.user_id_type, event.primary_field, event.secondary_field))
        return True, None

    entity = AE("THEIRS")
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_USER_ID, note)])
    try:
        toml = tmp_path / "peers.toml"
        toml.write_text(
            f'[peers.THEIRS]\nhost = "127.0.0.1"\nport = {server.server_address[1]}\n'
            'user = { name = "us", passcode = "secret" }\n'
        )
        peer = Peers(tmp_path / "none", toml_path=toml).find("THEIRS")
        assert Requests(peer, "ARCHIVE", Timeouts(5, 5)).echo() > 0
    finally:
        server.shutdown()
    assert seen == [(2, b"us", b"secret")]


def found(association, name):
    question = Dataset()
    question.QueryRetrieveLevel, question.PatientName, question.StudyInstanceUID = "STUDY", name, ""
    return [data for _, data in association.send_c_find(question, STUDY_FIND) if data is not None]


def extension(uid, information):
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = uid, information
    return item


def test_names_are_matched_by_sound_only_where_that_was_negotiated(pacs):
    for information, granted, matches in (
        (b"\1\1\1\1", b"\1\1\1\0", 1),
        (b"\1\1\0\0", b"\1\1\0\0", 0),
        (None, None, 0),
    ):
        association = associated(pacs, *([extension(STUDY_FIND, information)] if information else []))
        told = association.acceptor.sop_class_extended
        assert told == ({STUDY_FIND: granted} if granted else {})
        assert len(found(association, "Maier")) == matches
        assert len(found(association, "Meyer^Anna")) == 1
        association.release()


def test_one_operation_at_a_time_is_granted_whatever_is_asked(pacs):
    item = AsynchronousOperationsWindowNegotiation()
    item.maximum_number_operations_invoked, item.maximum_number_operations_performed = 5, 0
    association = associated(pacs, item)
    assert association.acceptor.asynchronous_operations == (1, 1)
    assert len(answers(association, AsynchronousOperationsWindowNegotiation)) == 1
    association.release()
    association = associated(pacs)
    assert answers(association, AsynchronousOperationsWindowNegotiation) == []
    association.release()


def test_a_private_class_that_is_said_to_be_storage_is_stored(pacs):
    private = UID("1.2.826.0.1.3680043.10.1462.999.1")
    item = SOPClassCommonExtendedNegotiation()
    item.sop_class_uid, item.service_class_uid = private, UID("1.2.840.10008.4.2")
    item.related_general_sop_class_identification = [EnhancedCTImageStorage]
    association = associated(pacs, item, contexts=[build_context(private), build_context(CTImageStorage)])
    assert [context.abstract_syntax for context in association.accepted_contexts] == [private, CTImageStorage]
    association.release()


def test_128_contexts_are_each_answered(pacs):
    contexts = [build_context(CTImageStorage) for _ in range(127)] + [build_context(Verification)]
    association = associated(pacs, contexts=contexts)
    assert len(association.accepted_contexts) == 128
    assert association.send_c_echo().Status == 0
    association.release()


def test_the_settings_reach_the_server(tmp_path):
    path = tmp_path / "users"
    settings = {"DIMSE_USERS": str(path), "DIMSE_USER_REQUIRED": "true", "DIMSE_STRICT": "true"}
    server = Server(tmp_path / "server", settings)
    (server.folder / "config").mkdir()
    toml = server.folder / "config" / "peers.toml"
    toml.write_text("[peers.PYNET]\naddresses = ['127.0.0.0/8']\nservices = ['echo']\n")
    entered = server.pacs("user", "anna", input_text="geheim\n")
    assert entered.returncode == 0, entered.stderr
    server.port = server.dimse_port
    with server:
        assert not associated(server).is_established
        association = associated(server, identity(2, b"anna", b"geheim"))
        assert [context.abstract_syntax for context in association.accepted_contexts] == [Verification]
        association.release()
        assert "user='anna'" in server.log()
        toml.write_text("")
        assert not associated(server, identity(2, b"anna", b"geheim")).is_established
        assert "calling AE title not recognized" in server.log()
