"""How searches go about it: every standard key finds its instances by an index, few rows first, many in order.

Plans do not depend on how much an index holds (there are no statistics), so a small one shows those of a large one.
Exceptions, which no index can help: names by their sound (fuzzy matching), keys that ask for what is not there, and
patterns that begin with a wildcard (but on Patient's Name) go through the values of their attribute; counters through
the rows of their level;
``GONE_THROUGH`` through an index that holds them beside another column.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from pacs.dicom.attributes import ALL, Attribute
from pacs.dicom.matching import (
    CombinedRange,
    Matcher,
    Range,
    Single,
    TagPath,
    UidList,
    ValueList,
    Wildcard,
)
from pacs.dicom.model import Level, Target
from pacs.dicom.normal import Kind, kind_of
from pacs.index import sqlite_conditions, sqlite_search
from pacs.index.base import Fields, Page, Query
from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_conditions import Slots, install
from pacs.index.sqlite_schema import GONE_THROUGH
from pacs.index.sqlite_work import SqliteWork
from pacs.index.work import RecordWrite
from tests.contracts.index_records import LEVELS, random_keys, random_record, record


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("plans") / "index.sqlite"
    with closing(SqliteIndex(path)) as index:
        index.put([record(str(n), f"{n}.1", f"{n}.1.{i}", PatientID=f"P{n}") for n in range(20) for i in range(3)])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def slots(connection: sqlite3.Connection) -> Iterator[Slots]:
    slots = install(connection)
    yield slots
    slots.clear()


def statements(connection: sqlite3.Connection, slots: Slots, query: Query) -> list[str]:
    """What a search runs, values filled in."""
    found: list[str] = []
    connection.set_trace_callback(found.append)
    try:
        sqlite_search.search(connection, slots, query)
    finally:
        connection.set_trace_callback(None)
    return [each for each in found if each.startswith("SELECT")]


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]


def matchers(attribute: Attribute) -> dict[str, Matcher]:
    kind = kind_of(attribute.vr)
    if kind is Kind.UID:
        return {"one": UidList(("1.2.3",)), "several": UidList(("1.2.3", "1.2.4"))}
    found: dict[str, Matcher] = {"one": Single({Kind.DATE: "20240131", Kind.TIME: "1015"}.get(kind, "12"))}
    if kind is Kind.DATE_TIME:
        found = {"one": Single("20240131101500"), "range": Range("2024", "2025")}
        found["range with offset"] = Range("20240131101500+0100", "20240201")
    if kind is Kind.DATE:
        found["range"] = Range("20240101", "20240131")
        found["open range"] = Range("20240101", "")
    if kind is Kind.TIME:
        found["range"] = Range("10", "11")
    if kind in (Kind.TEXT, Kind.NAME):
        found |= {
            "prefix": Wildcard("ab*"),
            "pattern": Wildcard("ab?c*d"),
            "list": ValueList((Single("a"), Single("b"))),
        }
    return found


CASES = [
    pytest.param(level, attribute, matcher, id=f"{level.name}-{attribute.keyword}-{name}")
    for level in Level
    for attribute in ALL
    # Counters change with every instance: no index of theirs would pay. They scan their own level, never instances.
    if not (attribute.counted and attribute.vr == "IS")
    for name, matcher in matchers(attribute).items()
]


@pytest.mark.parametrize(("level", "attribute", "matcher"), CASES)
def test_no_standard_key_goes_through_a_whole_table(
    connection: sqlite3.Connection, slots: Slots, level: Level, attribute: Attribute, matcher: Matcher
) -> None:
    query = Query(level, {(attribute.tag,): matcher}, limit=100, fields=Fields(frozenset({level})))
    found = statements(connection, slots, query)
    assert found
    for statement in found:
        for step in plan(connection, statement):
            if attribute.tag in GONE_THROUGH:
                # The exceptions: an index that they are in is gone through.
                step = re.sub(r"SCAN \w+ USING COVERING INDEX", "", step)
            assert not re.match(r"SCAN (p|s|e|i|patients|studies|series|instances)\b", step), (statement, step)


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("pattern", ["*ab*", "*a", "*abc?def*", "x*abcd*", "*b*=*c*"])
def test_a_name_is_led_to_by_what_stands_in_it(
    connection: sqlite3.Connection, slots: Slots, level: Level, pattern: str
) -> None:
    query = Query(level, {("00100010",): Wildcard(pattern)}, limit=100)
    found = [step for statement in statements(connection, slots, query) for step in plan(connection, statement)]
    assert any("SEARCH name_parts USING PRIMARY KEY (part>? AND part<?)" in step for step in found)
    # Where a patient has several names in its column, all of these are looked at.
    names = [step for step in found if "ic00100010 " in step and "c00100010>?)" not in step]
    assert names == []


def test_parts_of_a_name_that_has_many_do_not_lead(connection: sqlite3.Connection, slots: Slots) -> None:
    with closing(sqlite3.connect(":memory:")) as memory:
        connection.backup(memory)
        memory.executemany("INSERT INTO name_parts VALUES ('abc', ?)", [(n,) for n in range(-2001, 0)])
        found = statements(memory, install(memory), Query(Level.STUDY, {("00100010",): Wildcard("*ab*")}, limit=100))
    assert [one for one in found if "name_parts" in one] == found[:1]


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("attribute", [a for a in ALL if a.counted and a.vr == "IS"], ids=lambda a: a.keyword)
def test_counters_scan_their_own_level_only(
    connection: sqlite3.Connection, slots: Slots, level: Level, attribute: Attribute
) -> None:
    for statement in statements(connection, slots, Query(level, {(attribute.tag,): Single("3")}, limit=100)):
        for step in plan(connection, statement):
            assert not re.match(r"SCAN (i|instances)\b", step), step


@pytest.mark.parametrize(
    ("level", "keys", "index"),
    [
        (Level.STUDY, {"00080020": Range("20240101", "20240131"), "00080061": Single("CT")}, "ic00080020"),
        (Level.STUDY, {"00080061": Single("CT"), "00080050": Single("A1")}, "ic00080050"),
        (Level.STUDY, {"00100040": Single("F"), "00100020": Single("P1")}, "ic00100020"),
        (Level.SERIES, {"00080060": Single("CT"), "0008103E": Wildcard("LUNG*")}, "ic0008103E"),
        (Level.IMAGE, {"00280010": Single("512"), "00080022": Single("20240131")}, "ic00080022"),
        (Level.IMAGE, {"00080008": Single("AXIAL"), "00080018": UidList(("1.1.1",))}, "instance_uid"),
        (Level.STUDY, {"00080061": Single("CT")}, "ic00080061"),
    ],
)
def test_the_key_that_finds_fewest_leads(
    connection: sqlite3.Connection, slots: Slots, level: Level, keys: Mapping[str, Matcher], index: str
) -> None:
    asked: dict[TagPath, Matcher] = {(tag,): matcher for tag, matcher in keys.items()}
    found = statements(connection, slots, Query(level, asked, limit=100))
    steps = [
        step
        for statement in found
        if "EXISTS (SELECT 1 FROM" not in statement and not statement.endswith("LIMIT 1")
        for step in plan(connection, statement)
    ]
    used = {name for step in steps for name in re.findall(r"INDEX (\w+)", step)}
    assert index in used
    common = {f"ic{tag}" for tag in keys} - {index}
    assert not used & common, steps


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows are many: the ways of a large archive in a small one."""
    monkeypatch.setattr(sqlite_search, "_FEW", 3)
    monkeypatch.setattr(sqlite_search, "_FEW_BELOW", 3)


