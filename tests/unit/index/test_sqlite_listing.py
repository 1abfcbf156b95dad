"""What studies are listed by follows every change, whoever makes it, and is there in an index that had none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from pacs.dicom.model import Level
from pacs.index.base import Fields, Order, Query
from pacs.index.listing import LABELS, begins
from pacs.index.sqlite import SqliteIndex
from pacs.index.work import RecordWrite
from tests.contracts.index_records import record
from tests.unit.index.old_index import drop_listing

_UID = Fields(frozenset(), frozenset({"0020000D"}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.fixture
def index(path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(path)) as index:
        yield index


def found(index: SqliteIndex, text: str = "", order: Order | None = None) -> list[str]:
    page = index.search(Query(Level.STUDY, {}, fields=_UID, text=text, order=order))
    return [orjson.loads(row)["0020000D"]["Value"][0] for row in page.rows]


def test_an_older_index_is_listed_when_it_is_opened(path: Path) -> None:
    with closing(SqliteIndex(path)) as index:
        index.put([record("1", StudyDate="20250101"), record("2", "2.1", "2.1.1", PatientName="Röntgen")])
        index.work.write_records([RecordWrite(LABELS, "2", b'["teaching"]')])
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        drop_listing(old)
        old.execute("PRAGMA user_version = 7")
    with closing(SqliteIndex(path)) as index:
        assert found(index, "rontg teach") == ["2"]
        assert found(index, order=Order("00080020")) == ["2", "1"]
        assert index.label_counts() == {"teaching": 1}


def test_what_an_older_process_stored_is_listed_with_the_next_change(index: SqliteIndex, path: Path) -> None:
    index.put([record("1")])
    with closing(sqlite3.connect(path, isolation_level=None)) as older:
        older.execute("UPDATE studies SET c00081030 = 'knee'")
    index.put([record("2", "2.1", "2.1.1")])
    assert found(index, "knee") == ["1"]


def test_what_is_gone_leaves_nothing_behind(index: SqliteIndex, path: Path) -> None:
    index.put([record(str(n), f"{n}.1", f"{n}.1.1") for n in range(3)])
    index.remove([one.target for one in index.stored()])
    with closing(sqlite3.connect(path)) as raw:
        for table in ("listed", "unlisted", "study_words"):
            assert raw.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)


def test_orders_of_large_lists_go_through_an_index_alone(index: SqliteIndex, path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        for name in ("date", "name", "patient"):
            sql = f"SELECT l.study_id FROM listed l WHERE l.{name} IS NOT NULL ORDER BY l.{name} DESC, l.study_id DESC"
            (plan,) = raw.execute(f"EXPLAIN QUERY PLAN {sql} LIMIT 100 OFFSET 50000").fetchall()
            assert f"USING COVERING INDEX listed_{name}" in plan[3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Doe^Jane", ["jane", "doe"]),
        ("MÜLLER müller", ["muller"]),
        ("2024-01-31", ["20240131"]),
        ("ABC-1/2.x", ["abc12x"]),
        (' "* ( - ^', []),
        ("山田 太", ["山田", "太"]),
    ],
)
def test_words_of_a_text_are_letters_and_digits(text: str, expected: list[str]) -> None:
    assert sorted(begins(text)) == sorted(expected)
