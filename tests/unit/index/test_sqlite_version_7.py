"""A file of version 7 of the schema, from before listing, trash and causes of jobs: it opens, and all of it works."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from pacs.dicom.model import Level, Target
from pacs.index.base import Fields, Order, Put, Query
from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_schema import SCHEMA_VERSION
from pacs.index.work import NewJob
from tests.contracts.index_records import record
from tests.unit.index.old_index import DELETED_AT, HERE, answers

_UID = Fields(frozenset(), frozenset({"0020000D"}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "index.sqlite"
    path.write_bytes(gzip.decompress((HERE / "index_v7.sqlite.gz").read_bytes()))
    return path


@pytest.fixture
def index(path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(path)) as index:
        yield index


def studies(index: SqliteIndex, text: str = "", order: Order | None = None) -> list[str]:
    page = index.search(Query(Level.STUDY, {}, fields=_UID, text=text, order=order))
    return [orjson.loads(row)["0020000D"]["Value"][0] for row in page.rows]


def test_it_answers_as_the_program_that_wrote_it(index: SqliteIndex) -> None:
    assert answers(index) == orjson.loads(gzip.decompress((HERE / "index_v7.json.gz").read_bytes()))


def test_its_tables_have_the_columns_of_a_new_file(path: Path, tmp_path: Path) -> None:
    found = []
    for one in (path, tmp_path / "new.sqlite"):
        SqliteIndex(one).close()
        with closing(sqlite3.connect(one)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
            names = connection.execute("SELECT type, name FROM sqlite_schema").fetchall()
            tables = {name for kind, name in names if kind == "table"}
            columns = {(name, row[1]) for name in tables for row in connection.execute(f"PRAGMA table_info({name})")}
            found.append((set(names), columns))
    assert found[0] == found[1]


def test_its_studies_are_listed_by_words_labels_and_order(index: SqliteIndex) -> None:
    assert studies(index, "teach") == ["9"]
    assert index.label_counts() == {"teaching": 1}
    assert sorted(studies(index, order=Order("00080020"))) == sorted(studies(index)) != []


def test_its_jobs_wait_on_and_new_ones_have_a_cause(index: SqliteIndex) -> None:
    index.work.add_jobs([NewJob("send", "new", cause="5f0c21d9a7be")])
    now = datetime.now(UTC)
    claimed = index.work.claim_jobs("send", now, now + timedelta(minutes=1), 10)
    assert {job.key: (job.payload, job.cause) for job in claimed} == {
        "waits": (b'{"to": "AWAY"}', ""),
        "new": (b"{}", "5f0c21d9a7be"),
    }


def test_what_was_deleted_in_it_is_in_the_trash_and_comes_back(
    index: SqliteIndex,
) -> None:
    gone = Target("9", "9.1", "9.1.7")
    (deletion,) = index.deletions(None, 10)
    assert (deletion.study_uid, deletion.at, deletion.instances) == ("9", DELETED_AT, 1)
    (version,) = index.deleted(gone)
    again = record("9", "9.1", "9.1.7", InstanceNumber=7, SliceLocation=7 / 3)
    (put,) = index.restore([replace(again, blob=version.instance.blob)])
    assert put is not None
    assert put.outcome is Put.STORED
    assert [one.blob.key for one in index.locate(gone)] == [version.instance.blob.key]
    assert index.deletions(None, 10) == []
