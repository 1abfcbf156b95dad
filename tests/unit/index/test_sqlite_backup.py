"""Copying the index while it is written to: one moment's state, and writers are not kept off."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from pacs.errors import Corrupt, NotFound
from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_backup import check_index, copy_index, pack, unpack
from pacs.index.sqlite_schema import SCHEMA_VERSION

ROWS = 8000


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """An index file of about 35 MB; ``sums`` holds the same number twice in each of its commits."""
    path = tmp_path / "index.sqlite"
    SqliteIndex(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE sums (a, b)")
        connection.execute("INSERT INTO sums VALUES (0, 0)")
        connection.execute("CREATE TABLE ballast (data)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO ballast VALUES (?)", ((bytes(4096),) for _ in range(ROWS)))
        connection.execute("COMMIT")
    return path


def test_copy_is_one_moment_and_writers_go_on(big: Path, tmp_path: Path) -> None:
    stop, commits, slowest_s = threading.Event(), [0], [0.0]

    def write() -> None:
        with closing(sqlite3.connect(big, isolation_level=None, timeout=0.05)) as connection:
            while not stop.is_set():
                began = time.monotonic()
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE sums SET a = a + 1")
                connection.execute("UPDATE sums SET b = b + 1")
                connection.execute("COMMIT")
                slowest_s[0] = max(slowest_s[0], time.monotonic() - began)
                commits[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    while not commits[0]:
        time.sleep(0.001)
    steps: list[int] = []
    begun = commits[0]
    copy_index(big, tmp_path / "copy", lambda done, total: steps.append(done))
    written = commits[0] - begun
    stop.set()
    writer.join()

    assert written > 5
    assert slowest_s[0] < 1
    assert len(steps) > 5
    assert steps == sorted(steps)  # it never began anew
    check_index(tmp_path / "copy")
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        a, b = copy.execute("SELECT a, b FROM sums").fetchone()
        assert a == b
        assert copy.execute("SELECT COUNT(*) FROM ballast").fetchone() == (ROWS,)


def test_check_tells_what_it_holds(tmp_path: Path) -> None:
    SqliteIndex(tmp_path / "index.sqlite").close()
    copy_index(tmp_path / "index.sqlite", tmp_path / "copy")
    assert check_index(tmp_path / "copy") == (SCHEMA_VERSION, 0, 0)


def test_database_of_another_kind_is_no_index(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other")) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(Corrupt, match="not an index"):
        check_index(tmp_path / "other")


def test_copy_of_nothing_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        copy_index(tmp_path / "index.sqlite", tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_packing_and_unpacking_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 20_000)
    pack(tmp_path / "a", tmp_path / "a.gz")
    unpack(tmp_path / "a.gz", tmp_path / "b")
    unpack(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert (tmp_path / "a.gz").stat().st_size < 100_000
