"""The SQLite file: opening, versions, damage and other users of it."""

from __future__ import annotations

import random
import sqlite3
import threading
from pathlib import Path

import orjson
import pytest

from pacs.dicom.attributes import ALL, BY_TAG
from pacs.dicom.matching import Single, Wildcard
from pacs.dicom.model import Level, Target
from pacs.errors import Corrupt, OutOfResources
from pacs.index.base import Fields, Put, Query
from pacs.index.rows import columns
from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_schema import GONE_THROUGH, TABLES
from tests.contracts.index_records import record


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    SqliteIndex(path).close()
    change(path, "PRAGMA user_version = 9999")
    with pytest.raises(Corrupt, match="newer"):
        SqliteIndex(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 9999
    connection.close()


def test_a_file_that_is_no_index_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"not a database, " * 1000)
    with pytest.raises(Corrupt):
        SqliteIndex(path)


def test_a_file_that_cannot_be_opened_is_out_of_resources(tmp_path: Path) -> None:
    with pytest.raises(OutOfResources):
        SqliteIndex(tmp_path / "no folder" / "index.sqlite")


def test_a_page_that_was_overwritten_is_corrupt_and_not_a_wrong_answer(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    index = SqliteIndex(path)
    noise = random.Random(1)
    index.put([record(sop=f"1.1.{n}", PatientComments=noise.randbytes(5000).hex()) for n in range(50)])
    index.close()
    with path.open("r+b") as file:
        # The schema lies at the beginning; metadata grow at the end.
        pages = path.stat().st_size // 4096
        for page in range(pages - pages // 4, pages):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    index = SqliteIndex(path)
    try:
        with pytest.raises(Corrupt):
            index.search(Query(Level.IMAGE, {}, fields=Fields(everything=True)))
    finally:
        index.close()


def test_columns_of_new_attributes_are_filled_from_metadata(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    index = SqliteIndex(path)
    index.put([record(PatientName="Doe=山田", Manufacturer="ACME", Rows=512), record("2", "2.1", "2", PatientID="P2")])
    index.close()
    dropped = [name for tag in ("00100010", "00080070", "00280010") for name in columns(BY_TAG[tag])]
    tables = {name: TABLES[a.level] for a in ALL for name in columns(a)}
    # A column that a trigger reads cannot go; none of those ever came later.
    change(path, *(f"DROP TRIGGER name_parts_{name}" for name in ("insert", "update", "delete")))
    change(path, "DROP TRIGGER listed_patient_update")
    for name in dropped:
        change(path, f"DROP INDEX i{name}", f"ALTER TABLE {tables[name]} DROP COLUMN {name}")
    index = SqliteIndex(path)
    try:
        for key, value in (("00100010", Wildcard("山*")), ("00080070", Single("acme")), ("00280010", Single("512"))):
            level = BY_TAG[key].level
            assert len(index.search(Query(level, {(key,): value})).rows) == (2 if key == "00280010" else 1)
        assert index.put([record(PatientName="Doe=山田", Manufacturer="ACME", Rows=512)])[0].outcome is Put.SAME
    finally:
        index.close()


def test_every_stored_attribute_has_an_index_that_a_search_uses(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    SqliteIndex(path).close()
    connection = sqlite3.connect(path)
    for attribute in ALL:
        if attribute.counted and attribute.vr == "IS":
            continue
        for name in columns(attribute):
            plan = connection.execute(
                f"EXPLAIN QUERY PLAN SELECT id FROM {TABLES[attribute.level]} WHERE {name} IN (?)", ("x",)
            ).fetchall()
            # Some lie in the index of another column: a small one to go through.
            way = (
                "SEARCH"
                if attribute.tag not in GONE_THROUGH
                else f"SCAN {TABLES[attribute.level]} USING COVERING INDEX"
            )
            assert way in plan[0][3], (attribute.keyword, plan)
    connection.close()


def test_two_processes_may_open_one_file(tmp_path: Path) -> None:
    one, other = SqliteIndex(tmp_path / "index.sqlite"), SqliteIndex(tmp_path / "index.sqlite")
    failures: list[BaseException] = []

    def send(index: SqliteIndex, study: str) -> None:
        try:
            for n in range(30):
                index.put([record(study, f"{study}.1", f"{study}.1.{n}")])
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    threads = [threading.Thread(target=send, args=args) for args in ((one, "1"), (other, "2"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert one.counts() == other.counts()
    assert (one.counts().patients, one.counts().instances) == (1, 60)
    one.close()
    other.close()


def test_a_failed_record_takes_its_whole_call_back_and_the_index_serves_on(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")
    index.put([record()])
    change(
        tmp_path / "index.sqlite",
        "CREATE TRIGGER stop BEFORE INSERT ON series WHEN NEW.modality = 'XX'"
        " BEGIN SELECT RAISE(ABORT, 'no space'); END",
    )
    with pytest.raises(Corrupt):
        index.put([record(sop="1.1.2"), record("2", "2.1", "2.1.1", Modality="XX", PatientID="P2")])
    assert index.counts().instances == 1
    assert index.counts().patients == 1
    assert index.put([record(sop="1.1.3")])[0].outcome is Put.STORED
    (row,) = index.search(Query(Level.STUDY, {}, fields=Fields(frozenset({Level.STUDY})))).rows
    assert orjson.loads(row)["00201208"]["Value"] == [2]
    index.close()


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    index = SqliteIndex(tmp_path / "index.sqlite")
    index.close()
    index.close()
    with pytest.raises(OutOfResources):
        index.locate(Target("1"))
    with pytest.raises(OutOfResources):
        index.put([record()])