@pytest.mark.usefixtures("few")
def test_many_rows_are_read_in_order_instead_of_sorted(connection: sqlite3.Connection, slots: Slots) -> None:
    for level, keys in (
        (Level.STUDY, {("00080020",): Range("20240101", "20240201")}),
        (Level.IMAGE, {("00080020",): Range("20240101", "20240201")}),
        (Level.IMAGE, {("00080060",): Single("CT")}),
    ):
        found = statements(connection, slots, Query(level, keys, limit=5))
        steps = plan(connection, found[-1])
        assert not any("TEMP B-TREE" in step for step in steps), steps


def pages(index: SqliteIndex, query: Query) -> list[Page]:
    """By cursor until the end, and every page by offset as well."""
    found = []
    after, offset = None, 0
    while True:
        page = index.search(Query(**{**_fields(query), "after": after}))
        assert index.search(Query(**{**_fields(query), "offset": offset})).rows == page.rows
        found.append(page)
        if page.next is None:
            return found
        after, offset = page.next, offset + len(page.rows)


def _fields(query: Query) -> dict[str, object]:
    return {name: getattr(query, name) for name in query.__slots__}


def test_few_or_many_the_answer_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(11)
    with closing(SqliteIndex(tmp_path / "index.sqlite")) as index:
        for _ in range(150):
            index.put([random_record(rng)], replace=True)
        compared = 0
        for _ in range(300):
            level, keys = rng.choice(LEVELS), random_keys(rng)
            within = rng.choice([None, None, Target("1"), Target("2", "2.1")])
            query = Query(
                level, keys, within=within, fields=Fields(frozenset(Level)), limit=rng.choice([1, 3]), count=True
            )
            every = index.search(Query(level, keys, within=within, fields=Fields(frozenset(Level))))
            for few in (0, 2, 5000):
                monkeypatch.setattr(sqlite_search, "_FEW", few)
                monkeypatch.setattr(sqlite_search, "_FEW_BELOW", rng.choice([0, 2, 5000]))
                monkeypatch.setattr(sqlite_conditions, "_DIFFERENT_LISTS", rng.choice([0, 2, 100]))
                found = pages(index, query)
                assert [row for page in found for row in page.rows] == every.rows, (few, query)
                assert {page.total for page in found} == {len(every.rows)}
            compared += len(every.rows)
    assert compared > 500


