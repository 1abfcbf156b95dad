"""Jobs and records in the Mongo index; the change feed is in ``mongo_changes``."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import orjson
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne

from pacs.dicom.model import Target
from pacs.index import mongo_changes
from pacs.index.base import Put, PutResult
from pacs.index.listing import LABELS
from pacs.index.mongo_documents import Document
from pacs.index.mongo_tables import Tables
from pacs.index.mongo_unit import Unit
from pacs.index.work import Change, ChangeKind, Job, JobEnd, JobState, NewJob, Record, RecordWrite, job_id

T = TypeVar("T")
_OPEN = [int(JobState.WAITING), int(JobState.RUNNING)]
_ENDLESS = 1e12

_BY_LABEL = [("kind", 1), ("label", 1), ("key", 1)]  # an index of ``mongo_tables``


class Access(Protocol):
    """What of ``MongoIndex`` is needed here."""

    def read(self, function: Callable[[Tables], T]) -> T: ...

    def transact(self, function: Callable[[Unit], T]) -> T: ...


class MongoWork:
    """``pacs.index.work.Work``."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def add_jobs(self, jobs: Sequence[NewJob]) -> None:
        self._access.transact(lambda unit: add_jobs(unit, jobs))

    def next_due(self, kinds: Sequence[str]) -> dict[str, datetime]:
        def first(tables: Tables, kind: str, state: int) -> Any:
            # Of each state alone, which the index has in order: however many wait, one entry is read.
            return tables["jobs"].find_one({"kind": kind, "state": state}, {"due": 1}, sort=[("due", 1)])

        def read(tables: Tables) -> dict[str, datetime]:
            found = {kind: [first(tables, kind, state) for state in _OPEN] for kind in kinds}
            times = {kind: [one["due"] for one in each if one is not None] for kind, each in found.items()}
            return {kind: _aware(min(each)) for kind, each in times.items() if each}

        return self._access.read(read)

    def claim_jobs(self, kind: str, now: datetime, until: datetime, limit: int) -> list[Job]:
        return self._access.transact(lambda unit: _claim(unit, kind, now, until, limit))

    def extend_claims(self, jobs: Sequence[Job], until: datetime) -> None:
        writes = [UpdateOne(_held(job), {"$set": {"due": until.timestamp()}}) for job in jobs]
        self._write(writes)

    def end_jobs(self, ends: Sequence[JobEnd]) -> None:
        self._write([write for end in ends for write in _writes_of(end)])

    def postpone_jobs(self, kind: str, group: str, until: datetime) -> None:
        due = until.timestamp()
        where = {"kind": kind, "group": group, "state": JobState.WAITING.value, "due": {"$lt": due}}
        self._write([UpdateMany(where, {"$set": {"due": due}})])

    def jobs(
        self,
        *,
        kind: str | None = None,
        state: JobState | None = None,
        job_id: str | None = None,
        key_prefix: str = "",
        after: str = "",
        limit: int = 100,
    ) -> list[Job]:
        where: Document = {"_id": {"$gt": after}}
        for field, value in (("kind", kind), ("state", state), ("_id", job_id)):
            if value is not None:
                where[field] = {"$gt": after, "$eq": value} if field == "_id" else value
        if key_prefix:
            where["key"] = {"$gte": key_prefix, "$lt": f"{key_prefix}\U0010ffff"}
        return self._access.read(
            lambda tables: [_job(one) for one in tables["jobs"].find(where).sort("_id").limit(limit)]
        )

    def count_jobs(self) -> dict[tuple[str, JobState], int]:
        stages = [{"$group": {"_id": {"kind": "$kind", "state": "$state"}, "number": {"$sum": 1}}}]
        found = self._access.read(lambda tables: list(tables["jobs"].aggregate(stages)))
        return {(one["_id"]["kind"], JobState(one["_id"]["state"])): one["number"] for one in found}

    def retry_jobs(self, job_ids: Sequence[str], now: datetime) -> int:
        at = now.timestamp()
        change = {"$set": {"state": JobState.WAITING.value, "due": at, "created": at, "attempts": 0}}
        where = {"_id": {"$in": list(job_ids)}, "state": {"$ne": JobState.RUNNING.value}}
        return self._access.transact(
            lambda unit: int(unit.tables["jobs"].update_many(where, change, session=unit.session).matched_count)
        )

    def discard_jobs(self, job_ids: Sequence[str]) -> int:
        where = {"_id": {"$in": list(job_ids)}, "state": {"$ne": JobState.RUNNING.value}}
        return self._access.transact(
            lambda unit: int(unit.tables["jobs"].delete_many(where, session=unit.session).deleted_count)
        )

    def changes(self, after: int, limit: int) -> list[Change]:
        self._number_changes()
        return self._access.read(lambda tables: mongo_changes.page(tables, after, limit))

    def change_span(self) -> tuple[int, int]:
        self._number_changes()
        return self._access.read(mongo_changes.span)

    def count_changes(self, after: int, until: int) -> dict[tuple[datetime, ChangeKind], int]:
        self._number_changes()
        return self._access.read(lambda tables: mongo_changes.count(tables, after, until))

    def forget_changes(self, until: datetime) -> int:
        self._number_changes()
        return self._access.transact(lambda unit: mongo_changes.forget(unit, until))

    def record(self, kind: str, key: str) -> Record | None:
        found = self._access.read(lambda tables: tables["records"].find_one({"_id": record_id(kind, key)}))
        return None if found is None else _record(found)

    def records(
        self, kind: str, *, labels: tuple[str, str] | None = None, after: str = "", limit: int = 1000
    ) -> list[Record]:
        where: Document = {"kind": kind, "key": {"$gt": after}}
        if labels is not None:
            where["label"] = {"$gte": labels[0], "$lte": labels[1]}
        # Of many in the range, the server might go through all of the kind for the sake of their order.
        hint = _BY_LABEL if labels is not None else None
        return self._access.read(
            lambda tables: [_record(one) for one in tables["records"].find(where, hint=hint).sort("key").limit(limit)]
        )

    def write_records(self, writes: Sequence[RecordWrite], jobs: Sequence[NewJob] = ()) -> bool:
        return self._access.transact(lambda unit: write_records(unit, writes, jobs))

    def _number_changes(self) -> None:
        while self._access.read(mongo_changes.is_any_unnumbered):
            self._access.transact(mongo_changes.number)

    def _write(self, writes: Sequence[Any]) -> None:
        if writes:
            self._access.transact(lambda unit: unit.tables["jobs"].bulk_write(list(writes), session=unit.session))


