from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pacs.errors import Invalid, NotAcceptable, OutOfResources, TooSlow, Undecodable
from pacs.imaging.pool import Pool
from tests.unit.imaging import work


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(workers=2, queue_limit=4, timeout_s=10, memory_bytes=2 << 30)
    yield pool
    pool.close()


def test_a_call_runs_in_another_process_and_comes_back(pool: Pool) -> None:
    assert pool.run(work.add, 2, right=3) == 5
    assert pool.run(work.own_id) in pool.worker_ids()


def test_nothing_is_started_before_the_first_call(pool: Pool) -> None:
    assert pool.worker_ids() == []


def test_one_caller_after_another_keeps_one_worker_warm(pool: Pool) -> None:
    assert len({pool.run(work.own_id) for _ in range(5)}) == 1


def test_callers_at_once_get_different_workers_up_to_the_limit(pool: Pool) -> None:
    with ThreadPoolExecutor(4) as threads:
        ids = set(threads.map(lambda _: pool.run(work.own_id, 0.2), range(4)))
    assert len(ids) == 2
    assert ids == set(pool.worker_ids())


def test_large_results_come_back_whole(pool: Pool) -> None:
    assert pool.run(work.bytes_of, 50_000_000) == bytes(50_000_000)


def test_errors_cross_the_process_border_with_what_they_carry(pool: Pool) -> None:
    with pytest.raises(NotAcceptable, match="nothing of this") as refused:
        pool.run(work.refuse)
    assert refused.value.available == ("image/png", "image/jpeg")
    with pytest.raises(Invalid, match="no such key") as invalid:
        pool.run(work.refuse_key)
    assert invalid.value.subject == "Rows"


def test_a_defect_is_undecodable_and_its_traceback_is_logged(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Undecodable):
        pool.run(work.fail)
    assert "KeyError: 'a defect'" in caplog.text


@pytest.mark.parametrize("function", [work.crash, work.be_killed])
def test_a_dead_worker_fails_its_own_call_and_is_replaced(pool: Pool, function: object) -> None:
    before = pool.run(work.own_id)
    with pytest.raises(Undecodable):
        pool.run(function)  # type: ignore[arg-type]
    after = pool.run(work.own_id)
    assert after != before
    assert not psutil.pid_exists(before)


def test_a_crash_leaves_the_call_beside_it_alone(pool: Pool) -> None:
    with ThreadPoolExecutor(1) as thread:
        beside = thread.submit(pool.run, work.own_id, 0.5)
        time.sleep(0.1)
        with pytest.raises(Undecodable):
            pool.run(work.crash)
        assert beside.result() in pool.worker_ids()


def test_a_worker_that_died_idle_is_replaced_unnoticed(pool: Pool) -> None:
    psutil.Process(pool.run(work.own_id)).kill()
    time.sleep(0.3)
    assert pool.run(work.add, 1) == 2


def test_a_call_over_time_is_given_up_and_its_worker_is_gone() -> None:
    pool = Pool(workers=1, timeout_s=0.5)
    try:
        pool.run(work.add, 1)
        (slow,) = pool.worker_ids()
        started = time.monotonic()
        with pytest.raises(TooSlow, match="too long"):
            pool.run(work.own_id, 30)
        assert time.monotonic() - started < 3
        assert not psutil.pid_exists(slow)
        assert pool.run(work.add, 1) == 2
    finally:
        pool.close()


def test_a_call_may_be_given_more_time_than_the_others() -> None:
    pool = Pool(workers=1, timeout_s=0.3)
    try:
        pool.run_for(5, work.own_id)
        assert pool.run_for(5, work.own_id, 0.6) in pool.worker_ids()
    finally:
        pool.close()


def test_too_many_waiting_callers_are_out_of_resources_at_once() -> None:
    pool = Pool(workers=1, queue_limit=1, timeout_s=10)
    try:
        with ThreadPoolExecutor(2) as threads:
            served = [threads.submit(pool.run, work.own_id, 1.0) for _ in range(2)]
            time.sleep(0.3)
            started = time.monotonic()
            with pytest.raises(OutOfResources):
                pool.run(work.add, 1)
            assert time.monotonic() - started < 0.5
            assert served[0].result() == served[1].result()
    finally:
        pool.close()


def test_memory_over_the_limit_is_undecodable_and_the_worker_lives(pool: Pool) -> None:
    before = pool.run(work.own_id)
    with pytest.raises(Undecodable, match="memory"):
        pool.run(work.devour, 3 << 30)
    assert pool.run(work.own_id) == before


def test_idle_workers_end_by_themselves() -> None:
    pool = Pool(workers=1, idle_s=0.3)
    try:
        first = pool.run(work.own_id)
        deadline = time.monotonic() + 60
        while psutil.pid_exists(first) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert pool.worker_ids() == []
        assert pool.run(work.own_id) != first
    finally:
        pool.close()


def test_closing_ends_running_calls_and_all_workers() -> None:
    pool = Pool(workers=2)
    with ThreadPoolExecutor(1) as thread:
        pool.run(work.add, 1)
        running = thread.submit(pool.run, work.own_id, 30)
        time.sleep(0.3)
        ids = pool.worker_ids()
        pool.close()
        with pytest.raises(OutOfResources):
            running.result(60)
    assert ids
    assert not any(psutil.pid_exists(worker) for worker in ids)
    with pytest.raises(OutOfResources):
        pool.run(work.add, 1)
    pool.close()


def test_workers_outlive_the_thread_that_started_them(pool: Pool) -> None:
    ids: list[int] = []
    thread = threading.Thread(target=lambda: ids.append(pool.run(work.own_id)))
    thread.start()
    thread.join()
    assert pool.run(work.own_id) == ids[0]


def test_workers_ignore_interrupts(pool: Pool) -> None:
    assert pool.run(work.interrupt_ignored)


def test_an_idle_worker_is_small_and_has_imported_no_server(pool: Pool) -> None:
    modules = pool.run(work.imported)
    assert not {"aiohttp", "pynetdicom", "pydicom", "numpy"} & set(modules)
    (worker,) = pool.worker_ids()
    assert psutil.Process(worker).memory_info().rss < 30_000_000


def test_busy_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    late = tmp_path / "late"
    script = (
        "import threading, time\n"
        "from pacs.imaging.pool import Pool\n"
        "from tests.unit.imaging import work\n"
        "pool = Pool(workers=2, timeout_s=60)\n"
        f"threading.Thread(target=pool.run, args=(work.touch_later, {str(late)!r}, 3)).start()\n"
        "pool.run(work.add, 1)\n"
        "print(*pool.worker_ids(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [psutil.Process(int(number)) for number in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=2.5)
    assert alive == []
    assert not late.exists()


def test_the_rest_of_an_answer_waits_its_turn_however_long_the_queue_is() -> None:
    pool = Pool(workers=1, queue_limit=1, timeout_s=0.4)
    try:
        with ThreadPoolExecutor(8) as threads:
            first = threads.submit(pool.run_for, 5, work.own_id, 0.8)
            time.sleep(0.1)
            patient = [threads.submit(pool.run_in_turn, 5, work.add, number) for number in range(4)]
            time.sleep(0.1)
            with pytest.raises(OutOfResources):
                pool.run(work.add, 1)
            assert [each.result() for each in patient] == [1, 2, 3, 4]
            first.result()
    finally:
        pool.close()
