"""The SQLite engine keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacs.index.base import Index
from pacs.index.sqlite import SqliteIndex
from tests.contracts.index_contract import IndexContract, Reopen
from tests.contracts.work_contract import WorkContract


class _OnSqlite:
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        def open_index() -> Index:
            return SqliteIndex(tmp_path / "index.sqlite")

        return open_index


class TestSqliteIndex(_OnSqlite, IndexContract): ...


class TestSqliteWork(_OnSqlite, WorkContract): ...