def test_a_moment_with_an_offset_finds_what_lies_a_day_away(tmp_path: Path) -> None:
    """The bounds that the index is asked by are wide enough for all offsets, and for days past the month's end."""
    values = [
        "20240301010000+1400",
        "20240228130000-1200",
        "20240231235959+0000",
        "20240229",
        "20240315",
        "99991231+0000",
    ]
    with closing(SqliteIndex(tmp_path / "index.sqlite")) as index:
        index.put([record(sop=f"1.1.{n}", AcquisitionDateTime=value) for n, value in enumerate(values)])

        def found(low: str, high: str) -> set[int]:
            rows = index.select({("0008002A",): Range(low, high)})
            return {int(row.target.sop_uid.rpartition(".")[2]) for row in rows if row.target.sop_uid}

        assert found("20240229105959+0000", "20240229110000+0000") == {0}
        assert 0 in found("20240229110000+0000", "20240229110000+0000")
        assert 1 in found("20240229010000+0000", "20240229010000+0000")
        assert 2 in found("20240229235959+0000", "20240229235959+0000")
        assert found("99991231000000+0000", "") == {5}
        assert found("", "00010101000000+0000") == set()


def test_a_date_and_time_range_together_goes_by_the_date(connection: sqlite3.Connection, slots: Slots) -> None:
    keys: dict[TagPath, Matcher] = {
        ("00080020",): CombinedRange(("00080030",), Range("20240101", "20240131"), Range("10", "11"))
    }
    found = statements(connection, slots, Query(Level.STUDY, keys, limit=10))
    assert any("ic00080020" in step for each in found for step in plan(connection, each))


def test_records_of_some_labels_are_found_by_label(tmp_path: Path) -> None:
    """Among years of them."""
    with closing(SqliteIndex(tmp_path / "index.sqlite")) as index:
        writes = [RecordWrite("visit", f"{number:04}", b"{}", label=f"{number % 100:02}") for number in range(1000)]
        index.work.write_records(writes)
        with index._reading() as reader:
            connection = reader.connection
            found: list[str] = []
            connection.set_trace_callback(found.append)
            try:
                records = SqliteWork(index._writer, lambda: nullcontext(connection)).records
                assert len(records("visit", labels=("07", "08"))) == 20
            finally:
                connection.set_trace_callback(None)
            (statement,) = [each for each in found if each.startswith("SELECT")]
            assert any("record_labels (kind=? AND label>? AND label<?)" in step for step in plan(connection, statement))
