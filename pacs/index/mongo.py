"""The index engine on MongoDB: a replica set, so that what changes together changes in one transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from bson.codec_options import CodecOptions
from pymongo import ASCENDING, MongoClient, ReadPreference
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from pacs.dicom.attributes import ALL
from pacs.dicom.layout import Layout
from pacs.dicom.matching import Matcher, TagPath
from pacs.dicom.model import BlobRef, InstanceRecord, StoredInstance, Target
from pacs.errors import Corrupt, NotFound, OutOfResources
from pacs.index import mongo_added, mongo_write
from pacs.index.base import AddedIndex, Counts, Discarded, InstanceMetadata, Page, PutResult, Query
from pacs.index.mongo_rows import COLLECTIONS, stored_instance, within_uids
from pacs.index.mongo_search import Reading
from pacs.index.mongo_write import Transaction
from pacs.index.sqlite_rows import prepare

T = TypeVar("T")
SCHEMA = 1
_PAGE = 500
_GROUP = 64
_ROOM = 1000  # ids that a transaction other than put may need at first; unused ones are lost
_SNAPSHOT_TOO_NEW = 246  # an index was just made: a snapshot from before cannot be read
_UNIQUE = {
    "patients": (["identity"],),
    "studies": (["uid"],),
    "series": (["uid", "study_id"],),
    "instances": (["sop_uid", "series_id"],),
}
_OTHER = {
    "studies": (["patient_id"],),
    "series": (["study_id"],),
    "instances": (
        ["study_uid", "series_uid", "sop_uid"],
        ["series_id", "seq"],
        ["study_id", "seq"],
        ["study_id", "study_digest"],
        ["blob_key"],
        ["x.p", "x.k", "x.v"],
    ),
    "contents": (["i"],),
    "superseded": (["study_uid", "series_uid", "sop_uid"], ["blob_key"]),
    "deleted": (["study_uid", "series_uid", "sop_uid"], ["blob_key"]),
}


class MongoIndex:
    """``pacs.index.base.Index`` on one database of a replica set. Safe from any thread and process.

    uri: a MongoDB URL. Raises OutOfResources when the server cannot be reached or is no replica set, Corrupt when a
    newer version made the database.
    """

    def __init__(self, uri: str, database: str, *, timeout_ms: int = 10_000) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri, serverSelectionTimeoutMS=timeout_ms)
        self._lock = threading.Lock()  # one transaction of this process at a time; the others share the next
        self._queue: list[_Job] = []
        self._queue_lock = threading.Lock()
        try:
            self._db = self._client.get_database(
                database,
                codec_options=CodecOptions(),
                read_preference=ReadPreference.PRIMARY,
                write_concern=WriteConcern("majority", j=True),
                read_concern=ReadConcern("majority"),
            )
            self._prepare()
        except PyMongoError as error:
            self._client.close()
            raise OutOfResources(f"MongoDB cannot be used ({type(error).__name__})") from error
        except BaseException:
            self._client.close()
            raise

    def _prepare(self) -> None:
        hello = self._client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise OutOfResources("MongoDB must be a replica set (one member is enough): start it with --replSet")
        meta = self._db.meta
        fresh = {"next_id": 1, "size_bytes": 0, "schema": SCHEMA}
        meta.update_one({"_id": "archive"}, {"$setOnInsert": fresh}, upsert=True)
        found = meta.find_one({"_id": "archive"}) or fresh
        if found["schema"] > SCHEMA:
            raise Corrupt(f"the index is newer than this program: it has schema {found['schema']}, known is {SCHEMA}")
        for unique, table in ((True, _UNIQUE), (False, _OTHER)):
            for name, indexes in table.items():
                for fields in indexes:
                    self._db[name].create_index([(field, ASCENDING) for field in fields], unique=unique)
        for attribute in ALL:
            if not (attribute.counted and attribute.vr == "IS"):
                name = COLLECTIONS[attribute.level]
                self._db[name].create_index([(f"k.{attribute.tag}", ASCENDING)], sparse=True)
        self._db.added.create_index([("path", ASCENDING)], unique=True)

    def put(self, records: Sequence[InstanceRecord], *, replace: bool = False) -> list[PutResult]:
        prepared = [prepare(record) for record in records]
        # Two ids a record: its own, and a superseded version's.
        return self._write(lambda tx: mongo_write.put_all(tx, prepared, replace=replace), 2 * len(prepared))

    def search(self, query: Query) -> Page:
        return self._read(lambda reading: reading.search(query))

    def select(self, keys: Mapping[TagPath, Matcher], within: Target | None = None) -> list[StoredInstance]:
        return [one for _, one in self._read(lambda reading: reading.select(keys, within))]

    def locate(self, target: Target) -> list[StoredInstance]:
        return self.select({}, target)

    def metadata(self, target: Target) -> Iterator[InstanceMetadata]:
        found = self._read(lambda reading: reading.select({}, target))
        for begin in range(0, len(found), 100):
            page = found[begin : begin + 100]
            ids = [instance_id for instance_id, _ in page]
            json = self._read(lambda r, ids=ids: mongo_write.contents(r.db, r.session, ids, "m"))  # type: ignore[misc]
            # What was removed since the ids were read is left out.
            yield from (InstanceMetadata(one.target, json[number]) for number, one in page if number in json)

    def layout(self, target: Target) -> Layout:
        def read(reading: Reading) -> bytes | None:
            found = reading.select({}, target)
            ids = [number for number, _ in found]
            return mongo_write.contents(reading.db, reading.session, ids, "l")[ids[0]] if ids else None

        data = self._read(read)
        if data is None:
            raise NotFound("there is no such instance")
        return Layout.from_bytes(data)

    def remove(self, targets: Sequence[Target]) -> list[BlobRef]:
        return self._write(lambda tx: mongo_write.remove_all(tx, targets), len(targets))

    def delete(self, target: Target, at: datetime) -> list[StoredInstance]:
        room = 1 + len(self.versions(target)) + _ROOM
        return self._write(lambda tx: mongo_write.delete(tx, target, at), room)

    def versions(self, target: Target) -> list[StoredInstance]:
        def read(reading: Reading) -> list[StoredInstance]:
            where = within_uids(target)
            return [
                stored_instance(one)
                for name in ("instances", "superseded")
                for one in reading.db[name].find(where, session=reading.session).sort("_id", 1)
            ]

        return self._read(read)

    def is_deleted(self, target: Target) -> bool:
        where = within_uids(target)
        return self._read(lambda r: r.db.deleted.find_one(where, session=r.session) is not None)

    def discarded(self, until: datetime) -> Iterator[Discarded]:
        for name in ("deleted", "superseded"):
            where = {"at": {"$lte": until.isoformat()}, "blob_key": {"$exists": True}}
            for page in self._pages(name, where):
                keys = [one["blob_key"] for one in page]
                current = self._read(
                    lambda r, keys=keys: r.db.instances.distinct(  # type: ignore[misc]
                        "blob_key", {"blob_key": {"$in": keys}}, session=r.session
                    )
                )
                for one in page:
                    if one["blob_key"] not in current:
                        yield Discarded(stored_instance(one), datetime.fromisoformat(one["at"]), name == "deleted")

    def forget(self, keys: Collection[str]) -> None:
        self._write(lambda tx: mongo_write.forget(tx, list(keys)), 0)

    def bury(self, versions: Sequence[Discarded]) -> None:
        self._write(lambda tx: mongo_write.bury(tx, versions), len(versions))

    def stored(self) -> Iterator[StoredInstance]:
        for name in ("instances", "superseded"):
            for page in self._pages(name, {}):
                yield from (stored_instance(one) for one in page)

    def holds_key(self, key: str) -> bool:
        return self._read(lambda reading: mongo_write.holds_key(reading.db, key, reading.session))

    def counts(self) -> Counts:
        def read(reading: Reading) -> Counts:
            patients, studies, series, instances = (
                reading.db[name].count_documents({}, session=reading.session) for name in COLLECTIONS.values()
            )
            meta = reading.db.meta.find_one({"_id": "archive"}, session=reading.session)
            return Counts(patients, studies, series, instances, meta["size_bytes"])

        return self._read(read)

    def add_index(self, path: TagPath) -> None:
        self._write(lambda tx: mongo_added.add(tx, path), 1)

    def fill_index(self, path: TagPath) -> bool:
        return self._write(lambda tx: mongo_added.fill(tx, path), 0)

    def drop_index(self, path: TagPath) -> None:
        self._write(lambda tx: mongo_added.drop(tx, path), 0)

    def added_indexes(self) -> list[AddedIndex]:
        return self._read(lambda reading: mongo_added.listed(reading.db, reading.session))

    def clear(self) -> None:
        def forget_all(tx: Transaction) -> None:
            for name in (*COLLECTIONS.values(), "contents", "superseded", "deleted"):
                tx.drop(name, {})
            # Ids go on counting: a cursor handed out before never points past what comes next.
            tx.db.meta.update_one({"_id": "archive"}, {"$set": {"size_bytes": 0}}, session=tx.session)

        self._write(forget_all, 0)

    def close(self) -> None:
        with self._lock:
            self._client.close()

    def _pages(self, name: str, where: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        last = 0
        while True:
            asked = {**where, "_id": {"$gt": last}}
            page: list[dict[str, Any]] = self._read(
                lambda r, asked=asked: list(r.db[name].find(asked, session=r.session).sort("_id", 1).limit(_PAGE))  # type: ignore[misc]
            )
            if not page:
                return
            last = page[-1]["_id"]
            yield page

    def _read(self, function: Callable[[Reading], T]) -> T:
        """Run on one snapshot."""
        for attempt in range(50):
            try:
                with self._client.start_session(snapshot=True) as session:
                    database = self._db.with_options(read_concern=ReadConcern())
                    return function(Reading(database, session))
            except OperationFailure as error:
                if error.code != _SNAPSHOT_TOO_NEW or attempt == 49:
                    raise OutOfResources(f"the index cannot be read ({type(error).__name__})") from error
                time.sleep(0.05)
            except PyMongoError as error:
                raise OutOfResources(f"the index cannot be read ({type(error).__name__})") from error
        raise AssertionError

    def _write(self, function: Callable[[Transaction], T], room: int) -> T:
        """Run in a transaction, with what other threads ask for meanwhile; run again on a conflict."""
        job = _Job(function, room)
        with self._queue_lock:
            self._queue.append(job)
        with self._lock:
            if not job.is_done:
                with self._queue_lock:
                    jobs, self._queue = self._queue[:_GROUP], self._queue[_GROUP:]
                if job not in jobs:
                    with self._queue_lock:
                        self._queue.remove(job)
                    jobs.append(job)
                self._commit(jobs)
        if job.error is not None:
            raise job.error
        return job.value  # type: ignore[no-any-return]  # what the function returned

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            self._run(jobs)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            if len(jobs) == 1 or _is_lost(error.__cause__):
                for job in jobs:
                    job.finish(error)
                return
            # One by one, so that whoever spoiled the transaction spoils only its own.
            for job in jobs:
                self._commit([job])

    def _run(self, jobs: list[_Job]) -> None:
        def body(session: Any) -> list[Any]:
            tx = Transaction(self._db.with_options(read_concern=ReadConcern()), session, sum(j.room for j in jobs))
            return [job.function(tx) for job in jobs]

        try:
            with self._client.start_session() as session:
                values = session.with_transaction(
                    body, read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority", j=True)
                )
        except PyMongoError as error:
            raise OutOfResources(f"the index cannot be written ({type(error).__name__})") from error
        for job, value in zip(jobs, values, strict=True):
            job.value = value
            job.finish(None)


def _is_lost(error: BaseException | None) -> bool:
    """Whether the server went away, so that one more try for each job would only take longer, or do it twice."""
    return isinstance(error, ConnectionFailure) or (
        isinstance(error, PyMongoError) and error.has_error_label("UnknownTransactionCommitResult")
    )


class _Job:
    def __init__(self, function: Callable[[Transaction], Any], room: int) -> None:
        self.function = function
        self.room = room
        self.is_done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def finish(self, error: BaseException | None) -> None:
        self.error = error
        self.is_done = True
