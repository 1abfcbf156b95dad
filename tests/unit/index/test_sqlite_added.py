"""Added indexes of the SQLite engine: they are used, and change no answer."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pacs.dicom.keys import resolve
from pacs.dicom.matchers import Empty, Matcher, Range, Sequence, Single, TagPath, UidList, ValueList, Wildcard, Words
from pacs.dicom.matching import matches
from pacs.dicom.model import InstanceRecord, Level
from pacs.index import sqlite_added, sqlite_search
from pacs.index.base import Query
from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_conditions import install
from tests.contracts.index_records import record
from tests.unit.index.old_index import HERE

LONG = "x" * 300 + "End"


def records() -> list[InstanceRecord]:
    values: dict[str, list[Any]] = {
        "RequestingPhysician": [..., "Doe^Jane", "Müller^Jörg", "Yamada=山田^太郎", "^^^", ["A", "Roe^Jim"]],
        "ContrastBolusAgent": [..., "Iod", "IOD 300 [%_]", LONG, ""],
        "TriggerTime": [..., 12, 12.5, "odd"],
        "DateOfLastCalibration": [..., "20240131", ["20230101", "20250101"], "never"],
        "FrameReferenceDateTime": [..., "20240131101500+0100", "2024"],
        "ExposureIndex": [..., 3],
        "TransducerFrequency": [..., 70000],
        "ReferencedFrameOfReferenceUID": [..., "1.2.3", "1.2.4"],
    }
    private: list[dict[str, Any]] = [
        {},
        {"00110010": {"vr": "LO", "Value": ["ACME"]}, "00111003": {"vr": "LO", "Value": ["12"]}},
        {"00110011": {"vr": "LO", "Value": ["ACME"]}, "00111103": {"vr": "DS", "Value": [12]}},
        {"00110010": {"vr": "LO", "Value": ["ACME"]}, "00111003": {"vr": "UN", "InlineBinary": "AAAA"}},
    ]
    items: list[Any] = [
        ...,
        [{"CodeValue": "C1"}, {"CodeValue": "C2", "CodeMeaning": "Two"}],
        [{}],
        [{"CodeMeaning": "two"}],
    ]
    found = []
    for number in range(60):
        chosen = {keyword: listed[number * 7 % 31 % len(listed)] for keyword, listed in values.items()}
        chosen["AnatomicRegionSequence"] = items[number % len(items)]
        study = f"1.{number % 5}"
        found.append(record(study, f"{study}.1", f"{study}.1.{number}", **chosen, **private[number % len(private)]))
    return found


KEYS: tuple[tuple[str, tuple[Matcher, ...]], ...] = (
    (
        "RequestingPhysician",
        (
            *(Single("doe^jane"), Wildcard("*"), Wildcard("mul*"), Wildcard("*=山*"), Single("=山田^太郎"), Empty()),
            *(
                Words(("jim",)),
                ValueList((Single("A"), Wildcard("d*"))),
                Wildcard("^*"),
                Wildcard("=*^*"),
                Wildcard("?"),
            ),
        ),
    ),
    (
        "ContrastBolusAgent",
        (Single("iod"), Wildcard("*[*"), Single(LONG), Wildcard("xxx*end"), Wildcard("i*"), Empty()),
    ),
    ("TriggerTime", (Single("12"), Single("12.50"), ValueList((Single("12"), Empty())))),
    ("DateOfLastCalibration", (Single("20240131"), Range("2024", ""), Range("20240101", ""), Range("", "20230601"))),
    ("FrameReferenceDateTime", (Range("20240131091500+0000", ""), Single("2024"), Range("", "20240131"))),
    ("ReferencedFrameOfReferenceUID", (UidList(("1.2.3",)), UidList((*(f"1.{n}" for n in range(80)), "1.2.4")))),
    ("00110003@ACME", (Single("12"), Wildcard("1*"), Single("12.0"), Empty())),
    (
        "AnatomicRegionSequence.CodeValue",
        (Single("c2"), Wildcard("C*"), Empty()),
    ),
)
CASES = [
    pytest.param(resolve(name), matcher, id=f"{name} {matcher}"[:70]) for name, listed in KEYS for matcher in listed
]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqliteIndex, SqliteIndex, list[InstanceRecord]]]:
    """The same records with and without indexes; half of them came before the indexes, half after."""
    folder = tmp_path_factory.mktemp("added")
    listed = records()
    with_indexes, without = SqliteIndex(folder / "with.sqlite"), SqliteIndex(folder / "without.sqlite")
    without.put(listed)
    with_indexes.put(listed[:30])
    paths = [resolve(name) for name, _ in KEYS]
    for path in paths:
        with_indexes.add_index(path)
    with_indexes.put(listed[30:])
    for path in paths:
        while not with_indexes.fill_index(path):
            pass
    yield with_indexes, without, listed
    with_indexes.close()
    without.close()


def key_of(path: TagPath, matcher: Matcher) -> dict[TagPath, Matcher]:
    return {path: matcher} if len(path) == 1 else {path[:1]: Sequence({path[1:]: matcher})}


@pytest.mark.parametrize(("path", "matcher"), CASES)
def test_answers_are_the_references_with_and_without(
    full: tuple[SqliteIndex, SqliteIndex, list[InstanceRecord]], path: TagPath, matcher: Matcher
) -> None:
    with_indexes, without, listed = full
    keys = key_of(path, matcher)
    (key,) = keys
    expected = {one.header.target.sop_uid for one in listed if matches(keys[key], key, one.header.attributes)}
    for index in (with_indexes, without):
        assert {one.target.sop_uid for one in index.select(keys)} == expected
    for level in Level:
        assert with_indexes.search(Query(level, keys)).rows == without.search(Query(level, keys)).rows


def test_the_cases_tell_matches_from_others(
    full: tuple[SqliteIndex, SqliteIndex, list[InstanceRecord]],
) -> None:
    counts = [len(full[1].select(key_of(*case.values))) for case in CASES]  # type: ignore[arg-type]
    assert sum(0 < count < 60 for count in counts) > len(counts) * 3 // 4


def plan_of(index: SqliteIndex, level: Level, keys: dict[TagPath, Matcher]) -> str:
    """What EXPLAIN QUERY PLAN says of the statements that look for rows."""
    connection = index._connect()
    try:
        slots = install(connection)
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        sqlite_search.search(connection, slots, Query(level, keys))
        connection.set_trace_callback(None)
        looking = [each for each in statements if "FROM added_values" in each or "dicom_meets" in each]
        return "\n".join(row[3] for each in looking for row in connection.execute(f"EXPLAIN QUERY PLAN {each}"))
    finally:
        connection.close()


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize(
    ("path", "matcher"),
    [
        (("00181060",), Single("12")),
        (("00321032",), Wildcard("mul*")),
        (("00110003@ACME",), Single("12")),
        (("00082218", "00080100"), Single("C1")),
    ],
)
def test_a_search_goes_by_the_index(
    full: tuple[SqliteIndex, SqliteIndex, list[InstanceRecord]], level: Level, path: TagPath, matcher: Matcher
) -> None:
    with_indexes, without, _ = full
    keys = key_of(path, matcher)
    plan = plan_of(with_indexes, level, keys)
    assert "SEARCH added_values USING PRIMARY KEY (index_id=? AND kind=? AND value" in plan, plan
    assert "SEARCH i USING INTEGER PRIMARY KEY (rowid=?)" in plan, plan
    assert "SCAN i" not in plan
    assert "added_values" not in plan_of(without, level, keys)


def test_an_index_that_is_not_complete_is_not_used(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")
    index.put(records())
    path = ("00181060",)
    index.add_index(path)
    keys: dict[TagPath, Matcher] = {path: Single("12")}
    before = index.select(keys)
    assert before
    assert "added_values" not in plan_of(index, Level.IMAGE, keys)
    while not index.fill_index(path):
        pass
    assert "added_values" in plan_of(index, Level.IMAGE, keys)
    assert index.select(keys) == before
    index.close()


def test_two_processes_fill_one_index_while_instances_arrive(tmp_path: Path) -> None:
    """The server's connection puts, another one fills, in turns."""
    path = ("00181060",)
    server = SqliteIndex(tmp_path / "index.sqlite")
    command = SqliteIndex(tmp_path / "index.sqlite")
    everything = [
        record("1", "1.1", f"1.1.{number}", InstanceNumber=number, TriggerTime=number % 10) for number in range(700)
    ]
    server.put(everything[:500])
    command.add_index(path)
    arriving = iter([everything[begin : begin + 50] for begin in range(500, 700, 50)])
    while not command.fill_index(path):
        server.put(next(arriving))
    for rest in arriving:
        server.put(rest)
    assert len(server.select({path: Single("3")})) == 70
    assert "added_values" in plan_of(server, Level.IMAGE, {path: Single("3")})
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    assert connection.execute("SELECT COUNT(*) FROM added_values").fetchone() == (700,)
    server.remove([one.header.target for one in everything[:100]])
    assert connection.execute("SELECT COUNT(*) FROM added_values").fetchone() == (600,)
    command.drop_index(path)
    assert connection.execute("SELECT COUNT(*) FROM added_values").fetchone() == (0,)
    connection.close()
    for index in (server, command):
        index.close()


def test_an_older_file_gets_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(gzip.decompress((HERE / "index_v3.sqlite.gz").read_bytes()))
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE added_values")
        connection.execute("DROP TABLE added_indexes")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    index = SqliteIndex(path)
    index.put(records())
    index.add_index(("00181060",))
    assert index.fill_index(("00181060",))
    index.close()
    assert sqlite_added.paths_in(path) == [("00181060",)]
    assert sqlite_added.paths_in(tmp_path / "none.sqlite") == []
    (tmp_path / "bad.sqlite").write_bytes(b"no index" * 1000)
    assert sqlite_added.paths_in(tmp_path / "bad.sqlite") == []
