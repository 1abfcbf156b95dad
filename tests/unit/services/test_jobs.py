"""The runner of jobs, over a real index."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pacs.errors import OutOfResources
from pacs.index.sqlite import SqliteIndex
from pacs.index.work import Job, JobState, NewJob, Work
from pacs.services import jobs as runner_module
from pacs.services.jobs import Ended, Handler, JobRunner, Unavailable


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.setattr(runner_module, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(runner_module, "_POLL_S", 0.2)
    with closing(SqliteIndex(tmp_path / "index.sqlite")) as index:
        yield index.work


def eventually(is_so: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Recorder:
    """A handler that notes what it was given. fail: what to raise, or say, of a job, by its key."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.fail: dict[str, Exception | tuple[str, bool]] = {}

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        self.batches.append([job.key for job in jobs])
        for job in jobs:
            failure = self.fail.get(job.key)
            if isinstance(failure, Exception):
                raise failure
            if failure is not None:
                yield Ended(job, *failure)
            else:
                yield Ended(job)

    @property
    def keys(self) -> list[str]:
        return [key for batch in self.batches for key in batch]


@pytest.fixture
def running() -> Iterator[Callable[[JobRunner], JobRunner]]:
    begun: list[JobRunner] = []

    def run(runner: JobRunner) -> JobRunner:
        begun.append(runner)
        runner.start()
        return runner

    yield run
    for runner in begun:
        runner.stop(5)


Running = Callable[[JobRunner], JobRunner]


def test_jobs_are_done_each_once(work: Work, running: Running) -> None:
    did = Recorder()
    work.add_jobs([NewJob("send", str(number), "ab"[number % 2]) for number in range(20)])
    running(JobRunner(work, [Handler("send", did, batch=4, threads=2)]))
    eventually(lambda: work.jobs() == [])
    assert sorted(did.keys, key=int) == [str(number) for number in range(20)]
    assert all(len({int(key) % 2 for key in batch}) == 1 for batch in did.batches), "a batch is of one group"


def test_a_job_that_comes_later_is_done_when_the_runner_is_woken(work: Work, running: Running) -> None:
    did = Recorder()
    runner = running(JobRunner(work, [Handler("send", did)]))
    work.add_jobs([NewJob("send", "later", due=datetime.now(UTC) + timedelta(seconds=0.3))])
    runner.wake()
    eventually(lambda: did.keys == ["later"])


def test_a_failure_is_tried_again_until_it_works(work: Work, running: Running) -> None:
    did = Recorder()
    did.fail["one"] = ("the peer is busy", False)
    work.add_jobs([NewJob("send", "one"), NewJob("send", "two")])
    running(JobRunner(work, [Handler("send", did)]))
    eventually(lambda: did.keys.count("one") >= 3)
    assert did.keys.count("two") == 1
    (waiting,) = work.jobs()
    assert waiting.error == "the peer is busy"
    del did.fail["one"]
    eventually(lambda: work.jobs() == [])


def test_what_is_refused_for_good_is_given_up_and_stays(work: Work, running: Running) -> None:
    did = Recorder()
    did.fail["one"] = ("the peer does not know this SOP class", True)
    work.add_jobs([NewJob("send", "one")])
    running(JobRunner(work, [Handler("send", did)]))
    eventually(lambda: [job.state for job in work.jobs()] == [JobState.DEAD])
    assert work.jobs()[0].error == "the peer does not know this SOP class"


def test_what_fails_for_too_long_is_given_up(work: Work, running: Running) -> None:
    did = Recorder()
    did.fail["one"] = ("away", False)
    work.add_jobs([NewJob("send", "one")])
    running(JobRunner(work, [Handler("send", did)], give_up_s=0.3))
    eventually(lambda: [job.state for job in work.jobs()] == [JobState.DEAD])


@pytest.mark.parametrize("error", [OutOfResources("the disk is full"), ValueError("a mistake")])
def test_an_error_takes_only_what_is_left_of_the_batch_back(work: Work, running: Running, error: Exception) -> None:
    did = Recorder()
    did.fail["2"] = error
    due = datetime.now(UTC) - timedelta(seconds=10)
    work.add_jobs([NewJob("send", str(n), due=due + timedelta(seconds=n)) for n in range(4)])
    running(JobRunner(work, [Handler("send", did, batch=4)]))
    eventually(lambda: did.keys.count("2") >= 2)
    del did.fail["2"]
    eventually(lambda: work.jobs() == [])
    assert did.keys.count("0") == did.keys.count("1") == 1


def test_when_a_group_is_away_its_other_jobs_are_not_tried_one_by_one(work: Work, running: Running) -> None:
    did = Recorder()
    for number in range(6):
        did.fail[f"a{number}"] = Unavailable("the peer cannot be reached")
    work.add_jobs([NewJob("send", f"a{number}", "a") for number in range(6)])
    work.add_jobs([NewJob("send", "b", "b")])
    begun = time.monotonic()
    running(JobRunner(work, [Handler("send", did, batch=2)]))
    eventually(lambda: "b" in did.keys)
    eventually(lambda: len(did.batches) >= 4)
    # Each attempt puts the whole group off: there are no more of them than pauses.
    assert len(did.batches) - 1 <= (time.monotonic() - begun) / 0.025 + 1
    did.fail.clear()
    eventually(lambda: work.jobs() == [])


def test_a_stop_between_two_jobs_gives_the_rest_back_at_once(work: Work) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(jobs: Sequence[Job]) -> Iterator[Ended]:
        for job in jobs:
            begun.set()
            go_on.wait(60)
            yield Ended(job)

    work.add_jobs([NewJob("send", str(number)) for number in range(3)])
    runner = JobRunner(work, [Handler("send", slow, batch=3)])
    runner.start()
    assert begun.wait(60)
    stopping = threading.Thread(target=runner.stop, args=(10,))
    stopping.start()
    eventually(lambda: runner._stop.is_set())
    go_on.set()
    stopping.join(60)
    left = work.jobs()
    assert [job.state for job in left] == [JobState.WAITING] * 2
    assert all(job.due <= datetime.now(UTC) for job in left)


def test_a_job_longer_than_its_lease_is_done_once(
    work: Work, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "_LEASE_S", 3)
    monkeypatch.setattr(runner_module, "_RENEW_S", 0.1)
    did: list[str] = []

    def slow(jobs: Sequence[Job]) -> Iterator[Ended]:
        for job in jobs:
            did.append(job.key)
            time.sleep(5)
            yield Ended(job)

    work.add_jobs([NewJob("send", "one")])
    running(JobRunner(work, [Handler("send", slow)]))
    running(JobRunner(work, [Handler("send", slow)]))
    eventually(lambda: work.jobs() == [])
    assert did == ["one"]