def add_jobs(unit: Unit, jobs: Sequence[NewJob]) -> None:
    """Within the transaction of what they follow."""
    now = datetime.now(UTC).timestamp()
    # The same job twice in one transaction: the later takes the earlier's place in the list.
    latest = {job_id(job.kind, job.key): job for job in jobs}
    if latest:
        writes = [_upsert(one_id, job, now) for one_id, job in latest.items()]
        unit.tables["jobs"].bulk_write(writes, ordered=False, session=unit.session)


def follow(
    unit: Unit,
    targets: Sequence[Target],
    results: Sequence[PutResult],
    jobs: Sequence[Sequence[NewJob]],
    *,
    announce: bool,
) -> None:
    """What comes of records that were put: changes for the feed, and jobs."""
    now = datetime.now(UTC)
    for put, kind in ((Put.STORED, ChangeKind.STORED), (Put.REPLACED, ChangeKind.REPLACED)):
        changed = [target for target, result in zip(targets, results, strict=True) if result.outcome is put]
        if announce and changed:
            mongo_changes.note(unit, kind, changed, now)
    taken = (Put.STORED, Put.REPLACED)
    add_jobs(unit, [job for result, own in zip(results, jobs, strict=True) if result.outcome in taken for job in own])


def _upsert(one_id: str, job: NewJob, now: float) -> UpdateOne:
    due = job.due.timestamp() if job.due else now
    state = {"$ifNull": ["$state", JobState.DEAD.value]}  # new: as one that was given up
    is_dead = {"$eq": [state, JobState.DEAD.value]}
    is_waiting = {"$eq": [state, JobState.WAITING.value]}
    is_fresh = {"$and": [is_waiting, {"$eq": ["$attempts", 0]}]}
    put_off = {"$min": [{"$max": ["$due", due]}, {"$ifNull": ["$latest", _ENDLESS]}]}
    # A job that waits for another attempt waits on: it has failed, and asking again does not mend that.
    change = {
        "kind": {"$literal": job.kind},
        "key": {"$literal": job.key},
        "group": {"$literal": job.group},
        "payload": {"$literal": job.payload},
        # Another cause alone is nothing to write.
        "cause": {"$cond": [is_waiting, {"$ifNull": ["$cause", ""]}, {"$literal": job.cause}]},
        "due": {"$cond": [is_dead, due, {"$cond": [is_fresh, put_off, "$due"]}]},
        "next_due": {"$cond": [is_waiting, "$next_due", due]},
        "latest": {"$cond": [is_waiting, "$latest", job.latest.timestamp() if job.latest else None]},
        "attempts": {"$cond": [is_dead, 0, "$attempts"]},
        "created": {"$cond": [is_dead, now, "$created"]},
        # Where nothing changes, nothing is written: a thousand instances of a study ask for the same.
        "revision": {"$cond": [is_waiting, "$revision", {"$add": [{"$ifNull": ["$revision", 0]}, 1]}]},
        "claim": {"$ifNull": ["$claim", ""]},
        "error": {"$ifNull": ["$error", ""]},
        "state": {"$cond": [is_dead, JobState.WAITING.value, state]},
    }
    return UpdateOne({"_id": one_id}, [{"$set": change}], upsert=True)


