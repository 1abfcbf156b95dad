"""Sends asked for by people, over a real index: what is counted, and what two processes do to the same one."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pacs.dicom.model import BlobRef, Caller, StoredInstance, Target
from pacs.errors import NotFound, TooLarge
from pacs.index.base import Index
from pacs.index.mongo import MongoIndex
from pacs.index.sqlite import SqliteIndex
from pacs.index.work import Job, JobEnd, RecordWrite, Work
from pacs.services import sends as module
from pacs.services.sends import KIND, Sends

CALLER = Caller("TEST", "127.0.0.1", "test")
BLOB = BlobRef("k", 1, "d")
ALL = Target("1.2")


def instances(count: int) -> list[StoredInstance]:
    targets = [Target("1.2", f"1.2.{number % 3}", f"1.2.{number % 3}.{number}") for number in range(count)]
    return [StoredInstance(target, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", BLOB, 132) for target in targets]


@pytest.fixture(params=["sqlite", "mongo"])
def work(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Work]:
    index: Index
    if request.param == "sqlite":
        index = SqliteIndex(tmp_path / "index.sqlite")
    else:
        index = MongoIndex(request.getfixturevalue("mongod"), f"sends-{uuid.uuid4().hex[:12]}")
    with closing(index):
        yield index.work


def over(work: Work, stored: Sequence[StoredInstance]) -> Sends:
    return Sends(work, lambda target, caller: stored, lambda peer: peer == "FAR")


def claimed(work: Work, limit: int = 100) -> list[Job]:
    now = datetime.now(UTC) + timedelta(seconds=1)
    return work.claim_jobs(KIND, now, now + timedelta(seconds=30), limit)


def test_progress_is_kept_by_bundle_and_read_by_another_process(work: Work) -> None:
    sends = over(work, instances(250))
    send_id = sends.begin("FAR", [ALL], CALLER)
    first, *_ = jobs = claimed(work)
    assert len(jobs) == 3
    bundle = sends.bundle(first)
    assert bundle is not None
    for target in bundle.left[:10]:
        bundle.note_sent(target)
    bundle.note_failed(bundle.left[0], "it is not taken")
    assert sends.note(bundle, first)

    other = over(work, [])
    found = other.one(send_id, CALLER)
    assert (found["total"], found["sent"], found["failures"], found["left"]) == (250, 10, 1, 239)
    again = other.bundle(first)
    assert again is not None
    assert (again.left, again.failed) == (bundle.left, bundle.failed)


def test_bundles_that_end_at_once_in_several_threads_end_the_send_once(work: Work) -> None:
    sends = over(work, instances(400))
    send_id = sends.begin("FAR", [ALL], CALLER)
    together = threading.Barrier(4)

    def end(job: Job) -> None:
        bundle = sends.bundle(job)
        assert bundle is not None
        for target in list(bundle.left):
            bundle.note_sent(target)
        together.wait()
        sends.note(bundle, job)

    threads = [threading.Thread(target=end, args=(job,)) for job in claimed(work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sends.one(send_id, CALLER)["state"] == "done"
    assert sends.recent(CALLER)[0]["sent"] == 400


def test_what_failed_is_sent_again_beside_what_was_sent(work: Work) -> None:
    sends = over(work, instances(3))
    send_id = sends.begin("FAR", [ALL], CALLER)
    (job,) = claimed(work)
    bundle = sends.bundle(job)
    assert bundle is not None
    sent, *refused = list(bundle.left)
    bundle.note_sent(sent)
    for target in refused:
        bundle.note_failed(target, "no")
    sends.note(bundle, job)
    work.end_jobs([JobEnd(job)])
    assert sends.one(send_id, CALLER)["state"] == "failed"

    sends.retry(send_id, CALLER)
    found = sends.one(send_id, CALLER)
    assert (found["state"], found["left"]) == ("sending", 2)
    (job,) = claimed(work)
    bundle = sends.bundle(job)
    assert bundle is not None
    assert bundle.left == refused
    for target in refused:
        bundle.note_sent(target)
    sends.note(bundle, job)
    found = sends.one(send_id, CALLER)
    assert (found["state"], found["sent"], found["failures"], found["left"]) == ("done", 3, 0, 0)


def test_a_job_that_runs_hears_that_its_send_was_cancelled(work: Work) -> None:
    sends = over(work, instances(2))
    send_id = sends.begin("FAR", [ALL], CALLER)
    (job,) = claimed(work)
    bundle = sends.bundle(job)
    assert bundle is not None
    bundle.note_sent(bundle.left[0])
    sends.cancel(send_id, CALLER)
    assert not sends.note(bundle, job)
    assert sends.bundle(job) is None
    found = sends.one(send_id, CALLER)
    assert (found["state"], found["sent"], found["left"]) == ("cancelled", 1, 1)


def test_what_ended_long_ago_is_forgotten_with_its_bundles(work: Work) -> None:
    sends = over(work, instances(1))
    send_id = sends.begin("FAR", [ALL], CALLER)
    (job,) = claimed(work)
    bundle = sends.bundle(job)
    assert bundle is not None
    bundle.note_sent(bundle.left[0])
    sends.note(bundle, job)
    record = work.record("send", send_id)
    assert record is not None
    old = (datetime.now(UTC) - timedelta(days=31)).isoformat(timespec="seconds")
    work.write_records([RecordWrite("send", send_id, record.content, label=old)])
    sends.begin("FAR", [ALL], CALLER)
    with pytest.raises(NotFound):
        sends.one(send_id, CALLER)
    assert work.records("send-bundle") == []


def test_more_than_can_be_sent_at_once_is_refused(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_INSTANCES", 2)
    with pytest.raises(TooLarge):
        over(work, instances(3)).begin("FAR", [ALL], CALLER)
