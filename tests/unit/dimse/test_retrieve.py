"""Counting sub-operations, and which contexts are proposed for them."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from pacs.dicom.header import parse_data_set
from pacs.dicom.model import BlobRef, StoredInstance, Target
from pacs.dimse.association import Association, Message
from pacs.dimse.client import FALLBACKS, Outcome, proposals
from pacs.dimse.command import Command, Field
from pacs.dimse.negotiation import Accepted, Context
from pacs.dimse.retrieve import _failed_list, run
from pacs.dimse.wire import Wire
from tests.unit.dimse.peer import CT, EXPLICIT, IMPLICIT, STUDY_MOVE

JPEG = "1.2.840.10008.1.2.4.50"


def instance(number: int, sop_class: str = CT, syntax: str = EXPLICIT) -> StoredInstance:
    uid = f"1.2.826.0.1.3680043.8.498.{number:030d}"
    return StoredInstance(Target("1.2", "1.2.3", uid), sop_class, syntax, BlobRef("k", 1, "sha256:0"), 0)


def test_each_class_and_stored_syntax_has_a_context_and_so_have_the_fallbacks():
    ((contexts, count),) = proposals([instance(1), instance(2, syntax=JPEG), instance(3)])
    assert count == 3
    assert [context.transfer_syntaxes for context in contexts] == [(EXPLICIT,), (IMPLICIT,), (JPEG,)]
    assert [context.context_id for context in contexts] == [1, 3, 5]


def test_contexts_that_are_too_many_are_spread_over_associations():
    instances = [instance(n, f"1.2.3.{n}", JPEG) for n in range(100)]
    found = list(proposals(instances))
    assert [count for _, count in found] == [42, 42, 16]
    assert all(len(contexts) <= 128 for contexts, _ in found)
    for contexts, _ in found:
        assert {context.transfer_syntaxes[0] for context in contexts} == {JPEG, *FALLBACKS}


def test_nothing_to_send_needs_no_association():
    assert list(proposals([])) == []


@pytest.fixture
def request_and_peer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    context = Context(1, STUDY_MOVE, EXPLICIT)
    association = Association(Wire(ours, 20), Accepted({1: context}, 0), 0)
    peer = Association(Wire(theirs, 20), Accepted({1: context}, 0), 0)
    yield Message(Command(field=Field.C_MOVE, message_id=1), context, association), peer
    ours.close()
    theirs.close()


@pytest.mark.parametrize("failing", [False, True])
def test_more_than_65535_sub_operations_saturate_the_counters(request_and_peer, failing):
    message, peer = request_and_peer
    total = 66_000
    found = []

    def read():
        while True:
            answer = peer.response(1)
            found.append(answer.command)
            if answer.command.status != 0xFF00:
                found.append(answer.data_set())
                return

    reader = threading.Thread(target=read)
    reader.start()
    one = instance(1)
    outcomes = iter([Outcome(one, None if failing else 0, "no")] * total)
    progress = run(message, [one] * total, outcomes)
    reader.join(30)
    *pending, final, data = found
    assert len(pending) == total
    assert pending[0].remaining == 65_535
    assert pending[-1].remaining == 0
    if failing:
        assert (final.status, final.failed, len(progress.failed)) == (0xA702, 65_535, total)
        assert len(data) < 65_536 + 8
    else:
        assert (final.status, final.completed, progress.completed) == (0, 65_535, total)


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([0, 0], 0x0000),
        ([0, 0xB000], 0xB000),
        ([0, 0xA700], 0xB000),
        ([0xA700, 0xC000], 0xA702),
        ([0xB000, 0xA700], 0xB000),
        ([None, None], 0xA702),
    ],
)
def test_final_status(request_and_peer, statuses, code):
    message, peer = request_and_peer
    outcomes = iter([Outcome(instance(n), status, "why") for n, status in enumerate(statuses)])
    run(message, [instance(n) for n in range(len(statuses))], outcomes)
    while (answer := peer.response(1)).command.status == 0xFF00:
        pass
    assert answer.command.status == code
    assert answer.command.has_data_set == any(status not in (0, 0xB000) for status in statuses)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_the_list_of_failed_instances_is_cut_where_its_element_is_full(syntax):
    failed = [instance(n) for n in range(3000)]
    read = parse_data_set(_failed_list(failed, syntax), syntax)
    uids = read["00080058"]["Value"]
    assert uids == [each.target.sop_uid for each in failed[: len(uids)]]
    assert 1000 < len(uids) < 3000


def test_a_cancel_leaves_the_rest_unsent(request_and_peer):
    message, peer = request_and_peer
    peer.send(1, Command(field=Field.C_CANCEL, responded_id=1))
    sent = []

    def outcomes():
        for n in range(10):
            sent.append(n)
            yield Outcome(instance(n), 0)

    with contextlib.closing(outcomes()) as each:
        progress = run(message, [instance(n) for n in range(10)], each)
    assert progress.is_cancelled
    assert sent == []
    assert peer.response(1).command.status == 0xFE00