def _claim(unit: Unit, kind: str, now: datetime, until: datetime, limit: int) -> list[Job]:
    jobs = unit.tables["jobs"]
    where: Document = {"kind": kind, "state": {"$in": _OPEN}, "due": {"$lte": now.timestamp()}}
    first = jobs.find_one(where, {"group": 1}, sort=[("due", 1)], session=unit.session)
    if first is None:
        return []
    where["group"] = first["group"]
    ids = [one["_id"] for one in jobs.find(where, {"_id": 1}, session=unit.session).sort("due", 1).limit(limit)]
    # Two nodes that choose the same meet here: one of the transactions runs again, and finds them taken.
    claim = secrets.token_hex(8)
    jobs.update_many(
        {"_id": {"$in": ids}},
        {"$set": {"state": JobState.RUNNING.value, "due": until.timestamp(), "claim": claim}, "$inc": {"attempts": 1}},
        session=unit.session,
    )
    found = jobs.find({"_id": {"$in": ids}}, session=unit.session)
    return sorted((_job(one) for one in found), key=lambda job: (job.created_at, job.key))


def _held(job: Job) -> Document:
    return {"_id": job.job_id, "claim": job.claim, "state": JobState.RUNNING.value}


def _writes_of(end: JobEnd) -> list[Any]:
    held = _held(end.job)
    waiting: Document = {"state": JobState.WAITING.value, "claim": "", "error": end.error}
    if end.retry_at is None and not end.error:
        # Asked for again while it ran: it has to see what came since.
        again = [{"$set": {**waiting, "due": "$next_due", "attempts": 0}}]
        return [DeleteOne({**held, "revision": end.job.revision}), UpdateOne(held, again)]
    if end.retry_at is not None:
        return [UpdateOne(held, {"$set": {**waiting, "due": end.retry_at.timestamp()}})]
    return [UpdateOne(held, {"$set": {**waiting, "state": JobState.DEAD.value}})]


def write_records(unit: Unit, writes: Sequence[RecordWrite], jobs: Sequence[NewJob] = ()) -> bool:
    records = unit.tables["records"]
    ids = [record_id(write.kind, write.key) for write in writes]
    found = records.find({"_id": {"$in": ids}}, {"version": 1}, session=unit.session)
    versions = {one["_id"]: int(one["version"]) for one in found}
    if any(write.expected not in (None, versions.get(own, 0)) for own, write in zip(ids, writes, strict=True)):
        return False
    changes: list[Any] = []
    for own, write in zip(ids, writes, strict=True):
        version = versions.get(own, 0)
        # Another transaction's change since this one's snapshot is a write conflict, and all of it runs again.
        if write.content is None:
            changes.append(DeleteOne({"_id": own}))
        else:
            document = {
                **{"_id": own, "kind": write.kind, "key": write.key, "content": write.content},
                **{"version": version + 1, "label": write.label},
            }
            changes.append(ReplaceOne({"_id": own}, document) if version else InsertOne(document))
            versions[own] = version + 1
    if changes:
        records.bulk_write(changes, session=unit.session)
    _label(unit, [write for write in writes if write.kind == LABELS])
    add_jobs(unit, jobs)
    return True


def _label(unit: Unit, writes: Sequence[RecordWrite]) -> None:
    """Studies bear the labels of their records."""
    unit.load({"studies": [write.key for write in writes]})
    for write in writes:
        study = unit.get("studies", write.key)
        if study is not None:
            study.pop("labels", None)
            if write.content is not None:
                study["labels"] = orjson.loads(write.content)


def record_id(kind: str, key: str) -> str:
    return f"{kind}\\{key}"


def _record(found: Document) -> Record:
    return Record(found["kind"], found["key"], bytes(found["content"]), int(found["version"]), found["label"])


def _job(found: Document) -> Job:
    return Job(
        found["kind"],
        found["key"],
        found["group"],
        bytes(found["payload"]),
        JobState(found["state"]),
        _aware(found["due"]),
        _aware(found["created"]),
        int(found["attempts"]),
        int(found["revision"]),
        found["claim"],
        found["error"],
        found.get("cause", ""),
    )


def _aware(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
