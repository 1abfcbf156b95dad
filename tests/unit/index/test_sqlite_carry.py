"""What a new index file takes over from the one before."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_carry import carry_over, go_on_after_backup
from pacs.index.work import NewJob, RecordWrite
from tests.contracts.index_records import record


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.sqlite"
    with closing(SqliteIndex(path)) as index:
        index.put([record(sop="1.1"), record(sop="1.2")], jobs=[[NewJob("send", "1")], []])
        index.work.write_records([RecordWrite("item", "one", b"1", 0)])
    return path


def new_index(folder: Path) -> Path:
    path = folder / "new.sqlite"
    with closing(SqliteIndex(path)) as index:
        index.put([record(sop="1.1"), record(sop="1.2")], announce=False)
    return path


def test_jobs_records_and_changes_are_carried_over(old: Path, tmp_path: Path) -> None:
    new = new_index(tmp_path)
    carry_over(old, new)
    with closing(SqliteIndex(old)) as before, closing(SqliteIndex(new)) as after:
        assert after.work.jobs() == before.work.jobs() != []
        assert after.work.records("item") == before.work.records("item") != []
        changes = after.work.changes(0, 10)
        assert changes == before.work.changes(0, 10)
        after.put([record(sop="1.3")])
        assert [change.cursor for change in after.work.changes(changes[-1].cursor, 10)] == [3]


def test_cursors_go_on_though_all_changes_were_forgotten(old: Path, tmp_path: Path) -> None:
    with closing(SqliteIndex(old)) as index:
        index.work.forget_changes(datetime.now(UTC) + timedelta(days=1))
    new = new_index(tmp_path)
    carry_over(old, new)
    with closing(SqliteIndex(new)) as index:
        assert index.work.change_span() == (2, 2)


def test_an_index_that_is_damaged_or_not_there_costs_its_work_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = new_index(tmp_path)
    carry_over(tmp_path / "none.sqlite", new)
    assert not caplog.records
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    carry_over(damaged, new)
    assert "its jobs are lost" in caplog.text
    with closing(SqliteIndex(new)) as index:
        assert index.counts().instances == 2


def test_after_a_backup_cursors_that_may_be_known_are_not_used_again(old: Path) -> None:
    go_on_after_backup(old)
    with closing(SqliteIndex(old)) as index:
        index.put([record(sop="1.3")])
        assert index.work.changes(2, 10)[0].cursor > 1_000_000_000
