"""Added indexes of the Mongo index: the values are an array ``x`` of each instance, under one compound index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from pacs.dicom.matching import Matcher, TagPath, timezone_of
from pacs.dicom.model import Attributes
from pacs.errors import NotFound
from pacs.index.added import check, leaves, path_of, text_of, values_of
from pacs.index.base import AddedIndex
from pacs.index.mongo_conditions import Filter, on_added
from pacs.index.mongo_contents import contents
from pacs.index.mongo_documents import Document, study_of
from pacs.index.mongo_tables import GROUPS, Tables

if TYPE_CHECKING:
    from pacs.index.mongo_unit import Unit

_BATCH = 200
Definition = tuple[str, TagPath]


def values_of_all(added: Sequence[Definition], attributes: Attributes) -> list[Document]:
    """What an instance holds for all indexes; a long value as None."""
    timezone = timezone_of(attributes)
    return [
        {"p": index_id, "k": kind, "v": None if value == b"" else value}
        for index_id, path in added
        for kind, value in dict.fromkeys(values_of(attributes, path, timezone))
    ]


def add(unit: Unit, path: TagPath) -> None:
    """Begin an index; every transaction that may store without knowing of it either ends first or runs again."""
    check(path)
    if unit.tables["added"].find_one({"path": text_of(path)}, session=unit.session) is not None:
        return
    place = unit.place()
    # Apart from an index of the same path that was dropped, whose values are still with the instances.
    unit.insert("added", [{"_id": str(place), "o": place, "path": text_of(path), "filled_to": -1, "complete": False}])
    for group in range(GROUPS):
        # Whoever stores writes to one of these (``Unit.flush``).
        unit.tables["totals"].update_one({"_id": group}, {"$inc": {"added": 1}}, upsert=True, session=unit.session)
    unit.added = None


def fill(unit: Unit, path: TagPath) -> bool:
    """Take in the next instances; whether the index is complete then. Raises NotFound when it was dropped."""
    one = unit.tables["added"].find_one({"path": text_of(path)}, session=unit.session)
    if one is None:
        raise NotFound("there is no such index")
    if one["complete"]:
        return True
    found = unit.find("instances", {"o": {"$gt": one["filled_to"]}}, {"o": 1}).sort("o", 1).limit(_BATCH)
    orders = {row["_id"]: row["o"] for row in found}
    for own_id, metadata in contents(unit.tables, list(orders), "m", unit.session).items():
        values = values_of_all([(one["_id"], path)], orjson.loads(metadata))
        if values:
            unit.tables["instances"].update_one(
                {"_id": own_id, "study_uid": study_of(own_id)},
                {"$addToSet": {"x": {"$each": values}}},
                session=unit.session,
            )
    is_complete = len(orders) < _BATCH
    change = {"complete": is_complete, "filled_to": max(orders.values(), default=one["filled_to"])}
    unit.tables["added"].update_one({"_id": one["_id"]}, {"$set": change}, session=unit.session)
    return is_complete


def drop(unit: Unit, path: TagPath) -> None:
    """Forget an index; its values stay with the instances until these are stored anew. Raises NotFound."""
    if not unit.tables["added"].delete_one({"path": text_of(path)}, session=unit.session).deleted_count:
        raise NotFound("there is no such index")


def listed(tables: Tables) -> list[AddedIndex]:
    """All indexes, and how far each is."""
    total = tables["instances"].estimated_document_count()
    found = []
    for one in tables["added"].find({}).sort("o", 1):
        done = total
        if not one["complete"]:
            done = tables["instances"].count_documents({"o": {"$lte": one["filled_to"]}})
        found.append(AddedIndex(path_of(one["path"]), one["complete"], done, total))
    return found


def conditions(tables: Tables, keys: Mapping[TagPath, Matcher]) -> list[Filter]:
    """For each key that a complete index helps: the filter on instances that no match fails to meet."""
    complete = {path_of(one["path"]): one["_id"] for one in tables["added"].find({"complete": True})}
    found = [on_added(complete[path], path, matcher) for path, matcher in leaves(keys) if path in complete]
    return [one for one in found if one is not None]
