"""One id from a request to everything that happens because of it."""

import asyncio
import io
import json
import logging
import threading
from datetime import UTC, datetime

import pytest

from pacs import correlation, logs
from pacs.index.work import NewJob
from pacs.services.jobs import Ended, Handler, JobRunner
from pacs.web.bridge import Bridge


@pytest.fixture
def log_stream():
    return io.StringIO()


def test_a_line_ends_with_the_id_of_its_cause_and_can_be_read_back(log_stream):
    logs.configure("INFO", "text", log_stream, worker=2)

    with correlation.caused_by("abc123"):
        logging.getLogger("pacs.test").info("stored sop=%s", "1.2")
    logging.getLogger("pacs.test").info("listens")

    first, second = log_stream.getvalue().splitlines()
    assert first.endswith("stored sop=1.2 id=abc123")
    assert second.endswith(" listens")
    line = logs.parse(first)
    assert (line.level, line.logger, line.message) == ("INFO", "pacs.test", "stored sop=1.2")
    assert (line.correlation_id, line.worker) == ("abc123", 2)
    assert logs.parse(second).correlation_id == ""


def test_a_json_line_carries_the_id_and_can_be_read_back(log_stream):
    logs.configure("INFO", "json", log_stream)

    with correlation.caused_by("abc123"):
        logging.getLogger("pacs.test").info("stored sop=1.2")

    (line,) = log_stream.getvalue().splitlines()
    assert json.loads(line)["id"] == "abc123"
    assert logs.parse(line).correlation_id == "abc123"


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", "", "{not json", '{"time": 1}'])
def test_what_is_no_line_of_ours_is_not_taken_for_one(line):
    assert logs.parse(line) is None


async def test_a_thread_that_works_for_a_request_knows_its_id():
    bridge = Bridge(threads=4)
    try:

        async def request(correlation_id):
            correlation.begin(correlation_id)
            await asyncio.sleep(0)
            ahead = await asyncio.wrap_future(bridge.ahead(correlation.current))
            return await bridge.run(correlation.current), await bridge.run_pixels(correlation.current), ahead

        found = await asyncio.gather(*(asyncio.create_task(request(f"r{number}")) for number in range(8)))
    finally:
        bridge.close()
    assert found == [(f"r{number}",) * 3 for number in range(8)]


def test_ids_of_others_are_taken_only_when_they_can_stand_in_a_line():
    assert correlation.is_acceptable("0af7651916cd43dd-8448eb211c80319c")
    assert not correlation.is_acceptable("a b")
    assert not correlation.is_acceptable("x" * 65)
    assert not correlation.is_acceptable("")


def test_a_job_and_its_attempts_bear_the_id_of_what_asked_for_it(tmp_path, log_stream):
    from pacs.index.sqlite import SqliteIndex

    logs.configure("INFO", "text", log_stream)
    seen, done = [], threading.Event()

    def run(jobs):
        for job in jobs:
            seen.append((job.key, correlation.current()))
            logging.getLogger("pacs.test").info("tried key=%s", job.key)
            if len(seen) == 1:
                yield Ended(job, "not yet", again_at=None, pause_s=0.0)
            else:
                yield Ended(job)
                done.set()

    index = SqliteIndex(tmp_path / "index.db")
    runner = JobRunner(index.work, [Handler("test", run)])
    try:
        with correlation.caused_by("request-7"):
            index.work.add_jobs([NewJob("test", "a")])
        assert index.work.jobs()[0].as_json()["cause"] == "request-7"
        runner.start()
        while not seen:
            threading.Event().wait(0.01)
        while not any(job.error for job in index.work.jobs()):
            threading.Event().wait(0.01)
        index.work.retry_jobs([index.work.jobs()[0].job_id], datetime.now(UTC))
        runner.wake()
        assert done.wait(60)
    finally:
        runner.stop(5)
        index.close()
    assert seen == [("a", "request-7")] * 2
    lines = [line for line in log_stream.getvalue().splitlines() if "key=a" in line]
    assert len(lines) == 3  # two attempts, and that one of them failed
    assert all(line.endswith(" id=request-7") for line in lines)


def test_an_index_of_before_gets_the_column(tmp_path):
    import sqlite3
    from contextlib import closing

    from pacs.index.sqlite import SqliteIndex

    path = tmp_path / "index.db"
    SqliteIndex(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN cause")
    index = SqliteIndex(path)
    try:
        with correlation.caused_by("later"):
            index.work.add_jobs([NewJob("test", "a")])
        assert index.work.jobs()[0].cause == "later"
    finally:
        index.close()
