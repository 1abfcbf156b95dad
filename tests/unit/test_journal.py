"""The log's last lines in files: several writers, bounded, read back by cursor."""

from __future__ import annotations

import logging
import multiprocessing
import time
from pathlib import Path

import pytest

from pacs.journal import Journal, JournalHandler, Wanted


def logger_over(folder: Path, keep_bytes: int = 1 << 20, worker: int | None = None) -> logging.Logger:
    logger = logging.Logger("pacs.test")
    logger.addHandler(JournalHandler(folder, keep_bytes, worker=worker))
    return logger


def messages(lines: list[dict[str, object]]) -> list[object]:
    return [line["message"] for line in lines]


def test_the_last_lines_come_oldest_first_and_the_next_after_the_cursor(tmp_path: Path) -> None:
    logger, journal = logger_over(tmp_path), Journal(tmp_path)
    for number in range(10):
        logger.info("line %d", number)
    page = journal.newest(Wanted(), 3)
    assert messages(page.lines) == ["line 7", "line 8", "line 9"]
    assert journal.after(page.last, Wanted(), 10).lines == []
    logger.warning("line 10")
    following = journal.after(page.last, Wanted(), 10)
    assert messages(following.lines) == ["line 10"]
    assert following.lines[0]["level"] == "WARNING"


def test_lines_are_wanted_by_level_and_text(tmp_path: Path) -> None:
    logger, journal = logger_over(tmp_path), Journal(tmp_path)
    logger.info("stored sop=1.2.3")
    logger.error("Disk is full")
    logger.info("disk has space again")
    assert messages(journal.newest(Wanted("WARNING"), 10).lines) == ["Disk is full"]
    assert messages(journal.newest(Wanted(text="dISK"), 10).lines) == ["Disk is full", "disk has space again"]
    assert messages(journal.after("1-0", Wanted("ERROR", "disk"), 10).lines) == ["Disk is full"]


def test_requests_that_went_well_can_be_left_out(tmp_path: Path) -> None:
    logger, journal = logger_over(tmp_path), Journal(tmp_path)
    for status in (200, 404, 500):
        logger.info("http method=GET path=/x keys= status=%d ms=1.0 from=127.0.0.1", status)
    logger.info("stored sop=1.2.3")
    assert len(journal.newest(Wanted(), 10).lines) == 4
    kept = messages(journal.newest(Wanted(requests=False), 10).lines)
    assert [str(message).split()[0] for message in kept] == ["http", "stored"]
    assert "status=500" in str(kept[0])


def test_files_stay_bounded_and_a_reader_that_was_left_behind_goes_on_with_what_is_there(tmp_path: Path) -> None:
    logger, journal = logger_over(tmp_path, 8000), Journal(tmp_path)
    first = journal.newest(Wanted(), 1).last
    logger.info("the first")
    for number in range(400):
        logger.info("line %04d", number)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 9000
    assert len(list(tmp_path.iterdir())) == 4
    kept = messages(journal.newest(Wanted(), 1000).lines)
    assert kept[-1] == "line 0399"
    seen: list[object] = []
    after = first
    while True:
        page = journal.after(after, Wanted(), 7)
        seen += messages(page.lines)
        after = page.last
        if not page.more:
            break
    assert seen == kept


def test_a_process_that_was_quiet_goes_on_in_the_newest_file(tmp_path: Path) -> None:
    quiet, busy = logger_over(tmp_path, 8000, 1), logger_over(tmp_path, 8000, 2)
    quiet.info("begins")
    for number in range(400):
        busy.info("line %d", number)
    time.sleep(1.1)
    quiet.info("speaks again")
    (line,) = Journal(tmp_path).newest(Wanted(), 1).lines
    assert line["message"] == "speaks again"
    assert line["worker"] == 1
    assert len(list(tmp_path.iterdir())) == 4


def write_many(folder: Path, worker: int) -> None:
    logger = logger_over(folder, 1 << 20, worker)
    for number in range(500):
        logger.info("worker %d line %d %s", worker, number, "x" * (number % 300))


def test_lines_of_several_processes_never_mix_and_none_is_lost(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_many, args=(tmp_path, worker)) for worker in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = Journal(tmp_path).newest(Wanted(), 5000).lines
    for worker in range(4):
        own = [str(line["message"]).split()[3] for line in lines if line["worker"] == worker]
        assert own == [str(number) for number in range(500)]


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1-0", "1-1-1", "1-²"])
def test_what_is_no_cursor_is_said(tmp_path: Path, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        Journal(tmp_path).after(cursor, Wanted(), 1)
