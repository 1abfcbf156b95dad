"""What is accepted of an A-ASSOCIATE-RQ, and what is relied on of pynetdicom's codecs."""

from __future__ import annotations

import contextlib

import pytest
from pynetdicom.pdu import A_ASSOCIATE_AC

from pacs.dimse import negotiation
from pacs.dimse.models import is_storage
from pacs.dimse.negotiation import Proposal, ProposedContext, Rejection
from pacs.dimse.user import Identity, IdentityType
from pacs.dimse.wire import ProtocolError

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
PRIVATE = "1.2.276.0.7230010.3.1.99"


def proposal(*contexts: tuple[str, list[str]], **kwargs: object) -> Proposal:
    proposed = [ProposedContext(2 * i + 1, uid, tuple(syntaxes)) for i, (uid, syntaxes) in enumerate(contexts)]
    return Proposal("ARCHIVE", "PEER", tuple(proposed), **kwargs)


def answer_to(asked: Proposal) -> A_ASSOCIATE_AC:
    _, pdu = negotiation.accept(asked, 131072)
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu)
    return answer


def chosen(asked: Proposal) -> list[str | int]:
    return [
        str(item.transfer_syntax) if item.result == 0 else item.result for item in answer_to(asked).presentation_context
    ]


def test_a_request_survives_writing_and_reading():
    asked = proposal(
        (CT, [EXPLICIT, IMPLICIT]),
        (VERIFICATION, [IMPLICIT]),
        max_pdu=16384,
        roles={CT: (False, True)},
        user=Identity(IdentityType.USERNAME_PASSCODE, b"me", b"secret", wants_answer=True),
    )
    assert negotiation.parse_request(negotiation.request(asked)) == asked


def test_128_contexts_are_read_and_answered():
    asked = proposal(*[(CT, [EXPLICIT, IMPLICIT, JPEG_LOSSLESS])] * 128)
    read = negotiation.parse_request(negotiation.request(asked))
    assert isinstance(read, Proposal)
    assert [context.context_id for context in read.contexts] == list(range(1, 257, 2))
    assert chosen(read) == [EXPLICIT] * 128


def test_storage_takes_the_first_transfer_syntax_that_is_known():
    assert chosen(
        proposal(
            (CT, [JPEG_LOSSLESS, EXPLICIT]),
            (CT, [PRIVATE, IMPLICIT]),
            (CT, [PRIVATE]),
            ("1.2.3.4.5.6.7", [BIG_ENDIAN]),
        )
    ) == [JPEG_LOSSLESS, IMPLICIT, PRIVATE, BIG_ENDIAN]


def test_queries_take_uncompressed_syntaxes_only():
    assert chosen(
        proposal((STUDY_FIND, [JPEG_LOSSLESS, IMPLICIT]), (STUDY_FIND, [JPEG_LOSSLESS]), (VERIFICATION, [EXPLICIT]))
    ) == [IMPLICIT, 4, EXPLICIT]


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        (CT, True),
        ("1.2.840.10008.5.1.4.1.1.5", True),  # retired nuclear medicine
        ("1.2.840.10008.5.1.4.1.1.9", True),  # retired standalone curve
        ("1.2.840.10008.5.1.1.27", True),  # stored print
        ("1.2.840.10008.5.1.4.38.1", True),  # hanging protocol
        ("1.2.840.10008.5.1.4.1.1.9999.1", True),  # younger than any dictionary
        ("1.2.276.0.99.1", True),  # private
        (VERIFICATION, False),
        (STUDY_FIND, False),
        ("1.2.840.10008.1.20.1", False),  # storage commitment push
        ("1.2.840.10008.1.20.2", False),  # storage commitment pull
        ("1.2.840.10008.3.1.2.3.3", False),  # MPPS
        ("1.2.840.10008.5.1.4.31", False),  # worklist
        ("1.2.840.10008.5.1.1.9", False),  # print
        ("1.2.840.10008.1.3.10", False),  # DICOMDIR
        ("1.2.840.10008.5.1.4.1.2.4.2", False),  # composite instance root move
    ],
)
def test_which_classes_are_storage(uid, expected):
    assert is_storage(uid) is expected


def test_a_class_that_is_not_served_is_refused_by_itself():
    assert chosen(proposal(("1.2.840.10008.5.1.1.9", [EXPLICIT]), (CT, [EXPLICIT]))) == [3, EXPLICIT]


def test_the_scp_role_is_granted_for_storage_only():
    asked = proposal((CT, [EXPLICIT]), (STUDY_FIND, [EXPLICIT]), roles={CT: (True, True), STUDY_FIND: (True, True)})
    accepted, pdu = negotiation.accept(asked, 131072)
    assert accepted.contexts[1].may_send
    assert not accepted.contexts[3].may_send
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu)
    (user,) = (item for item in answer.variable_items if hasattr(item, "role_selection"))
    roles = {str(uid): (item.scu, item.scp) for uid, item in user.role_selection.items()}
    assert roles == {CT: (1, 1), STUDY_FIND: (1, 0)}


