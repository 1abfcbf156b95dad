"""One transaction's documents: read once, changed in memory, written together."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import orjson
from bson.timestamp import Timestamp
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne

from pacs.dicom.matching import TagPath
from pacs.index.mongo_documents import STORED, Document, study_of
from pacs.index.mongo_listing import keep_listed
from pacs.index.mongo_recent import REVISED, Added, Key, Recent, Stale
from pacs.index.mongo_tables import GROUPS, Tables

_TOTALS = ("patients", "studies", "series", "instances", "size_bytes")
_MANY = 5000  # ids in one filter
_INC_BITS, _LOW_BITS = 20, 12


class Order:
    """Places in the order of storage: of the database's time, so that nodes with other clocks agree on it.

    Two transactions at the same time may be given the same place; its unique index makes one of them run again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def take(self, now: Timestamp | None, count: int) -> int:
        """The first of ``count`` places, all after those that this process was given before."""
        seconds, increment = (now.time, now.inc) if now is not None else (int(time.time()), 0)
        increment = min(increment, (1 << _INC_BITS) - 1)
        # Not every transaction begins at the same place of its moment: fewer meet.
        low = random.getrandbits(_LOW_BITS - 1)
        place = (((seconds << _INC_BITS) | increment) << _LOW_BITS) | low
        with self._lock:
            place = max(place, self._last + 1)
            self._last = place + count
        return place


