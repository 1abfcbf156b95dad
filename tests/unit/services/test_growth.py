"""How the archive grows, counted over a real index, and what it holds."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from pacs.dicom.model import Target
from pacs.errors import OutOfResources
from pacs.index.sqlite import SqliteIndex
from pacs.services import growth as growth_service
from pacs.services.growth import Growth, Span
from pacs.services.holdings import Holdings
from pacs.services.presence import Presence
from tests.contracts.index_records import record


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(tmp_path / "index.sqlite")) as index:
        yield index


def put(index: SqliteIndex, number: int, *, first: int = 0) -> None:
    index.put([record(sop=f"1.2.{first + sop}", size_bytes=1000) for sop in range(number)])


def test_what_is_stored_and_deleted_is_there_at_once_and_stays_when_it_is_counted(index: SqliteIndex) -> None:
    growth = Growth(index)
    put(index, 5)
    index.delete(Target("1", "1.1", "1.2.0"), datetime.now(UTC))
    now = datetime.now(UTC)
    before = growth.history(Span.HOUR, 48, now)
    while growth.count(now):
        pass
    after = growth.history(Span.HOUR, 48, now)
    assert before == after
    assert len(after) == 48
    assert sum(one["stored"] for one in after) == 5
    assert sum(one["deleted"] for one in after) == 1
    assert (after[-1]["instances"], after[-1]["bytes"], after[-1]["studies"]) == (4, 4000, 1)
    assert sum(one["stored"] for one in growth.history(Span.DAY, 2, now)) == 5


def test_changes_are_counted_once_however_many_processes_count(index: SqliteIndex) -> None:
    one, two = Growth(index), Growth(index)
    now = datetime.now(UTC)
    put(index, 5)
    for _ in range(3):
        one.count(now)
        two.count(now)
    put(index, 5, first=10)
    two.count(now)
    one.count(now)
    assert sum(bucket["stored"] for bucket in one.history(Span.DAY, 2, now)) == 10


def test_a_count_that_another_process_made_meanwhile_is_not_made_again(
    index: SqliteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Growth(index), Growth(index)
    now = datetime.now(UTC)
    put(index, 5)
    counts = index.counts

    def interrupted() -> object:
        monkeypatch.setattr(index, "counts", counts)
        two.count(now)
        return counts()

    monkeypatch.setattr(index, "counts", interrupted)
    with pytest.raises(OutOfResources):
        one.count(now)
    assert sum(bucket["stored"] for bucket in one.history(Span.DAY, 2, now)) == 5


def test_many_changes_are_counted_in_parts(index: SqliteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth_service, "_AT_ONCE", 10)
    growth = Growth(index)
    put(index, 35)
    now = datetime.now(UTC)
    assert [growth.count(now) for _ in range(4)] == [True, True, True, False]
    assert sum(one["stored"] for one in growth.history(Span.HOUR, 2, now)) == 35


def test_a_quiet_minute_writes_nothing(index: SqliteIndex) -> None:
    growth = Growth(index)
    now = datetime.now(UTC)
    put(index, 1)
    growth.count(now)
    hour = index.work.records("growth-hour")
    place = index.work.record("growth-place", "all")
    growth.count(now)
    assert index.work.records("growth-hour") == hour
    assert index.work.record("growth-place", "all") == place


def test_totals_are_carried_over_hours_in_which_nobody_looked(index: SqliteIndex) -> None:
    growth = Growth(index)
    now = datetime.now(UTC)
    put(index, 3)
    growth.count(now - timedelta(hours=3))
    history = growth.history(Span.HOUR, 5, now)
    assert [one["instances"] for one in history] == [None, 3, 3, 3, 3]


def test_hours_that_are_too_old_go(index: SqliteIndex) -> None:
    growth = Growth(index)
    now = datetime.now(UTC)
    growth.count(now - timedelta(days=40))
    growth.count(now)
    growth.count(now + timedelta(hours=1))
    assert len(index.work.records("growth-hour")) == 2
    assert len(index.work.records("growth-day")) in (2, 3)


def test_a_small_archive_is_counted_by_modality_for_who_asks(index: SqliteIndex) -> None:
    holdings = Holdings(index)
    now = datetime.now(UTC)
    assert holdings.told(now)["modalities"] == []
    put(index, 3)
    index.put([record("2", "2.1", "2.1.1", Modality="MR", size_bytes=5000)])
    told = holdings.told(now + timedelta(seconds=10))
    assert told["totals"] == {"patients": 1, "studies": 2, "series": 2, "instances": 4, "bytes": 8000}
    assert told["modalities"] == [
        {"modality": "MR", "studies": 1, "series": 1, "instances": 1, "bytes": 5000},
        {"modality": "CT", "studies": 1, "series": 1, "instances": 3, "bytes": 3000},
    ]


def test_who_serves_the_archive_is_seen_until_it_ends(index: SqliteIndex) -> None:
    context = multiprocessing.get_context("fork")
    other = context.Process(target=time.sleep, args=(60,))
    other.start()
    own, far = Presence(index.work, {"version": "1"}), Presence(index.work, {"version": "2", "host": "elsewhere"})
    near = Presence(index.work, {"version": "3", "pid": other.pid})
    for one in (own, far, near):
        one.start()
    now = datetime.now(UTC)
    assert {process["version"] for process in own.processes(now)} == {"1", "2", "3"}
    other.kill()
    other.join()
    for one in (own, far, near):
        one.stop()
    assert {process["version"] for process in own.processes(now)} == {"1", "2"}
    assert own.processes(now + timedelta(minutes=5)) == []
    again = Presence(index.work, {"version": "4"})
    again.start()
    again.stop()
    assert {orjson.loads(record.content)["version"] for record in index.work.records("process")} == {"1", "2", "4"}
