"""The writer thread: grouped commits, and what befalls one caller stays with it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacs.errors import OutOfResources
from pacs.index.sqlite_turn import Turn
from pacs.index.sqlite_writer import Writer

Add = Callable[[sqlite3.Connection], int]


class Bench:
    """A writer on a table of numbers, with a way to keep it busy."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self.path = path
        self.max_pages = 0
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE numbers (number INTEGER, filler BLOB)")
        connection.close()
        self.commits: list[str] = []
        self.writer = Writer(self._connect, timeout_s, Turn(path))
        self.entered, self.released = threading.Event(), threading.Event()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=0.2, isolation_level=None, check_same_thread=False)
        connection.set_trace_callback(lambda sql: self.commits.append(sql) if sql == "COMMIT" else None)
        if self.max_pages:
            connection.execute(f"PRAGMA max_page_count = {self.max_pages}")
        return connection

    def add(self, number: int, size_bytes: int = 0) -> Add:
        def run(connection: sqlite3.Connection) -> int:
            connection.execute("INSERT INTO numbers VALUES (?, zeroblob(?))", (number, size_bytes))
            return number

        return run

    def block(self, connection: sqlite3.Connection) -> int:
        self.entered.set()
        self.released.wait(60)
        return self.add(0)(connection)

    def numbers(self) -> list[int]:
        connection = sqlite3.connect(self.path)
        try:
            return [row[0] for row in connection.execute("SELECT number FROM numbers ORDER BY number")]
        finally:
            connection.close()

    def later(self, function: Add) -> tuple[threading.Thread, list[int | BaseException]]:
        results: list[int | BaseException] = []

        def call() -> None:
            try:
                results.append(self.writer.run(function))
            except BaseException as error:  # noqa: BLE001 - looked at by the test
                results.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        return thread, results


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "numbers.sqlite")
    yield bench
    bench.released.set()
    bench.writer.close()


def failing(connection: sqlite3.Connection) -> int:
    connection.execute("INSERT INTO numbers VALUES (666, NULL)")
    raise ValueError("mine alone")


def test_callers_that_wait_together_share_a_commit_and_a_failure_stays_with_its_own(bench: Bench) -> None:
    calls = [bench.later(bench.block)]
    assert bench.entered.wait(60)
    calls += [bench.later(bench.add(number)) for number in (1, 2, 3)]
    calls.append(bench.later(failing))
    time.sleep(0.1)
    bench.released.set()
    for thread, _ in calls:
        thread.join(60)
    assert [results[0] for _, results in calls[:4]] == [0, 1, 2, 3]
    assert isinstance(calls[4][1][0], ValueError)
    assert bench.numbers() == [0, 1, 2, 3]
    assert len(bench.commits) == 2


def test_a_full_disk_is_out_of_resources_and_spares_what_fits(bench: Bench) -> None:
    bench.max_pages = 40
    bench.writer._reset()
    calls = [bench.later(bench.block)]
    assert bench.entered.wait(60)
    calls += [bench.later(bench.add(1)), bench.later(bench.add(2, 10_000_000)), bench.later(bench.add(3))]
    time.sleep(0.1)
    bench.released.set()
    for thread, _ in calls:
        thread.join(60)
    assert [results[0] for _, results in (calls[0], calls[1], calls[3])] == [0, 1, 3]
    assert isinstance(calls[2][1][0], OutOfResources)
    bench.max_pages = 100_000
    bench.writer._reset()
    assert bench.writer.run(bench.add(4, 1_000_000)) == 4
    assert bench.numbers() == [0, 1, 3, 4]


def test_a_locked_file_is_out_of_resources_until_it_is_free(bench: Bench) -> None:
    other = sqlite3.connect(bench.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutOfResources):
        bench.writer.run(bench.add(1))
    other.execute("ROLLBACK")
    other.close()
    assert bench.writer.run(bench.add(2)) == 2
    assert bench.numbers() == [2]


def test_a_wedged_writer_lets_its_callers_go_and_commits_nothing_of_theirs(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "numbers.sqlite", timeout_s=0.3)
    calls = [bench.later(bench.block)]
    assert bench.entered.wait(60)
    calls.append(bench.later(bench.add(1)))
    for thread, results in calls:
        thread.join(60)
        assert isinstance(results[0], OutOfResources)
    bench.released.set()
    assert bench.writer.run(bench.add(2)) == 2
    assert bench.numbers() == [2]
    bench.writer.close()


def test_a_dead_writer_does_not_keep_its_callers_waiting(bench: Bench) -> None:
    bench.writer._jobs.put(None)
    bench.writer._thread.join(60)
    began = time.monotonic()
    with pytest.raises(OutOfResources):
        bench.writer.run(bench.add(1))
    assert time.monotonic() - began < 5


def test_closing_finishes_what_is_queued_and_refuses_what_comes_later(bench: Bench) -> None:
    calls = [bench.later(bench.block)]
    assert bench.entered.wait(60)
    calls += [bench.later(bench.add(number)) for number in range(1, 9)]
    time.sleep(0.1)
    closing = threading.Thread(target=bench.writer.close)
    closing.start()
    bench.released.set()
    closing.join(60)
    assert not closing.is_alive()
    for thread, _ in calls:
        thread.join(60)
    assert bench.numbers() == list(range(9))
    with pytest.raises(OutOfResources):
        bench.writer.run(bench.add(1))
