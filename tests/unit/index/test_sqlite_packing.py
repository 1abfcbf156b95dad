"""A file of an older version is rewritten when it is opened, and says the same afterwards."""

from __future__ import annotations

import gzip
import logging
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from pacs.dicom.model import Target
from pacs.errors import Corrupt, PacsError
from pacs.index import sqlite_packing
from pacs.index.base import Put
from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_schema import SCHEMA_VERSION, migrate
from tests.contracts.index_records import record
from tests.unit.index.old_index import HERE, answers


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that the program wrote before version 5."""
    path = tmp_path / "index.sqlite"
    path.write_bytes(gzip.decompress((HERE / "index_v3.sqlite.gz").read_bytes()))
    return path


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(gzip.decompress((HERE / "index_v3.json.gz").read_bytes()))
    return found


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_it_answers_as_the_program_that_wrote_it(old: Path, expected: dict[str, Any]) -> None:
    assert version(old) == 3
    for _ in range(2):
        with closing(SqliteIndex(old)) as index:
            found = answers(index)
            assert found.keys() == expected.keys()
            for name in expected:
                assert found[name] == expected[name], name
            for instance in index.stored():
                assert index.holds_key(instance.blob.key)
            assert not index.holds_key("1/1.1/1.1.1")
    assert version(old) == SCHEMA_VERSION


def test_it_has_the_tables_of_a_new_file(old: Path, tmp_path: Path) -> None:
    SqliteIndex(old).close()
    SqliteIndex(tmp_path / "new.sqlite").close()
    schemas = []
    for path in (old, tmp_path / "new.sqlite"):
        with closing(sqlite3.connect(path)) as connection:
            schemas.append(set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")))
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert schemas[0] == schemas[1]


def test_it_takes_more(old: Path) -> None:
    with closing(SqliteIndex(old)) as index:
        before = index.counts()
        known = [one.json for one in index.metadata(Target("9", "9.1"))]
        added = [record("9", "9.1", f"9.1.{n}", InstanceNumber=n, SliceLocation=n / 3) for n in range(100, 110)]
        assert {one.outcome for one in index.put(added)} == {Put.STORED}
        assert [one.json for one in index.metadata(Target("9", "9.1"))] == known + [one.header.json for one in added]
        assert index.counts().instances == before.instances + 10
        index.remove([Target("9")])
        assert list(index.metadata(Target("9"))) == []
    with closing(sqlite3.connect(old)) as connection:
        orphans = "SELECT COUNT(*) FROM templates WHERE series_id NOT IN (SELECT id FROM series)"
        assert connection.execute(orphans).fetchone()[0] == 0


def test_a_migration_that_fails_changes_nothing(
    old: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = old.read_bytes()
    calls = 0

    def full_disk(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 50:
            raise sqlite3.OperationalError("database or disk is full")
        return packed(*args)

    packed = sqlite_packing._packed
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_packing, "_packed", full_disk)
        with pytest.raises(PacsError):
            SqliteIndex(old)
    assert calls > 50
    assert version(old) == 3
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert not connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'packed%'").fetchall()
    assert old.read_bytes()[100:] == before[100:]
    with closing(SqliteIndex(old)) as index:
        assert answers(index)["rows"] == expected["rows"]


def test_an_instance_without_contents_stops_it_instead_of_vanishing(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("DELETE FROM contents WHERE id = (SELECT MAX(id) FROM contents)")
        connection.commit()
    with pytest.raises(Corrupt, match="reindex"):
        SqliteIndex(old)
    assert version(old) == 3


def test_columns_that_came_later_are_filled_too(old: Path, expected: dict[str, Any]) -> None:
    with closing(sqlite3.connect(old)) as connection:
        for name in ("c00280010", "c0008002A"):
            connection.execute(f"DROP INDEX i{name}")
            connection.execute(f"ALTER TABLE instances DROP COLUMN {name}")
    with closing(SqliteIndex(old)) as index:
        assert answers(index) == expected


def test_progress_of_a_large_one_is_logged(
    old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_packing, "_LARGE", 1)
    monkeypatch.setattr(sqlite_packing, "_PROGRESS_S", 0.0)
    monkeypatch.setattr(sqlite_packing, "_BATCH", 20)
    with caplog.at_level(logging.INFO, "pacs.index.sqlite_packing"):
        SqliteIndex(old).close()
    assert sum("instances=" in one.message and "of=" in one.message for one in caplog.records) >= 4


def test_room_that_became_free_goes_back_to_the_disk(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "UPDATE contents SET metadata = CAST(json_set(metadata, '$.x', hex(zeroblob(4000))) AS BLOB)"
        )
        connection.commit()
    large = old.stat().st_size
    monkeypatch.setattr(sqlite_packing, "_RECLAIMED_BYTES", 1)
    SqliteIndex(old).close()
    assert old.stat().st_size < large / 2
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_steps_are_made_in_the_order_of_their_versions_whatever_numbers_are_missing(tmp_path: Path) -> None:
    made: list[int] = []
    with closing(sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None)) as connection:
        more = {number: lambda connection, number=number: made.append(number) for number in (9, 7)}
        assert migrate(connection, more=more, backfill=lambda connection: None) is False
        assert made == [7, 9]
        more[11] = lambda connection: made.append(11)
        assert migrate(connection, more=more, backfill=lambda connection: None) is True
        assert made == [7, 9, 11]
        with pytest.raises(Corrupt, match="newer"):
            migrate(connection, more={}, backfill=lambda connection: None)


def test_processes_that_start_together_wait_for_the_one_that_migrates(
    old: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = sqlite_packing._packed

    def slow(*args: Any) -> Any:
        time.sleep(0.01)
        return packed(*args)

    monkeypatch.setattr(sqlite_packing, "_packed", slow)
    found: list[Any] = []

    def start() -> None:
        # None of them would wait that long for SQLite's own lock.
        with closing(SqliteIndex(old, busy_timeout_s=0.05)) as index:
            found.append(answers(index))

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3
