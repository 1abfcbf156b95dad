"""The change feed of the Mongo index.

Transactions of several nodes commit in another order than they begin in, so that none can number its own changes: a
reader would pass by what commits late under a smaller number. A change is written without a number; whoever reads
numbers what has been committed first, in one transaction that meets any other that does so at a counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pymongo import UpdateOne

from pacs.dicom.model import Target
from pacs.index.mongo_documents import Document
from pacs.index.mongo_tables import Tables
from pacs.index.mongo_unit import Unit
from pacs.index.work import Change, ChangeKind

_COUNTER = "changes"
_NUMBERED_AT_ONCE = 5000
_UNNUMBERED: Document = {"pending": {"$gt": 0}}


def note(unit: Unit, kind: ChangeKind, targets: Sequence[Target], at: datetime) -> None:
    """Within the transaction that makes the change, and has read what it changes."""
    # Who changes what another has committed has a later place (``Order``): the order among those that wait for numbers.
    place = unit.place()
    unit.insert(
        "changes",
        [
            {
                "pending": place,
                "part": part,
                "at": at.timestamp(),
                "kind": int(kind),
                "uids": [target.study_uid, target.series_uid or "", target.sop_uid or ""],
            }
            for part, target in enumerate(targets)
        ],
    )


def is_any_unnumbered(tables: Tables) -> bool:
    return tables["changes"].find_one(_UNNUMBERED, {"_id": 1}) is not None


def number(unit: Unit) -> None:
    """Number what is committed and has no number, some thousands at once."""
    changes = unit.tables["changes"]
    found = changes.find(_UNNUMBERED, {"_id": 1}, session=unit.session)
    waiting = [one["_id"] for one in found.sort([("pending", 1), ("part", 1)]).limit(_NUMBERED_AT_ONCE)]
    if not waiting:
        return
    counter = unit.tables["counters"].find_one_and_update(
        {"_id": _COUNTER}, {"$inc": {"last": len(waiting)}}, upsert=True, return_document=True, session=unit.session
    )
    first = int(counter["last"]) - len(waiting) + 1
    changes.bulk_write(
        [
            UpdateOne({"_id": one}, {"$set": {"cursor": cursor}, "$unset": {"pending": "", "part": ""}})
            for cursor, one in enumerate(waiting, first)
        ],
        ordered=False,
        session=unit.session,
    )


def page(tables: Tables, after: int, limit: int) -> list[Change]:
    found = tables["changes"].find({"cursor": {"$gt": after}}).sort("cursor", 1).limit(limit)
    return [
        Change(
            int(one["cursor"]),
            datetime.fromtimestamp(one["at"], UTC),
            ChangeKind(one["kind"]),
            Target(*one["uids"]),
        )
        for one in found
    ]


def count(tables: Tables, after: int, until: int) -> dict[tuple[datetime, ChangeKind], int]:
    """See ``Work.count_changes``."""
    hour = {"$subtract": ["$at", {"$mod": ["$at", 3600]}]}
    groups = tables["changes"].aggregate(
        [
            {"$match": {"cursor": {"$gt": after, "$lte": until}}},
            {"$group": {"_id": {"hour": hour, "kind": "$kind"}, "number": {"$sum": 1}}},
        ]
    )
    return {
        (datetime.fromtimestamp(round(one["_id"]["hour"]), UTC), ChangeKind(one["_id"]["kind"])): int(one["number"])
        for one in groups
    }


def span(tables: Tables) -> tuple[int, int]:
    counter = tables["counters"].find_one({"_id": _COUNTER})
    newest = int(counter["last"]) if counter else 0
    where: Document = {"cursor": {"$gt": 0}}
    oldest = tables["changes"].find_one(where, {"cursor": 1}, sort=[("cursor", 1)])
    return (newest if oldest is None else int(oldest["cursor"]) - 1), newest


def forget(unit: Unit, until: datetime) -> int:
    # In order of cursors, up to the first that is kept: there are no holes, whatever a clock did.
    changes = unit.tables["changes"]
    kept = changes.find_one(
        {"cursor": {"$gt": 0}, "at": {"$gt": until.timestamp()}},
        {"cursor": 1},
        sort=[("cursor", 1)],
        session=unit.session,
    )
    where: Document = {"cursor": {"$gt": 0, **({"$lt": kept["cursor"]} if kept else {})}}
    return int(changes.delete_many(where, session=unit.session).deleted_count)
