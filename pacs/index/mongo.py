"""The index engine on MongoDB: a replica set, so that what changes together changes in one transaction.

Several processes and machines work on the same index at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, TypeVar

from pymongo import MongoClient, UpdateOne
from pymongo.errors import PyMongoError

from pacs.dicom.layout import Layout
from pacs.dicom.matching import Matcher, TagPath
from pacs.dicom.model import EVERYTHING, BlobRef, InstanceRecord, Scope, StoredInstance, Target
from pacs.errors import NotFound, OutOfResources
from pacs.index import mongo_added, mongo_contents, mongo_deleted, mongo_search, mongo_usage, mongo_write
from pacs.index.base import (
    AddedIndex,
    Counts,
    Deletion,
    Discarded,
    Held,
    InstanceMetadata,
    Page,
    PutResult,
    Query,
    UsagePage,
    nothing,
)
from pacs.index.mongo_abandoned import APP_NAME
from pacs.index.mongo_backfill import backfill, fill_parts
from pacs.index.mongo_contents import contents
from pacs.index.mongo_documents import STORED, Document, instance_id, stored_instance, subtree, within_uids
from pacs.index.mongo_listing import fill_listing
from pacs.index.mongo_nodes import occupy
from pacs.index.mongo_outage import HEARTBEAT_MS, Outage
from pacs.index.mongo_tables import Tables
from pacs.index.mongo_unit import Unit, totals
from pacs.index.mongo_work import MongoWork
from pacs.index.mongo_write import PutOptions
from pacs.index.mongo_writer import Writer, translated
from pacs.index.rows import prepare
from pacs.index.work import NewJob

T = TypeVar("T")
_PAGE = 500
_METADATA_PAGE = 100


class MongoIndex:
    """``pacs.index.base.Index`` on one database of a replica set, or of a sharded cluster's mongos.

    uri: a MongoDB URL. sharded: spread the big collections over shards by study. timeout_s: how long to look for a
    primary; a change may take twice that. Raises OutOfResources when the server cannot be reached or has no
    transactions, Corrupt when a newer version made the database.
    """

    def __init__(self, uri: str, database: str, *, sharded: bool = False, timeout_s: float = 10.0) -> None:
        self._client: MongoClient[Document] = MongoClient(
            uri,
            serverSelectionTimeoutMS=int(timeout_s * 1000),
            connectTimeoutMS=int(timeout_s * 1000),
            socketTimeoutMS=int(timeout_s * 6000),
            retryWrites=True,
            retryReads=True,
            heartbeatFrequencyMS=HEARTBEAT_MS,
            appname=APP_NAME,
        )
        try:
            self._tables = Tables(self._client, database, sharded=sharded)
            self._tables.open(backfill, {3: fill_parts, 4: fill_listing})
        except PyMongoError as error:
            self._client.close()
            raise OutOfResources(f"MongoDB cannot be used: {_reason(error)}") from error
        except BaseException:
            self._client.close()
            raise
        self._outage = Outage(self._client)
        self._writer = Writer(self._client, lambda: self._tables, self._outage, 2 * timeout_s)
        self.work = MongoWork(self)

    def check(self) -> None:
        self._outage.check()

    def load(self) -> int:
        return self._writer.load()

    def size_bytes(self) -> int | None:
        return self._read(Tables.size_bytes)

    def put(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        durable: Callable[[], None] = nothing,
        jobs: Sequence[Sequence[NewJob]] = (),
        announce: bool = True,
    ) -> list[PutResult]:
        durable()
        if not records:
            return []
        items = [prepare(record) for record in records]
        return self._writer.put(items, PutOptions(replace, announce), jobs)

    def search(self, query: Query) -> Page:
        return self._read(lambda tables: mongo_search.search(tables, query))

    def select(
        self, keys: Mapping[TagPath, Matcher], within: Target | None = None, *, scope: Scope = EVERYTHING
    ) -> list[StoredInstance]:
        return self._read(lambda tables: mongo_search.select(tables, keys, within, scope))

    def locate(self, target: Target, *, scope: Scope = EVERYTHING) -> list[StoredInstance]:
        return self.select({}, target, scope=scope)

    def labels_of(self, study_uids: Sequence[str], *, scope: Scope = EVERYTHING) -> dict[str, list[str]]:
        return self._read(lambda tables: mongo_search.labels_of(tables, study_uids, scope))

    def label_counts(self, *, scope: Scope = EVERYTHING) -> dict[str, int]:
        return self._read(lambda tables: mongo_search.label_counts(tables, scope))

    def last_arrival(self, study_uid: str) -> datetime | None:
        def newest(tables: Tables) -> str | None:
            found = tables["instances"].find({"study_uid": study_uid}, {"received_at": 1})
            return max((one["received_at"] for one in found), default=None)

        at = self._read(newest)
        return None if at is None else datetime.fromisoformat(at)

    def metadata(self, target: Target, *, scope: Scope = EVERYTHING) -> Iterator[InstanceMetadata]:
        ids = self._read(lambda tables: mongo_search.instance_ids(tables, target, scope))
        for begin in range(0, len(ids), _METADATA_PAGE):
            page = ids[begin : begin + _METADATA_PAGE]
            found = self._read(lambda tables, page=page: contents(tables, page, "m"))  # type: ignore[misc]
            # What was removed since the ids were read is left out.
            yield from (InstanceMetadata(Target(*one.split("\\")), found[one]) for one in page if one in found)

    def held(self, target: Target, *, scope: Scope = EVERYTHING) -> Held | None:
        if not scope.is_everything and not self.locate(target, scope=scope):
            return None
        return self._read(lambda tables: mongo_contents.held(tables, target))

    def layout(self, target: Target) -> Layout:
        own_id = instance_id(target)
        found = self._read(lambda tables: contents(tables, [own_id], "l"))
        if own_id not in found:
            raise NotFound("there is no such instance")
        return Layout.from_bytes(found[own_id])

    def remove(self, targets: Sequence[Target]) -> list[BlobRef]:
        return self._writer.run(lambda unit: mongo_write.remove_all(unit, targets))

    def delete(
        self, target: Target, at: datetime, jobs: Sequence[NewJob] = (), note: bytes | None = None
    ) -> list[StoredInstance]:
        return self._writer.run(lambda unit: mongo_deleted.delete(unit, target, at, jobs, note))

    def deletions(self, before: str | None, limit: int) -> list[Deletion]:
        return self._read(lambda tables: mongo_deleted.deletions(tables, before, limit))

    def deleted(self, target: Target) -> list[Discarded]:
        return self._read(lambda tables: mongo_deleted.deleted(tables, target))

    def restore(
        self, records: Sequence[InstanceRecord], jobs: Sequence[Sequence[NewJob]] = ()
    ) -> list[PutResult | None]:
        items = [prepare(record) for record in records]
        return self._writer.run(lambda unit: mongo_deleted.restore(unit, items, jobs))

    def doom(self, keys: Collection[str]) -> set[str]:
        found: set[str] = set()
        self._change(lambda tables: found.update(mongo_deleted.doom(tables, keys)))
        return found

    def versions(self, target: Target) -> list[StoredInstance]:
        def read(tables: Tables) -> list[StoredInstance]:
            current = tables["instances"].find(subtree(target), STORED).sort("o", 1)
            superseded = tables["superseded"].find(within_uids(target)).sort("_id", 1)
            return [stored_instance(one) for cursor in (current, superseded) for one in cursor]

        return self._read(read)

    def is_deleted(self, target: Target) -> bool:
        where = within_uids(target)
        return self._read(lambda tables: tables["deleted"].find_one(where, {"_id": 1}) is not None)

    def discarded(self, until: datetime) -> Iterator[Discarded]:
        for name in ("deleted", "superseded"):
            where = {"at": {"$lte": until.isoformat()}, "blob_key": {"$exists": True}}
            for page in self._pages(name, where):
                wanted = {"blob_key": {"$in": [one["blob_key"] for one in page]}}
                current = self._read(
                    lambda tables, wanted=wanted: tables["instances"].distinct("blob_key", wanted)  # type: ignore[misc]
                )
                for one in page:
                    if one["blob_key"] not in current:
                        yield Discarded(stored_instance(one), datetime.fromisoformat(one["at"]), name == "deleted")

    def forget(self, keys: Collection[str]) -> None:
        self._change(lambda tables: mongo_deleted.forget(tables, keys))

    def bury(self, versions: Sequence[Discarded]) -> None:
        writes = [
            UpdateOne(
                {"blob_key": one.instance.blob.key}, {"$setOnInsert": mongo_deleted.document_of(one)}, upsert=True
            )
            for one in versions
        ]
        if writes:
            self._change(lambda tables: tables["deleted"].bulk_write(writes))

    def stored(self) -> Iterator[StoredInstance]:
        for name in ("instances", "superseded"):
            for page in self._pages(name, {}, STORED if name == "instances" else None):
                yield from (stored_instance(one) for one in page)

    def holds_key(self, key: str) -> bool:
        return bool(self.held_keys([key]))

    def held_keys(self, keys: Sequence[str]) -> set[str]:
        return self._read(lambda tables: mongo_write.held_keys(tables, keys))

    def counts(self) -> Counts:
        return Counts(**self._read(totals))

    def usage(self, after: str = "", studies: int = 200) -> UsagePage:
        return self._read(lambda tables: mongo_usage.page(tables, after, studies))

    def add_index(self, path: TagPath) -> None:
        self._writer.run(lambda unit: mongo_added.add(unit, path))

    def fill_index(self, path: TagPath) -> bool:
        return self._writer.run(lambda unit: mongo_added.fill(unit, path))

    def drop_index(self, path: TagPath) -> None:
        self._writer.run(lambda unit: mongo_added.drop(unit, path))

    def added_indexes(self) -> list[AddedIndex]:
        return self._read(mongo_added.listed)

    def setting(self, name: str) -> str | None:
        found = self._read(lambda tables: tables["settings"].find_one({"_id": name}))
        return None if found is None else str(found["value"])

    def remember(self, name: str, value: str, instead_of: str | None = None) -> str:
        def write(tables: Tables) -> None:
            tables["settings"].update_one({"_id": name}, {"$setOnInsert": {"value": value}}, upsert=True)
            if instead_of is not None:
                tables["settings"].update_one({"_id": name, "value": instead_of}, {"$set": {"value": value}})

        self._change(write)
        return self.setting(name) or value

    def clear(self) -> None:
        def forget_all(tables: Tables) -> None:
            tables.drop(keep=("added", "settings"))
            tables.create()
            tables["added"].update_many({}, {"$set": {"filled_to": -1}})

        self._change(forget_all)

    def close(self) -> None:
        self._writer.close()
        self._client.close()

    def occupy(self, what: str, *, exclusive: bool = False) -> AbstractContextManager[None]:
        """Work on the index, alone when exclusive, for the length of a ``with``.

        what: told to others. Raises OutOfResources when others are at work (or one is at work alone).
        """
        return occupy(self._tables.nodes, what, exclusive=exclusive)

    @contextmanager
    def rebuilding(self) -> Iterator[MongoIndex]:
        """A new empty index with the same added indexes, which takes this one's place when the block ends well.

        Nobody else may be at work (``occupy``): others would go on with the old one.
        """
        old = self._tables
        new = MongoIndex.__new__(MongoIndex)
        new._client = self._client
        new._tables = old.at(old.generation + 1)
        new._outage = self._outage
        new._writer = Writer(self._client, lambda: new._tables, self._outage, self._writer.timeout_s)
        new.work = MongoWork(new)
        self._change(lambda _: new._tables.drop())
        self._change(lambda _: new._tables.create())
        for one in self.added_indexes():
            new.add_index(one.path)
            new.fill_index(one.path)  # complete at once: there is nothing yet
        try:
            yield new
        finally:
            new._writer.close()
        self._change(lambda _: new._tables.take_over())
        self._tables = new._tables
        self._change(lambda _: old.drop())

    def _pages(self, name: str, where: Document, fields: Document | None = None) -> Iterator[list[Document]]:
        asked = where
        while True:
            page: list[Document] = self._read(
                lambda tables, asked=asked: list(tables[name].find(asked, fields).sort("_id", 1).limit(_PAGE))  # type: ignore[misc]
            )
            if not page:
                return
            asked = {**where, "_id": {"$gt": page[-1]["_id"]}}
            yield page

    def read(self, function: Callable[[Tables], T]) -> T:
        """For ``MongoWork``."""
        return self._read(function)

    def transact(self, function: Callable[[Unit], T]) -> T:
        """For ``MongoWork``: in a transaction, which may run several times."""
        return self._writer.run(function)

    def _read(self, function: Callable[[Tables], T]) -> T:
        self._outage.check()
        try:
            return function(self._tables)
        except PyMongoError as error:
            self._outage.note(error)
            raise translated(error, "read") from error

    def _change(self, function: Callable[[Tables], Any]) -> None:
        """A change that is whole without a transaction, or may be made again."""
        self._outage.check()
        try:
            function(self._tables)
        except PyMongoError as error:
            self._outage.note(error)
            raise translated(error, "written") from error


def _reason(error: PyMongoError) -> str:
    """One line without the topology that pymongo adds."""
    return str(error).split(", Timeout:")[0].split(", full error:")[0][:200]
