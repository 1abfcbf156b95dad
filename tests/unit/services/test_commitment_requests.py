"""What becomes of storage commitment that peers are asked for, over a real index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from pacs.dicom.model import BlobRef, StoredInstance, Target
from pacs.errors import Invalid, NotFound
from pacs.index.sqlite import SqliteIndex
from pacs.index.work import NewJob, Work
from pacs.services.commitment_requests import COMMITMENT_REQUEST, Asked, CommitmentRequests, State

AT_ONCE = timedelta(0)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    with closing(SqliteIndex(tmp_path / "index.sqlite")) as index:
        yield index.work


@pytest.fixture
def asked(work: Work) -> CommitmentRequests:
    return CommitmentRequests(work, again_after=AT_ONCE, rounds=3)


def instances(count: int) -> list[StoredInstance]:
    return [
        StoredInstance(Target("1.2", "1.3", f"1.4.{number}"), "1.5", "1.2.840.10008.1.2", BlobRef("k", 1, ""), 0)
        for number in range(count)
    ]


def found(asked: CommitmentRequests, uid: str) -> Asked:
    there = asked.find(uid)
    assert there is not None
    return there


def job_keys(work: Work) -> list[str]:
    return [job.key for job in work.jobs(kind=COMMITMENT_REQUEST)]


def test_a_request_is_kept_with_the_job_that_asks(work: Work, asked: CommitmentRequests) -> None:
    uid = asked.ask("PEER", instances(2))
    there = found(asked, uid)
    assert (there.state, there.peer, there.rounds) == (State.WAITING, "PEER", 1)
    assert [(each.sop_class_uid, each.sop_uid) for each in there.references] == [("1.5", "1.4.0"), ("1.5", "1.4.1")]
    assert [(job.key, job.group) for job in work.jobs(kind=COMMITMENT_REQUEST)] == [(uid, "PEER")]
    with pytest.raises(Invalid):
        asked.ask("PEER", [])


def test_what_is_to_follow_follows_once_and_only_when_all_is_committed(work: Work, asked: CommitmentRequests) -> None:
    then = [NewJob("delete", "study", "group", b'{"a":1}')]
    failing, good = asked.ask("PEER", instances(2), then), asked.ask("PEER", instances(2), then)
    assert asked.settle(failing, ["1.4.0"], {"1.4.1": 0x0213}).state is State.FAILED
    assert work.jobs(kind="delete") == []
    assert asked.settle(good, ["1.4.0", "1.4.1", "1.9"], {}).state is State.COMMITTED
    (job,) = work.jobs(kind="delete")
    assert (job.key, job.group, job.payload, job.revision) == ("study", "group", b'{"a":1}', 1)
    asked.settle(good, ["1.4.0", "1.4.1"], {})
    assert work.jobs(kind="delete")[0].revision == 1
    assert job_keys(work) == [], "nobody is asked any more"
    with pytest.raises(NotFound):
        asked.settle("1.2.3", [], {})


def test_what_is_both_committed_and_failed_has_failed(asked: CommitmentRequests) -> None:
    uid = asked.ask("PEER", instances(1))
    assert asked.settle(uid, ["1.4.0"], {"1.4.0": 0x0110}).failed == {"1.4.0": 0x0110}


def test_without_an_answer_one_asks_again_under_another_uid_but_not_for_ever(
    work: Work, asked: CommitmentRequests
) -> None:
    uid = first = asked.ask("PEER", instances(1))
    for rounds in (1, 2):
        assert asked.note_asked(found(asked, uid))
        assert asked.is_overdue(found(asked, uid))
        assert asked.repeat(found(asked, uid))
        assert found(asked, uid).state is State.REPEATED
        uid = found(asked, uid).next
        assert found(asked, uid).rounds == rounds + 1
    assert uid in job_keys(work)
    asked.note_asked(found(asked, uid))
    assert not asked.repeat(found(asked, uid))
    assert found(asked, uid).state is State.UNANSWERED
    assert [each.uid for each in asked.page([State.UNANSWERED])] == [uid]
    assert asked.repeat(found(asked, uid), at_most=False), "somebody wants it tried again"
    assert asked.settle(first, ["1.4.0"], {}).state is State.COMMITTED
    assert {each.state for each in asked.page()} == {State.COMMITTED}, "a late answer answers what followed"


def test_a_late_answer_changes_nothing_where_a_later_round_was_answered(work: Work, asked: CommitmentRequests) -> None:
    first = asked.ask("PEER", instances(1), [NewJob("delete", "study")])
    asked.note_asked(found(asked, first))
    asked.repeat(found(asked, first))
    asked.settle(found(asked, first).next, [], {"1.4.0": 0x0112})
    asked.settle(first, ["1.4.0"], {})
    assert found(asked, found(asked, first).next).state is State.FAILED
    assert work.jobs(kind="delete") == []


def test_an_answer_that_overtakes_its_request_is_not_undone(asked: CommitmentRequests) -> None:
    uid = asked.ask("PEER", instances(1))
    before = found(asked, uid)
    asked.settle(uid, ["1.4.0"], {})
    assert not asked.note_asked(before)
    asked.repeat(before)
    assert (found(asked, uid).state, len(asked.page())) == (State.COMMITTED, 1)


def test_old_requests_are_forgotten(work: Work) -> None:
    asked = CommitmentRequests(work, keep=AT_ONCE)
    assert asked.find(asked.ask("PEER", instances(1))) is None
    assert asked.find(asked.ask("PEER", instances(1))) is not None, "only now and then"
