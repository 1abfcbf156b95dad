"""Deleted versions in the Mongo index, and taking them back in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import groupby

from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.index import mongo_work
from pacs.index.base import DELETION, Deletion, Discarded, Put, PutResult, deletion_key
from pacs.index.mongo_documents import Document, stored_instance, subtree, version_fields, within_uids
from pacs.index.mongo_tables import Tables
from pacs.index.mongo_unit import Unit
from pacs.index.mongo_write import PutOptions, put_all, take_out, take_superseded
from pacs.index.rows import Prepared
from pacs.index.work import NewJob, RecordWrite

# Its file is there, and is not about to go.
_CAN_RETURN: Document = {"blob_key": {"$exists": True}, "doomed": {"$exists": False}}
_ARRIVAL = {"blob_key": 1, "received_at": 1, "source": 1}


def delete(
    unit: Unit, target: Target, at: datetime, jobs: Sequence[NewJob] = (), note: bytes | None = None
) -> list[StoredInstance]:
    """Take a subtree out and note what was there, earlier versions too."""
    arrived = {one["blob_key"]: _arrival(one) for one in unit.find("instances", subtree(target), _ARRIVAL)}
    current = [
        Discarded(one, at, True, False, *arrived.get(one.blob.key, (None, None))) for one in take_out(unit, target)
    ]
    earlier = [Discarded(one, at, is_deleted=True, is_earlier=True) for one in take_superseded(unit, target)]
    instances = [one.instance for one in (*current, *earlier)]
    if instances:
        mongo_work.add_jobs(unit, jobs)
        if note is not None:
            mongo_work.write_records(unit, [RecordWrite(DELETION, deletion_key(at, target.study_uid), note)])
    noted = {one.instance.blob.key: document_of(one) for one in (*current, *earlier)}
    known = unit.distinct("deleted", "blob_key", {"blob_key": {"$in": list(noted)}})
    unit.insert("deleted", [document for key, document in noted.items() if key not in known])
    return instances


def document_of(version: Discarded) -> Document:
    document = {**version_fields(version.instance), "at": version.at.isoformat()}
    if version.is_earlier:
        document["earlier"] = True
    if version.received_at is not None and version.source is not None:
        source = version.source
        document["received_at"] = version.received_at.isoformat()
        document["source"] = [source.name, source.address, source.protocol]
    return document


def deleted(tables: Tables, target: Target) -> list[Discarded]:
    """What of a subtree can be restored, in the order of ``Index.deleted``."""
    found = list(tables["deleted"].find({**within_uids(target), **_CAN_RETURN}).sort("_id", 1))
    found.sort(key=lambda one: bool(one.get("earlier")))
    found.sort(key=lambda one: str(one["at"]), reverse=True)
    return [
        Discarded(
            stored_instance(one),
            datetime.fromisoformat(one["at"]),
            True,
            bool(one.get("earlier")),
            *_arrival(one),
        )
        for one in found
    ]


def deletions(tables: Tables, before: str | None, limit: int) -> list[Deletion]:
    """A page of ``Index.deletions``."""
    at, _, study_uid = (before or "~").partition(" ")  # "~" is after every date
    found: list[Deletion] = []
    while len(found) < limit:
        # From group to group by the index, however many instances each has.
        asked = {**_CAN_RETURN, "$or": [{"at": at, "study_uid": {"$lt": study_uid}}, {"at": {"$lt": at}}]}
        one = tables["deleted"].find_one(asked, {"at": 1, "study_uid": 1}, sort=[("at", -1), ("study_uid", -1)])
        if one is None:
            break
        at, study_uid = one["at"], one["study_uid"]
        sums = {
            "_id": None,
            "instances": {"$sum": {"$cond": [{"$ifNull": ["$earlier", False]}, 0, 1]}},
            "size_bytes": {"$sum": "$size_bytes"},
        }
        stages = [{"$match": {**_CAN_RETURN, "at": at, "study_uid": study_uid}}, {"$group": sums}]
        note = tables["records"].find_one({"_id": _note_id(at, study_uid)}, {"content": 1})
        for group in tables["deleted"].aggregate(stages):
            content = None if note is None else bytes(note["content"])
            when = datetime.fromisoformat(at)
            found.append(Deletion(study_uid, when, int(group["instances"]), int(group["size_bytes"]), content))
    return found


def restore(unit: Unit, items: Sequence[Prepared], jobs: Sequence[Sequence[NewJob]]) -> list[PutResult | None]:
    """Take deleted versions back in."""
    wanted = {"blob_key": {"$in": [item.record.blob.key for item in items]}, "doomed": {"$exists": False}}
    noted = {one["blob_key"]: one for one in unit.find("deleted", wanted)}
    there = [number for number, item in enumerate(items) if item.record.blob.key in noted]
    results: list[PutResult | None] = [None] * len(items)
    if not there:
        return results
    following = [jobs[number] if jobs else () for number in there]
    puts = put_all(unit, [items[number] for number in there], PutOptions(), following)
    gone: list[Document] = []
    for number, put in zip(there, puts, strict=True):
        results[number] = put
        if put.outcome is Put.STORED:
            gone.append(noted[items[number].record.blob.key])
    earlier = _earlier(unit, gone)
    unit.insert(
        "superseded",
        [{**version_fields(stored_instance(one)), "at": one["at"]} for one in earlier],
    )
    # Whoever has doomed one of them since this transaction's snapshot makes it run again.
    if gone:
        unit.delete("deleted", {"_id": {"$in": [one["_id"] for one in (*gone, *earlier)]}})
    drop_notes(unit.tables, {(one["at"], one["study_uid"]) for one in gone}, unit.session)
    return results


def _earlier(unit: Unit, gone: Sequence[Document]) -> list[Document]:
    """The versions that these had superseded, and that were deleted with them."""

    def group(one: Document) -> tuple[str, str, str]:
        return one["at"], one["study_uid"], one["series_uid"]

    found: list[Document] = []
    for (at, study_uid, series_uid), some in groupby(sorted(gone, key=group), group):
        sops = [one["sop_uid"] for one in some]
        where = {"study_uid": study_uid, "series_uid": series_uid, "sop_uid": {"$in": sops}}
        found += unit.find("deleted", {**where, **_CAN_RETURN, "at": at, "earlier": True}).sort("_id", 1)
    return found


def doom(tables: Tables, keys: Collection[str]) -> set[str]:
    """Those of the keys whose files may go."""
    among: Document = {"blob_key": {"$in": list(keys)}}
    tables["deleted"].update_many({**among, "doomed": {"$exists": False}}, {"$set": {"doomed": True}})
    found = {one["blob_key"] for one in tables["deleted"].find({**among, "doomed": True}, {"blob_key": 1})}
    found |= {one["blob_key"] for one in tables["superseded"].find(among, {"blob_key": 1})}
    return found - {one["blob_key"] for one in tables["instances"].find(among, {"blob_key": 1})}


def forget(tables: Tables, keys: Collection[str]) -> None:
    """The files under these keys are gone."""
    where: Document = {"blob_key": {"$in": list(keys)}}
    groups = {(one["at"], one["study_uid"]) for one in tables["deleted"].find(where, {"at": 1, "study_uid": 1})}
    tables["superseded"].delete_many(where)
    tables["deleted"].update_many(where, {"$unset": {"blob_key": ""}})
    drop_notes(tables, groups)


def drop_notes(tables: Tables, groups: Iterable[tuple[str, str]], session: object = None) -> None:
    """Of deletions of which no file is left."""
    for at, study_uid in groups:
        where = {"at": at, "study_uid": study_uid, "blob_key": {"$exists": True}}
        if tables["deleted"].find_one(where, {"_id": 1}, session=session) is None:
            tables["records"].delete_one({"_id": _note_id(at, study_uid)}, session=session)


def _arrival(one: Document) -> tuple[datetime | None, Caller | None]:
    if "received_at" not in one:
        return None, None
    return datetime.fromisoformat(one["received_at"]), Caller(*one["source"])


def _note_id(at: str, study_uid: str) -> str:
    return mongo_work.record_id(DELETION, f"{at} {study_uid}")
