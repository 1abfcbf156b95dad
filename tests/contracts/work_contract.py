"""What every engine's ``Index.work`` has to do. Inherit, and give ``reopen`` as for ``IndexContract``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from pacs import correlation
from pacs.dicom.model import Target
from pacs.index.base import Index, Put
from pacs.index.work import Change, ChangeKind, Job, JobEnd, JobState, NewJob, RecordWrite
from tests.contracts.index_records import record

Reopen = Callable[[], Index]
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class WorkContract:
    @pytest.fixture
    def reopen(self) -> Reopen:
        raise NotImplementedError

    @pytest.fixture
    def index(self, reopen: Reopen) -> Iterator[Index]:
        index = reopen()
        yield index
        index.close()

    # Jobs

    def test_a_job_is_added_with_the_instance_and_not_without(self, index: Index) -> None:
        job = NewJob("send", "one", due=NOW)
        assert index.put([record()], jobs=[[job]])[0].outcome is Put.STORED
        assert [each.key for each in index.work.jobs()] == ["one"]
        assert index.put([record()], jobs=[[NewJob("send", "two", due=NOW)]])[0].outcome is Put.SAME
        assert [each.key for each in index.work.jobs()] == ["one"]

    def test_a_job_knows_what_asked_for_it(self, index: Index) -> None:
        with correlation.caused_by("request-1"):
            index.work.add_jobs([NewJob("send", "one", due=NOW)])
        with correlation.caused_by("request-2"):
            index.put([record()], jobs=[[NewJob("send", "two", due=NOW)]])
        index.work.add_jobs([NewJob("send", "three", due=NOW)])
        found = {job.key: job.cause for job in index.work.claim_jobs("send", NOW, NOW + timedelta(minutes=1), 10)}
        assert found == {"one": "request-1", "two": "request-2", "three": ""}

    def test_for_another_cause_alone_nothing_is_written(self, index: Index) -> None:
        for cause in ("request-1", "request-2"):
            with correlation.caused_by(cause):
                index.work.add_jobs([NewJob("send", "one", due=NOW)])
        assert [job.cause for job in index.work.jobs()] == ["request-1"]

    def test_the_index_tells_its_size_and_what_waits(self, index: Index) -> None:
        index.put([record()])
        assert (index.size_bytes() or 0) > 0
        assert index.load() == 0

    def test_no_job_follows_from_what_was_not_committed(self, index: Index) -> None:
        def fail() -> None:
            raise OSError("the disk failed")

        with pytest.raises(OSError, match="the disk failed"):
            index.put([record()], jobs=[[NewJob("send", "one")]], durable=fail)
        assert index.work.jobs() == []
        assert index.work.changes(0, 10) == []

    def test_each_record_brings_its_own_jobs(self, index: Index) -> None:
        records = [record(sop=f"1.2.{number}") for number in range(3)]
        index.put(records, jobs=[[NewJob("send", "a"), NewJob("tell", "b")], [], [NewJob("send", "c")]])
        assert sorted((job.kind, job.key) for job in index.work.jobs()) == [("send", "a"), ("send", "c"), ("tell", "b")]
        assert index.work.count_jobs() == {("send", JobState.WAITING): 2, ("tell", JobState.WAITING): 1}

    def test_jobs_follow_a_deletion_of_something(self, index: Index) -> None:
        one = record()
        index.put([one])
        nothing = Target("1.2.3.4.5.6.7.8.9")
        index.delete(nothing, NOW, [NewJob("tell", "nothing")])
        index.delete(Target(one.header.target.study_uid), NOW, [NewJob("tell", "gone")])
        assert [job.key for job in index.work.jobs()] == ["gone"]

    def test_jobs_survive_a_restart(self, index: Index, reopen: Reopen) -> None:
        index.work.add_jobs([NewJob("send", "one", "peer", b'{"a": 1}', NOW)])
        again = reopen()
        try:
            (job,) = again.work.jobs()
            assert (job.kind, job.key, job.group, job.payload) == ("send", "one", "peer", b'{"a": 1}')
            assert (job.due, job.state, job.attempts) == (NOW, JobState.WAITING, 0)
        finally:
            again.close()

    def test_nothing_is_claimed_before_it_is_due(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", "later", due=NOW + MINUTE)])
        assert index.work.claim_jobs("send", NOW, NOW + MINUTE, 10) == []
        assert index.work.next_due(["send", "tell"]) == {"send": NOW + MINUTE}
        assert index.work.next_due(["tell"]) == {}
        (job,) = index.work.claim_jobs("send", NOW + MINUTE, NOW + 2 * MINUTE, 10)
        assert (job.key, job.state, job.attempts) == ("later", JobState.RUNNING, 1)

    def test_a_claim_takes_jobs_of_one_group_and_no_more_than_asked(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", f"a{number}", "a", due=NOW) for number in range(3)])
        index.work.add_jobs([NewJob("send", "b", "b", due=NOW + MINUTE)])
        at = NOW + 2 * MINUTE
        first = index.work.claim_jobs("send", at, at + MINUTE, 2)
        second = index.work.claim_jobs("send", at, at + MINUTE, 2)
        third = index.work.claim_jobs("send", at, at + MINUTE, 2)
        assert [{job.group for job in found} for found in (first, second, third)] == [{"a"}, {"a"}, {"b"}]
        assert [len(found) for found in (first, second, third)] == [2, 1, 1]
        assert index.work.claim_jobs("send", at, at + MINUTE, 2) == []

    def test_a_job_that_is_done_is_gone(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", "one", due=NOW)])
        (job,) = self._claim(index)
        index.work.end_jobs([JobEnd(job)])
        assert index.work.jobs() == []

    def test_a_job_that_failed_is_tried_again_when_it_is_time(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", "one", due=NOW)])
        (job,) = self._claim(index)
        index.work.end_jobs([JobEnd(job, "the peer is away", NOW + 10 * MINUTE)])
        (waiting,) = index.work.jobs(state=JobState.WAITING)
        assert (waiting.error, waiting.due, waiting.attempts) == ("the peer is away", NOW + 10 * MINUTE, 1)
        assert self._claim(index) == []
        (again,) = self._claim(index, NOW + 10 * MINUTE)
        assert again.attempts == 2

    def test_a_job_that_was_given_up_stays_until_somebody_looks(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", "one", due=NOW), NewJob("send", "two", due=NOW)])
        for job in self._claim(index):
            index.work.end_jobs([JobEnd(job, "refused for good")])
        dead = index.work.jobs(state=JobState.DEAD)
        assert [job.error for job in dead] == ["refused for good"] * 2
        assert self._claim(index, NOW + 100 * MINUTE) == []
        assert index.work.next_due(["send"]) == {}
        assert index.work.retry_jobs([dead[0].job_id, "unknown"], NOW) == 1
        assert index.work.discard_jobs([dead[1].job_id]) == 1
        (again,) = self._claim(index)
        assert (again.key, again.attempts) == (dead[0].key, 1)
        assert index.work.discard_jobs([again.job_id]) == 0, "a running job is not discarded"

    def test_a_lease_that_ended_lets_another_take_over(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", "one", due=NOW)])
        (lost,) = self._claim(index)
        assert self._claim(index) == []
        (taken,) = self._claim(index, NOW + 2 * MINUTE)
        assert taken.attempts == 2
        index.work.end_jobs([JobEnd(lost)])
        assert [job.state for job in index.work.jobs()] == [JobState.RUNNING], "whoever lost the lease has no say"
        index.work.end_jobs([JobEnd(taken)])
        assert index.work.jobs() == []

    def test_a_lease_can_be_extended(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", "one", due=NOW)])
        held = self._claim(index)
        index.work.extend_claims(held, NOW + 10 * MINUTE)
        assert self._claim(index, NOW + 5 * MINUTE) == []
        assert len(self._claim(index, NOW + 10 * MINUTE)) == 1

    def test_asking_again_puts_a_waiting_job_off_but_not_for_ever(self, index: Index) -> None:
        def ask(minute: int) -> None:
            due = NOW + minute * MINUTE
            index.work.add_jobs(
                [NewJob("sync", "study", payload=str(minute).encode(), due=due, latest=NOW + 5 * MINUTE)]
            )

        ask(1)
        ask(3)
        ask(2)
        (job,) = index.work.jobs()
        assert (job.due, job.payload) == (NOW + 3 * MINUTE, b"2")
        ask(9)
        assert index.work.jobs()[0].due == NOW + 5 * MINUTE

    def test_asking_for_a_running_job_makes_it_run_again(self, index: Index) -> None:
        index.work.add_jobs([NewJob("sync", "study", due=NOW)])
        (job,) = self._claim(index, kind="sync")
        index.work.add_jobs([NewJob("sync", "study", payload=b"2", due=NOW + MINUTE)])
        assert self._claim(index, kind="sync") == []
        index.work.end_jobs([JobEnd(job)])
        (again,) = index.work.jobs()
        assert (again.state, again.due, again.payload, again.attempts) == (JobState.WAITING, NOW + MINUTE, b"2", 0)
        (last,) = self._claim(index, NOW + MINUTE, kind="sync")
        index.work.end_jobs([JobEnd(last)])
        assert index.work.jobs() == []

    def test_asking_for_a_job_that_keeps_failing_does_not_hurry_it(self, index: Index) -> None:
        index.work.add_jobs([NewJob("sync", "study", due=NOW)])
        (job,) = self._claim(index, kind="sync")
        index.work.end_jobs([JobEnd(job, "away", NOW + 10 * MINUTE)])
        index.work.add_jobs([NewJob("sync", "study", due=NOW)])
        (waiting,) = index.work.jobs()
        assert (waiting.due, waiting.attempts) == (NOW + 10 * MINUTE, 1)

    def test_asking_for_a_job_that_was_given_up_starts_it_anew(self, index: Index) -> None:
        index.work.add_jobs([NewJob("sync", "study", due=NOW)])
        (job,) = self._claim(index, kind="sync")
        index.work.end_jobs([JobEnd(job, "refused")])
        index.work.add_jobs([NewJob("sync", "study", due=NOW + MINUTE)])
        (again,) = index.work.jobs()
        assert (again.state, again.due, again.attempts) == (JobState.WAITING, NOW + MINUTE, 0)

    def test_a_group_that_cannot_be_served_is_put_off_as_a_whole(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", str(number), "a", due=NOW) for number in range(3)])
        index.work.add_jobs([NewJob("send", "other", "b", due=NOW + MINUTE)])
        (first,) = index.work.claim_jobs("send", NOW, NOW + MINUTE, 1)
        index.work.end_jobs([JobEnd(first, "away", NOW + 5 * MINUTE)])
        index.work.postpone_jobs("send", "a", NOW + 5 * MINUTE)
        assert {(job.group, job.due) for job in index.work.jobs()} == {
            ("a", NOW + 5 * MINUTE),
            ("b", NOW + MINUTE),
        }

    def test_jobs_are_listed_by_what_they_are_and_in_pages(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", f"study\\{number}", due=NOW) for number in range(5)])
        index.work.add_jobs([NewJob("tell", "study\\1", due=NOW)])
        ids = [job.job_id for job in index.work.jobs()]
        assert ids == sorted(ids)
        assert len(ids) == 6
        assert [job.job_id for job in index.work.jobs(after=ids[1], limit=3)] == ids[2:5]
        assert {job.kind for job in index.work.jobs(kind="tell")} == {"tell"}
        assert [job.job_id for job in index.work.jobs(job_id=ids[4])] == [ids[4]]
        assert len(index.work.jobs(key_prefix="study\\")) == 6
        assert index.work.jobs(key_prefix="study_") == []

    def test_of_many_that_claim_at_once_each_job_goes_to_one(self, index: Index) -> None:
        index.work.add_jobs([NewJob("send", str(number), due=NOW) for number in range(40)])
        claimed: list[Job] = []
        lock = threading.Lock()

        def work() -> None:
            while found := self._claim(index, limit=3):
                with lock:
                    claimed.extend(found)

        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(work) for _ in range(4)]:
                done.result()
        assert sorted(job.key for job in claimed) == sorted(str(number) for number in range(40))

    def _claim(self, index: Index, now: datetime = NOW, *, kind: str = "send", limit: int = 10) -> list[Job]:
        return index.work.claim_jobs(kind, now, now + MINUTE, limit)

    # Changes

    def test_changes_tell_what_came_changed_and_went_in_order(self, index: Index) -> None:
        first, second = record(sop="1.2.1"), record(sop="1.2.2")
        index.put([first, second])
        index.put([record(sop="1.2.1", version="new")], replace=True)
        index.delete(first.header.target, NOW)
        changes = index.work.changes(0, 100)
        assert [(change.kind, change.target) for change in changes] == [
            (ChangeKind.STORED, first.header.target),
            (ChangeKind.STORED, second.header.target),
            (ChangeKind.REPLACED, first.header.target),
            (ChangeKind.DELETED, first.header.target),
        ]
        cursors = [change.cursor for change in changes]
        assert cursors == sorted(set(cursors))
        assert abs(datetime.now(UTC) - changes[0].at) < timedelta(hours=1)

    def test_what_changes_nothing_is_no_change(self, index: Index) -> None:
        index.put([record()])
        index.put([record()])
        index.put([record(version="new")])
        index.put([record(sop="1.9")], announce=False)
        assert len(index.work.changes(0, 100)) == 1

    def test_changes_are_counted_by_hour_and_kind(self, index: Index) -> None:
        index.put([record(sop=f"1.2.{number}") for number in range(5)])
        index.put([record(sop="1.2.1", version="new")], replace=True)
        index.delete(Target("1", "1.1", "1.2.0"), NOW)
        stored, replaced, deleted = ChangeKind.STORED, ChangeKind.REPLACED, ChangeKind.DELETED
        first, last = index.work.change_span()
        counted = index.work.count_changes(first, last)
        hours = {hour for hour, _ in counted}
        kinds = {kind: sum(n for (_, one), n in counted.items() if one is kind) for kind in ChangeKind}
        assert kinds == {stored: 5, replaced: 1, deleted: 1}
        assert all((hour.minute, hour.second, hour.microsecond) == (0, 0, 0) for hour in hours)
        assert all(abs(datetime.now(UTC) - hour) < timedelta(hours=2) for hour in hours)
        cursors = [change.cursor for change in index.work.changes(0, 100)]
        assert sum(index.work.count_changes(cursors[1], cursors[4]).values()) == 3
        assert index.work.count_changes(last, last) == {}

    def test_changes_come_in_pages_and_after_a_restart_the_same(self, index: Index, reopen: Reopen) -> None:
        index.put([record(sop=f"1.2.{number}") for number in range(7)])
        index.delete(Target(record().header.target.study_uid), NOW)
        whole = index.work.changes(0, 100)
        assert len(whole) == 14
        again = reopen()
        try:
            paged: list[Change] = []
            while page := again.work.changes(paged[-1].cursor if paged else 0, 3):
                paged += page
            assert paged == whole
            assert again.work.change_span() == (whole[0].cursor - 1, whole[-1].cursor)
        finally:
            again.close()

    def test_old_changes_can_be_forgotten_and_cursors_go_on(self, index: Index) -> None:
        assert index.work.change_span() == (0, 0)
        index.put([record(sop=f"1.2.{number}") for number in range(3)])
        last = index.work.changes(0, 10)[-1].cursor
        assert index.work.forget_changes(NOW - timedelta(days=10_000)) == 0
        assert index.work.forget_changes(datetime.now(UTC) + timedelta(days=1)) == 3
        assert index.work.changes(0, 10) == []
        assert index.work.change_span() == (last, last)
        index.put([record(sop="1.2.9")])
        (change,) = index.work.changes(last, 10)
        assert change.cursor > last

    def test_a_reader_misses_nothing_while_many_write(self, index: Index, reopen: Reopen) -> None:
        """In another process's place: an index of its own over the same storage."""
        reader = reopen()
        done = threading.Event()
        seen: list[Change] = []

        def read() -> None:
            while True:
                ended = done.is_set()
                page = reader.work.changes(seen[-1].cursor if seen else 0, 5)
                seen.extend(page)
                if ended and not page:
                    return

        def write(writer: int) -> None:
            own = reopen()
            try:
                for number in range(15):
                    one = record(study=f"1.{writer}", series=f"1.{writer}.1", sop=f"1.{writer}.1.{number}")
                    own.put([one])
                    if number % 5 == 4:
                        own.delete(one.header.target, NOW)
            finally:
                own.close()

        try:
            with ThreadPoolExecutor(5) as threads:
                reading = threads.submit(read)
                for each in [threads.submit(write, writer) for writer in range(1, 5)]:
                    each.result()
                done.set()
                reading.result()
            assert seen == reader.work.changes(0, 1000)
            assert len(seen) == len({change.cursor for change in seen}) == 4 * (15 + 3)
            for writer in range(1, 5):
                own = [(c.kind, c.target.sop_uid) for c in seen if c.target.study_uid == f"1.{writer}"]
                expected = []
                for number in range(15):
                    expected.append((ChangeKind.STORED, f"1.{writer}.1.{number}"))
                    if number % 5 == 4:
                        expected.append((ChangeKind.DELETED, f"1.{writer}.1.{number}"))
                assert own == expected
        finally:
            reader.close()

    # Records

    def test_a_record_is_kept_with_its_version(self, index: Index, reopen: Reopen) -> None:
        assert index.work.record("item", "one") is None
        assert index.work.write_records([RecordWrite("item", "one", b'{"a": 1}', 0, "20260504")])
        assert index.work.write_records([RecordWrite("item", "one", b'{"a": 2}', 1, "20260505")])
        again = reopen()
        try:
            found = again.work.record("item", "one")
            assert found is not None
            assert (found.content, found.version, found.label) == (b'{"a": 2}', 2, "20260505")
        finally:
            again.close()

    def test_a_record_that_somebody_changed_is_not_overwritten(self, index: Index) -> None:
        assert index.work.write_records([RecordWrite("item", "one", b"1", 0)])
        assert not index.work.write_records([RecordWrite("item", "one", b"2", 0)])
        both = [RecordWrite("item", "two", b"1", 0), RecordWrite("item", "one", b"2", 7)]
        assert not index.work.write_records(both, [NewJob("tell", "both")])
        assert index.work.record("item", "two") is None
        assert index.work.jobs() == []
        assert index.work.write_records([RecordWrite("item", "one", b"3")], [NewJob("tell", "one")])
        assert [job.key for job in index.work.jobs()] == ["one"]

    def test_a_record_can_be_removed(self, index: Index) -> None:
        index.work.write_records([RecordWrite("item", "one", b"1", 0)])
        assert not index.work.write_records([RecordWrite("item", "one", None, 2)])
        assert index.work.write_records([RecordWrite("item", "one", None, 1)])
        assert index.work.record("item", "one") is None
        assert index.work.write_records([RecordWrite("item", "one", None)]), "removing nothing is no error"

    def test_records_are_listed_by_kind_label_and_in_pages(self, index: Index) -> None:
        index.work.write_records(
            [RecordWrite("item", f"{number}", b"x", 0, f"2026050{number}") for number in range(1, 6)]
            + [RecordWrite("other", "1", b"y", 0)]
        )
        assert [one.key for one in index.work.records("item")] == ["1", "2", "3", "4", "5"]
        assert [one.key for one in index.work.records("item", after="2", limit=2)] == ["3", "4"]
        ranged = index.work.records("item", labels=("20260502", "20260504"))
        assert [one.key for one in ranged] == ["2", "3", "4"]

    def test_of_many_that_change_a_record_at_once_none_is_lost(self, index: Index) -> None:
        index.work.write_records([RecordWrite("count", "one", b"0", 0)])

        def add() -> None:
            while True:
                there = index.work.record("count", "one")
                assert there is not None
                content = str(int(there.content) + 1).encode()
                if index.work.write_records([RecordWrite("count", "one", content, there.version)]):
                    return

        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(add) for _ in range(20)]:
                done.result()
        found = index.work.record("count", "one")
        assert found is not None
        assert (found.content, found.version) == (b"20", 21)

    def test_work_outlives_the_rows(self, index: Index) -> None:
        index.put([record()], jobs=[[NewJob("send", "one")]])
        index.work.write_records([RecordWrite("item", "one", b"1", 0)])
        index.clear()
        assert len(index.work.jobs()) == len(index.work.changes(0, 10)) == len(index.work.records("item")) == 1
