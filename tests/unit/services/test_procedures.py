"""Worklist, performed steps and completeness together, on both engines; and two nodes that change the same at once."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pacs.dicom.matchers import Range, Sequence, Single
from pacs.dicom.model import Caller, Target
from pacs.dicom.uids import new_uid
from pacs.dicom.worklist_item import key_of, status_of
from pacs.errors import Conflict, NotFound, Unchangeable
from pacs.index.base import Index
from pacs.index.mongo import MongoIndex
from pacs.index.sqlite import SqliteIndex
from pacs.index.work import JobEnd
from pacs.services.completeness import ARRIVAL, COMPLETE_EVENT, QUIET_TIME, Completeness, StudyState, decide
from pacs.services.procedures import Procedures
from tests.contracts.index_records import record
from tests.worklists import order, write_file

CALLER = Caller("TEST", "here", "test")
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
Open = Callable[[], Index]


@pytest.fixture(params=["sqlite", "mongo"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens one node of the same archive after another."""
    mongod = request.getfixturevalue("mongod") if request.param == "mongo" else ""
    name = f"test-{secrets.token_hex(6)}"
    with ExitStack() as opened:

        def open_node() -> Index:
            index = MongoIndex(mongod, name) if mongod else SqliteIndex(tmp_path / "index.sqlite")
            return opened.enter_context(closing(index))

        yield open_node


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Index]:
    with closing(SqliteIndex(tmp_path / "index.sqlite")) as index:
        yield index


def began(study: str, step: str = "S1") -> dict[str, Any]:
    reference = {"0020000D": one("UI", study), "00400009": one("SH", step)}
    return {
        "00080060": one("CS", "CT"),
        "00100020": one("LO", "P1"),
        "00400241": one("AE", "CT1"),
        "00400244": one("DA", "20260102"),
        "00400245": one("TM", "1015"),
        "00400252": one("CS", "IN PROGRESS"),
        "00400253": one("SH", "PPS1"),
        "00400270": one("SQ", reference),
    }


def ended(state: str, *instances: str) -> dict[str, Any]:
    images = [{"00081155": one("UI", uid)} for uid in instances]
    series = {"0020000E": one("UI", "9.1"), "00081140": {"vr": "SQ", "Value": images}}
    return {
        "00400250": one("DA", "20260102"),
        "00400251": one("TM", "1045"),
        "00400252": one("CS", state),
        "00400340": one("SQ", series),
    }


def one(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def ordered(procedures: Procedures, study: str, step: str = "S1") -> Any:
    item, _ = procedures.worklist.put(
        order(**{"0020000D": one("UI", study)}, step={"00400009": one("SH", step)}), CALLER
    )
    return key_of(item)


def test_of_two_nodes_that_end_the_same_step_one_wins(node: Open) -> None:
    nodes = [Procedures.over(node()), Procedures.over(node())]
    for _ in range(10):
        study, uid = new_uid(), new_uid()
        key = ordered(nodes[0], study)
        nodes[0].performed.create(uid, began(study), CALLER)
        start = threading.Barrier(2)

        def end(number: int, uid: str = uid, start: threading.Barrier = start) -> str:
            state = ("COMPLETED", "DISCONTINUED")[number]
            start.wait()
            try:
                nodes[number].performed.change(uid, ended(state, "1.2"), CALLER)
            except Unchangeable:
                return ""
            return state

        with ThreadPoolExecutor(2) as threads:
            (won,) = filter(None, threads.map(end, range(2)))
        for procedures in nodes:
            assert procedures.performed.step(uid, CALLER)["00400252"]["Value"] == [won]
            assert status_of(procedures.worklist.item(key, CALLER)) == won
            assert procedures.completeness.report(study).performed == {uid: won}


def test_of_two_nodes_that_create_the_same_step_one_is_told_that_it_is_there(node: Open) -> None:
    nodes = [Procedures.over(node()), Procedures.over(node())]
    for _ in range(5):
        uid, study = new_uid(), new_uid()

        def create(number: int, uid: str = uid, study: str = study) -> bool:
            try:
                nodes[number].performed.create(uid, began(study), CALLER)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(create, range(2))) == [False, True]


