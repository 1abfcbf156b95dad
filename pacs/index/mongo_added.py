"""Added indexes of the Mongo index: the values are an array ``x`` of each instance, under one compound index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pacs.dicom.matching import Matcher, TagPath, timezone_of
from pacs.dicom.model import Attributes
from pacs.errors import NotFound
from pacs.index import mongo_write
from pacs.index.base import AddedIndex
from pacs.index.mongo_conditions import Filter, added_keys, on_added
from pacs.index.sqlite_added import check, path_of, text_of, values_of

_BATCH = 200
Definition = tuple[int, TagPath]


def definitions(tx: Any) -> list[Definition]:
    return [(one["_id"], path_of(one["path"])) for one in tx.all("added", {})]


def values_of_all(added: Sequence[Definition], attributes: Attributes) -> list[dict[str, Any]]:
    """What an instance holds for all indexes; a long value as None."""
    timezone = timezone_of(attributes)
    return [
        {"p": index_id, "k": kind, "v": None if value == b"" else value}
        for index_id, path in added
        for kind, value in dict.fromkeys(values_of(attributes, path, timezone))
    ]


def add(tx: Any, path: TagPath) -> None:
    check(path)
    if tx.one("added", {"path": text_of(path)}) is None:
        tx.insert("added", {"_id": tx.new_id(), "path": text_of(path), "filled_to": 0, "complete": False})


def fill(tx: Any, path: TagPath) -> bool:
    one = tx.one("added", {"path": text_of(path)})
    if one is None:
        raise NotFound("there is no such index")
    if one["complete"]:
        return True
    where = {"_id": {"$gt": one["filled_to"]}}
    ids = [
        row["_id"] for row in tx.db.instances.find(where, {"_id": 1}, session=tx.session).sort("_id", 1).limit(_BATCH)
    ]
    found = mongo_write.contents(tx.db, tx.session, ids, "m")
    for instance_id, metadata in found.items():
        values = values_of_all([(one["_id"], path)], orjson.loads(metadata))
        if values:
            change = {"$addToSet": {"x": {"$each": values}}}
            tx.db.instances.update_one({"_id": instance_id}, change, session=tx.session)
    one["complete"] = len(ids) < _BATCH
    one["filled_to"] = ids[-1] if ids else one["filled_to"]
    tx.save("added", one)
    return bool(one["complete"])


def drop(tx: Any, path: TagPath) -> None:
    one = tx.one("added", {"path": text_of(path)})
    if one is None:
        raise NotFound("there is no such index")
    tx.drop("added", {"_id": one["_id"]})


def listed(database: Any, session: Any) -> list[AddedIndex]:
    total = database.instances.count_documents({}, session=session)
    found = []
    for one in database.added.find({}, session=session).sort("_id", 1):
        done = total
        if not one["complete"]:
            done = database.instances.count_documents({"_id": {"$lte": one["filled_to"]}}, session=session)
        found.append(AddedIndex(path_of(one["path"]), one["complete"], done, total))
    return found


def conditions(database: Any, session: Any, keys: Mapping[TagPath, Matcher]) -> list[Filter]:
    """For each key that a complete index helps: the filter on instances that no match fails to meet."""
    complete = {path_of(one["path"]): one["_id"] for one in database.added.find({"complete": True}, session=session)}
    found = [on_added(complete[path], path, matcher) for path, matcher in added_keys(keys) if path in complete]
    return [one for one in found if one is not None]