def test_services_are_accepted_with_uncompressed_syntaxes_and_the_roles_that_they_allow():
    commitment, worklist, mpps = "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.31", "1.2.840.10008.3.1.2.3.3"
    asked = proposal(
        (commitment, [JPEG_LOSSLESS, EXPLICIT]),
        (worklist, [IMPLICIT]),
        (worklist, [JPEG_LOSSLESS]),
        (mpps, [EXPLICIT]),
        (CT, [JPEG_LOSSLESS]),
        roles={commitment: (False, True), worklist: (True, True), mpps: (True, True)},
    )
    accepted, pdu = negotiation.accept(asked, 131072, {commitment: True, worklist: False})
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu)
    assert [item.result for item in answer.presentation_context] == [0, 0, 4, 3, 0]
    assert {i: (c.transfer_syntax, c.may_send) for i, c in accepted.contexts.items()} == {
        1: (EXPLICIT, True),
        3: (IMPLICIT, False),
        9: (JPEG_LOSSLESS, False),
    }
    (user,) = (item for item in answer.variable_items if hasattr(item, "role_selection"))
    roles = {str(uid): (item.scu, item.scp) for uid, item in user.role_selection.items()}
    assert roles == {commitment: (0, 1), worklist: (1, 0)}


@pytest.mark.parametrize(
    ("uid", "requested", "granted"),
    [
        (STUDY_FIND, b"\1", b"\1"),
        (STUDY_FIND, b"\1\1\1\1\1", b"\1\1\1\0\0"),
        (STUDY_FIND, b"\0\0\1", b"\0\0\1"),
        (STUDY_FIND, b"\1\1\1\1\1\1\1", b"\1\1\1\0\0\0\0"),
        (STUDY_FIND, b"", b""),
        (STUDY_MOVE, b"\1\1", b"\1\0"),
    ],
)
def test_of_extensions_what_can_be_done_is_granted(uid, requested, granted):
    asked = proposal((uid, [EXPLICIT]), extensions={uid: requested})
    accepted, _ = negotiation.accept(asked, 131072)
    assert accepted.extensions == {uid: granted}
    assert negotiation.is_fuzzy(accepted.extensions, uid) is (uid == STUDY_FIND and requested[2:3] == b"\1")


def test_extensions_of_what_is_not_served_are_not_answered():
    asked = proposal((CT, [EXPLICIT]), extensions={CT: b"\1", STUDY_FIND: b"\1"})
    assert negotiation.accept(asked, 131072)[0].extensions == {}


def test_a_class_that_its_peer_calls_another_service_is_not_taken_for_storage():
    private = "1.3.6.1.4.1.99999.1"
    assert chosen(proposal((private, [EXPLICIT]))) == [EXPLICIT]
    assert chosen(proposal((private, [EXPLICIT]), service_classes={private: "1.2.840.10008.4.2"})) == [EXPLICIT]
    assert chosen(proposal((private, [EXPLICIT]), service_classes={private: "1.2.840.10008.4.1"})) == [3]


def test_contexts_that_are_not_allowed_are_refused_by_the_user():
    accepted, pdu = negotiation.accept(proposal((CT, [EXPLICIT]), (VERIFICATION, [EXPLICIT])), 131072, refused={1})
    assert list(accepted.contexts) == [3]
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu)
    assert [item.result for item in answer.presentation_context] == [1, 0]


def test_another_application_context_or_version_is_rejected():
    pdu = bytearray(negotiation.request(proposal((CT, [EXPLICIT]))))
    other_version = bytes(pdu[:6]) + b"\0\2" + bytes(pdu[8:])
    assert negotiation.parse_request(other_version) == negotiation.VERSION_NOT_SUPPORTED
    other_context = bytes(pdu).replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9")
    assert negotiation.parse_request(other_context) == negotiation.CONTEXT_NOT_SUPPORTED


def test_a_rejection_is_the_pdu_of_ps3_8():
    assert negotiation.reject(Rejection(2, 3, 2, "")) == b"\3\0\0\0\0\4\0\2\3\2"


@pytest.mark.parametrize("cut", range(0, 230, 7))
def test_a_request_cut_short_or_flipped_is_a_protocol_error_or_still_a_request(cut):
    pdu = negotiation.request(proposal((CT, [EXPLICIT, IMPLICIT])))
    for broken in (pdu[:cut], pdu[:cut] + bytes(255 - b for b in pdu[cut : cut + 3]) + pdu[cut + 3 :]):
        with contextlib.suppress(ProtocolError):
            assert isinstance(negotiation.parse_request(broken), Proposal | Rejection)


def test_an_answer_is_read_by_context_id():
    asked = proposal((CT, [EXPLICIT]), (CT, [JPEG_LOSSLESS]), ("1.2.840.10008.5.1.1.9", [EXPLICIT]), max_pdu=5000)
    _, pdu = negotiation.accept(asked, 4096)
    accepted = negotiation.parse_accept(pdu, asked.contexts)
    assert accepted.max_pdu == 4096
    assert {i: (c.abstract_syntax, c.transfer_syntax) for i, c in accepted.contexts.items()} == {
        1: (CT, EXPLICIT),
        3: (CT, JPEG_LOSSLESS),
    }
