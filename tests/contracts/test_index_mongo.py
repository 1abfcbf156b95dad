"""The Mongo engine keeps the contract."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from pacs.index.base import Index
from pacs.index.mongo import MongoIndex
from tests.contracts.index_contract import IndexContract, Reopen
from tests.mongod import replica_set


@pytest.fixture(scope="module")
def mongod() -> Iterator[str]:
    with replica_set() as uri:
        yield uri


class TestMongoIndex(IndexContract):
    @pytest.fixture
    def reopen(self, mongod: str) -> Reopen:
        name = f"test_{uuid.uuid4().hex[:12]}"

        def open_index() -> Index:
            return MongoIndex(mongod, name)

        return open_index