class Unit:
    """Reads and changes of one transaction attempt. ``flush`` writes them; the caller commits.

    Documents that ``get`` hands out may have their values replaced; ``flush`` finds out which were. recent: what need
    not be read; instances then count as new. What of that is not so any more, ``flush`` notices: it raises Stale, or
    the server says that a key is there twice.
    """

    def __init__(self, tables: Tables, session: Any, order: Order, recent: Recent | None = None) -> None:
        self.tables = tables
        self.session = session
        self._order = order
        self._recent = recent
        self.added: Added | None = None
        self._places: Iterator[int] = iter(())
        self._known: dict[tuple[str, str], Document | None] = {}
        self._before: dict[tuple[str, str], Document | None] = {}
        self._inserts: dict[str, list[Document]] = {}
        self._totals = dict.fromkeys(_TOTALS, 0)
        self._is_change = False
        self._group = random.randrange(GROUPS)

    def load(self, wanted: Mapping[str, Collection[str]]) -> None:
        """Read documents that will be asked for, by the names of their collections."""
        for name, ids in wanted.items():
            missing = sorted({one for one in ids if (name, one) not in self._known and not self._assume(name, one)})
            for begin in range(0, len(missing), _MANY):
                part = missing[begin : begin + _MANY]
                for one in part:
                    self._known[name, one] = self._before[name, one] = None
                where: Document = {"_id": {"$in": part}}
                if name in ("series", "instances"):
                    where["study_uid"] = {"$in": sorted(set(map(study_of, part)))}
                for document in self.find(name, where, STORED if name == "instances" else None):
                    self._remember(name, document)

    def _assume(self, name: str, document_id: str) -> bool:
        """Take what is known of a document without reading it; whether that was possible."""
        if self._recent is None:
            return False
        if name == "instances":
            self._known[name, document_id] = self._before[name, document_id] = None
            return True
        document = self._recent.get((name, document_id))
        if document is None:
            return False
        self._remember(name, document)
        return True

    def definitions(self) -> list[tuple[str, TagPath]]:
        """Ids and paths of the added indexes."""
        if self.added is None:
            group = self.tables["totals"].find_one({"_id": self._group}, session=self.session) or {}
            changes = group.get("added", 0)
            known = self._recent.added if self._recent is not None else None
            if known is not None and known[0] == changes:
                self.added = known
            else:
                found = [(one["_id"], tuple(orjson.loads(one["path"]))) for one in self.find("added", {})]
                self.added = changes, found
        return self.added[1]

    def documents(self) -> dict[Key, Document | None]:
        """What is known now of documents that carry a revision, once it is committed."""
        return {key: document for key, document in self._known.items() if key[0] in REVISED}

    def get(self, name: str, document_id: str) -> Document | None:
        self.load({name: (document_id,)})
        return self._known[name, document_id]

    def find(self, name: str, where: Document, fields: Document | None = None) -> Any:
        """A cursor within the transaction; what is not flushed is not seen."""
        return self.tables[name].find(where, fields, session=self.session)

    def distinct(self, name: str, field: str, where: Document) -> set[Any]:
        """Different values of a field; the command of that name is not for transactions over shards."""
        stages = [{"$match": where}, {"$group": {"_id": f"${field}"}}]
        return {one["_id"] for one in self.tables[name].aggregate(stages, session=self.session)}

    def studies_of(self, patient: str) -> list[Document]:
        """All studies of a patient, as they are now."""
        found = {one["_id"]: one for one in self.find("studies", {"patient": patient})}
        for (name, document_id), document in self._known.items():
            if name == "studies":
                found.pop(document_id, None)
                if document is not None and document["patient"] == patient:
                    found[document_id] = document
        return list(found.values())

    def take_on(self, name: str, document: Document) -> Document:
        """A document that a query found, as one to change; what is known of it already counts."""
        key = (name, document["_id"])
        if key not in self._known:
            self._remember(name, document)
        known = self._known[key]
        assert known is not None
        return known

    def add(self, name: str, document: Document) -> None:
        """A new document, or a whole new content of one that is there."""
        self._known[name, document["_id"]] = document
        self._before.setdefault((name, document["_id"]), None)

    def drop(self, name: str, document_id: str) -> None:
        self._known[name, document_id] = None

    def insert(self, name: str, documents: Iterable[Document]) -> None:
        """Documents that are never read or changed in the same transaction."""
        self._inserts.setdefault(name, []).extend(documents)

    def withdraw(self, name: str, field: str, value: str) -> None:
        """Take back inserts of documents with this value."""
        self._inserts[name] = [one for one in self._inserts.get(name, ()) if one[field] != value]

    def delete(self, name: str, where: Document) -> None:
        """Delete at once."""
        self._is_change = True
        self.tables[name].delete_many(where, session=self.session)

    def count(self, **by: int) -> None:
        """Change the archive's totals."""
        for name, number in by.items():
            self._totals[name] += number

    def reserve(self, count: int) -> None:
        """Places for that many records, in a row; after something was read, which tells the time."""
        first = self._order.take(self.session.operation_time, count)
        self._places = iter(range(first, first + count))

    def place(self) -> int:
        found = next(self._places, None)
        if found is None:
            self.reserve(1)
            found = next(self._places)
        return found

    def settle(self) -> None:
        """Write what has changed so far, so that ``find`` sees it."""
        writes: dict[str, list[Any]] = {}
        for key, document in self._known.items():
            if key[0] == "studies" and document is not None:
                keep_listed(self._before[key], document)
            write = _write(key, self._before[key], document)
            if write is not None:
                writes.setdefault(key[0], []).append(write)
                self._before[key] = dict(document) if document is not None else None
        inserts = {name: documents for name, documents in self._inserts.items() if documents}
        self._inserts = {}
        self._is_change |= bool(writes or inserts)
        for name, documents in inserts.items():
            self.tables[name].insert_many(documents, session=self.session)
        # What transactions may meet at comes last, so that they wait as short as can be for one another's end.
        for name in ("instances", "series", "studies", "patients"):
            if name in writes:
                done = self.tables[name].bulk_write(writes[name], session=self.session)
                if done.inserted_count + done.matched_count + done.deleted_count != len(writes[name]):
                    raise Stale

    def flush(self) -> None:
        """Write what has changed, if anything has, and the totals. Raises Stale."""
        self.settle()
        if self._is_change:
            # Always: whoever adds an index changes all groups, and so meets who may not know of it (``mongo_added``).
            self.tables["totals"].update_one(
                {"_id": self._group}, {"$inc": self._totals}, upsert=True, session=self.session
            )

    def _remember(self, name: str, document: Document) -> None:
        key = (name, document["_id"])
        self._before[key] = document
        self._known[key] = dict(document)


def _write(key: Key, before: Document | None, document: Document | None) -> Any:
    if document is before is None:
        return None
    name, document_id = key
    where: Document = {"_id": document_id}
    if name in ("series", "instances"):
        where["study_uid"] = study_of(document_id)
    if name == "instances" and before is not None and document is not None:
        # Read in part only, and replaced as a whole.
        return ReplaceOne(where, document) if document["seq"] != before["seq"] else None
    if before is not None and name in REVISED:
        where["rev"] = before["rev"]
    if document is None:
        return DeleteOne(where)
    if before is not None:
        changed = {field: value for field, value in document.items() if field not in before or before[field] != value}
        gone = {field: "" for field in before if field not in document and field != "rev"}
        if not (changed or gone):
            return None
    if name in REVISED:
        document["rev"] = random.getrandbits(62)
    if before is None:
        return InsertOne(document)
    change: Document = {"$set": {**changed, "rev": document["rev"]}}
    if gone:
        change["$unset"] = gone
    return UpdateOne(where, change)


def totals(tables: Tables) -> dict[str, int]:
    """The archive's totals: patients, studies, series, instances, size_bytes."""
    found = dict.fromkeys(_TOTALS, 0)
    for one in tables["totals"].find({}):
        for name in _TOTALS:
            found[name] += one.get(name, 0)
    return found