def test_steps_of_one_study_that_end_at_once_are_all_kept(node: Open) -> None:
    nodes = [Procedures.over(node()), Procedures.over(node())]
    study = new_uid()
    ordered(nodes[0], study)
    uids = [new_uid() for _ in range(8)]

    def perform(number: int) -> None:
        procedures = nodes[number % 2]
        procedures.performed.create(uids[number], began(study), CALLER)
        procedures.performed.change(uids[number], ended("COMPLETED", f"1.{number}"), CALLER)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(perform, range(8)))
    report = nodes[0].completeness.report(study)
    assert report.performed == dict.fromkeys(uids, "COMPLETED")
    assert sorted(report.missing) == [f"1.{number}" for number in range(8)]
    assert status_of(nodes[1].worklist.item(next(iter(map(key_of, all_items(nodes[1])))), CALLER)) == "COMPLETED"


def all_items(procedures: Procedures) -> list[Any]:
    return procedures.worklist.search({("00400100",): Sequence({("00400020",): Single("COMPLETED")})}, CALLER)


def test_a_query_by_date_reads_only_what_can_match(sqlite: Index) -> None:
    """And what is done is not read at all."""
    procedures = Procedures.over(sqlite)
    for day in range(1, 29):
        for number in range(3):
            step = {"00400002": one("DA", f"202602{day:02}"), "00400009": one("SH", str(number))}
            item, _ = procedures.worklist.put(order(step=step), CALLER)
            if number:
                procedures.worklist.set_status(key_of(item), "COMPLETED", CALLER)
    read: list[str] = []
    work = sqlite.work
    records = work.records

    def noting(*args: Any, **kwargs: Any) -> Any:
        found = records(*args, **kwargs)
        read.extend(each.key for each in found)
        return found

    work.records = noting  # type: ignore[method-assign]
    try:
        keys = {("00400100",): Sequence({("00400002",): Range("20260210", "20260211")})}
        assert len(procedures.worklist.search(keys, CALLER)) == 2
        assert len(read) == 2
        read.clear()
        keys = {("00400100",): Sequence({("00400002",): Single("20260210"), ("00400020",): Single("COMPLETED")})}
        assert len(procedures.worklist.search(keys, CALLER)) == 2
        assert len(read) == 3
    finally:
        del work.records  # type: ignore[method-assign]


def test_what_was_done_of_a_file_counts_until_the_file_says_something_new(sqlite: Index, tmp_path: Path) -> None:
    (tmp_path / "wl").mkdir()
    path = write_file(tmp_path / "wl" / "a.wl", study="1.2.3", step="S1")
    procedures = Procedures.over(sqlite, folder=tmp_path / "wl")
    procedures.performed.create("5.5", began("1.2.3"), CALLER)
    assert [status_of(item) for item in procedures.worklist.search({}, CALLER)] == ["STARTED"]
    procedures.performed.change("5.5", ended("COMPLETED", "1.2"), CALLER)
    assert procedures.worklist.search({}, CALLER) == []
    write_file(path, study="1.2.3", step="S1", description="corrected")
    assert procedures.worklist.search({}, CALLER) == []
    write_file(path, study="1.2.3", step="S1", date="20260203")  # a new appointment
    assert [status_of(item) for item in procedures.worklist.search({}, CALLER)] == ["SCHEDULED"]
    procedures.performed.create("5.6", began("1.2.3"), CALLER)
    assert [status_of(item) for item in procedures.worklist.search({}, CALLER)] == ["STARTED"]
    path.unlink()
    assert procedures.worklist.search({}, CALLER) == []


# Completeness


@pytest.mark.parametrize(
    ("missing", "announced", "performed", "age_s", "expected"),
    [
        ([], True, ["COMPLETED"], 0, StudyState.COMPLETE),
        ([], True, ["COMPLETED", "DISCONTINUED"], 0, StudyState.COMPLETE),
        ([], True, ["COMPLETED", "IN PROGRESS"], 0, StudyState.RECEIVING),
        ([], True, ["IN PROGRESS"], 0, StudyState.RECEIVING),
        ([], True, ["DISCONTINUED"], 0, StudyState.RECEIVING),
        ([], True, [], 0, StudyState.RECEIVING),
        ([], False, ["COMPLETED"], 0, StudyState.RECEIVING),
        ([], False, [], 0, StudyState.RECEIVING),
        (["1"], True, ["COMPLETED"], 0, StudyState.RECEIVING),
        (["1"], True, ["COMPLETED"], 59.9, StudyState.RECEIVING),
        (["1"], True, ["COMPLETED"], 60, StudyState.INCOMPLETE),
        ([], True, ["IN PROGRESS"], 60, StudyState.QUIET),
        ([], False, [], 60, StudyState.QUIET),
        ([], False, [], None, StudyState.QUIET),
    ],
)
def test_the_state_of_a_study(
    missing: list[str], announced: bool, performed: list[str], age_s: float | None, expected: StudyState
) -> None:
    activity = None if age_s is None else NOW - timedelta(seconds=age_s)
    assert decide(missing, announced, performed, activity, NOW, 60) is expected


def test_what_others_announce_is_missed_too(node: Open) -> None:
    index = node()
    completeness = Completeness(index, 60)
    with pytest.raises(NotFound):
        completeness.report("1")
    completeness.expect("1", ["1.1.1", "1.1.2"], "commitment 7")
    index.put([record("1", "1.1", "1.1.1")])
    report = completeness.report("1")
    assert (report.missing, report.sources) == (("1.1.2",), ("commitment 7",))
    completeness.expect("1", ["1.1.1"], "commitment 7")  # what it said before is replaced
    assert completeness.report("1").missing == ()
    assert not completeness.is_complete("1")  # no modality has completed it
    assert not completeness.is_complete("2")
    assert index.work.jobs() == []  # nobody follows


def test_an_event_is_written_when_all_has_come(sqlite: Index) -> None:
    procedures = Procedures.over(sqlite, quiet_s=60, is_followed=True)
    completeness = procedures.completeness

    def arrive(uid: str) -> None:
        received_at = datetime.now(UTC)
        each = replace(record("1", "1.1", uid), received_at=received_at)
        sqlite.put([each], jobs=[completeness.follow("1", received_at)])

    def look(kind: str) -> None:
        later = datetime.now(UTC) + timedelta(days=1)
        jobs = sqlite.work.claim_jobs(kind, later, later + timedelta(minutes=1), 10)
        assert [job.key for job in jobs] == ["1"]
        sqlite.work.end_jobs([JobEnd(ended.job) for ended in completeness.look(jobs)])

    arrive("1.1.1")
    procedures.performed.create("5.5", began("1"), CALLER)
    look(ARRIVAL)
    assert [job.kind for job in sqlite.work.jobs()] == [QUIET_TIME]
    procedures.performed.change("5.5", ended("COMPLETED", "1.1.1", "1.1.2"), CALLER)
    arrive("1.1.2")
    look(ARRIVAL)
    (event,) = sqlite.work.jobs()
    assert (event.kind, event.key, event.payload) == (COMPLETE_EVENT, "1", b'{"state":"complete","missing":0}')
    assert completeness.is_complete("1")


def test_an_event_is_written_when_it_has_become_quiet(sqlite: Index) -> None:
    completeness = Completeness(sqlite, 0.001, is_followed=True)
    completeness.expect("1", ["1.1.9"], "commitment")
    sqlite.put([record("1", "1.1", "1.1.1")])
    later = datetime.now(UTC) + timedelta(days=1)
    jobs = sqlite.work.claim_jobs(ARRIVAL, later, later + timedelta(minutes=1), 10)
    time.sleep(0.02)
    sqlite.work.end_jobs([JobEnd(end.job) for end in completeness.look(jobs)])
    (event,) = sqlite.work.jobs()
    assert (event.kind, event.payload) == (COMPLETE_EVENT, b'{"state":"incomplete","missing":1}')


def test_an_instance_in_another_study_of_the_same_step_is_not_missed(sqlite: Index) -> None:
    procedures = Procedures.over(sqlite)
    step = began("1")
    step["00400270"]["Value"].append({"0020000D": one("UI", "2")})
    procedures.performed.create("5.5", step, CALLER)
    procedures.performed.change("5.5", ended("COMPLETED", "1.1.1", "2.1.1"), CALLER)
    sqlite.put([record("1", "1.1", "1.1.1"), record("2", "2.1", "2.1.1")])
    for study in ("1", "2"):
        assert procedures.completeness.is_complete(study)
    sqlite.remove([Target("2")])
    assert procedures.completeness.report("1").missing == ("2.1.1",)
