"""Queries on the Mongo index.

Rows come from one collection, in the order of first storage. Keys of other levels are looked for first where few
entities meet them, and lead to the rows as a list of ids; where many do, the rows are gone through in batches and the
other levels asked about each batch, so that neither memory nor a filter grows with the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from pacs.dicom.attributes import BY_TAG
from pacs.dicom.matching import Matcher, TagPath, is_universal, matches_all
from pacs.dicom.model import EVERYTHING, Level, Scope, StoredInstance, Target
from pacs.errors import Invalid
from pacs.index import mongo_added
from pacs.index.base import Order, Page, Query
from pacs.index.listing import INSTANCES, KEYS, SERIES_NUMBER, check_order
from pacs.index.mongo_chains import WITHOUT_KEYS, by_ids, chains_of
from pacs.index.mongo_conditions import Filter, on_values
from pacs.index.mongo_contents import contents
from pacs.index.mongo_documents import (
    COLLECTIONS,
    STORED,
    Document,
    RowMaker,
    attributes_of,
    field_of,
    stored_instance,
    study_of,
    subtree,
)
from pacs.index.mongo_listing import on_words
from pacs.index.mongo_tables import Tables

_FEW = 2000  # ids that a filter may list
_BATCH = 200
_METADATA_PAGE = 100
# What a document says of those above it, and what of a document is needed to look at others.
_ABOVE = {
    Level.STUDY: {Level.PATIENT: "patient", Level.STUDY: "_id"},
    Level.SERIES: {Level.STUDY: "study_uid", Level.SERIES: "_id"},
    Level.IMAGE: {Level.STUDY: "study_uid", Level.SERIES: "series_id", Level.IMAGE: "_id"},
}
_LINKS = {"patient": 1, "study_uid": 1, "series_id": 1, "o": 1}
_TEXTS = {"f": 1, "r": 1, "p.f": 1, "p.r": 1, "n": 1, "modalities": 1, "classes": 1, "timezone": 1}
_WITHOUT_CONTENTS = {"m": 0, "l": 0, "x": 0, **WITHOUT_KEYS}


def search(tables: Tables, query: Query) -> Page:
    """One page. Raises Invalid for a bad cursor, or an order that the level does not have."""
    level, after, order = query.level, _cursor(query.after), query.order
    check_order(level, order)
    if query.text and level is not Level.STUDY:
        raise Invalid("a text finds studies alone", "search")
    rows = _Rows(tables, level, query.keys, query.within, query.scope, query.labels, query.text)
    maker = RowMaker(query.fields, level)
    limit = None if query.limit is None else query.limit + 1
    # With an order a cursor is how many came before.
    first = max(query.offset, 0) + (after or 0 if order else 0)
    documents = rows.ordered(order, first, limit) if order else rows.page(after, first, limit)
    has_more = query.limit is not None and len(documents) > query.limit
    documents = documents[: query.limit]
    total = None
    if query.count:
        is_all = not has_more and not query.offset and after is None
        total = len(documents) if is_all else rows.count()
    chains, metadata = chains_of(tables, level, maker, documents), {}
    found = []
    for begin in range(0, len(documents), _METADATA_PAGE):
        page = documents[begin : begin + _METADATA_PAGE]
        if maker.has_metadata:
            metadata = contents(tables, [_instance_of(level, one) for one in page], "m")
        for document, chain in zip(page, chains[begin:], strict=False):
            # Whatever was removed meanwhile is left out; the page's end stays where it is.
            if chain is not None and not (maker.has_metadata and _instance_of(level, document) not in metadata):
                found.append((document, maker.json(chain, metadata.get(_instance_of(level, document)))))
    return Page(
        rows=[row for _, row in found],
        next=str(first + len(documents) if order else documents[-1]["o"]) if has_more and documents else None,
        total=total,
        inconsistent=frozenset(at for at, (one, _) in enumerate(found) if one.get("inconsistent")),
    )


def select(
    tables: Tables, keys: Mapping[TagPath, Matcher], within: Target | None, scope: Scope = EVERYTHING
) -> list[StoredInstance]:
    """Instances that match, in the contract's order."""
    return [stored_instance(one) for one in _selected(tables, keys, within, scope)]


def instance_ids(tables: Tables, target: Target, scope: Scope = EVERYTHING) -> list[str]:
    """Ids of a subtree's instances, in the contract's order."""
    return [one["_id"] for one in _selected(tables, {}, target, scope)]


def labels_of(tables: Tables, study_uids: Sequence[str], scope: Scope) -> dict[str, list[str]]:
    where = {"$and": [{"_id": {"$in": list(study_uids)}}, *on_studies(scope, ()).get(Level.STUDY, ())]}
    return {one["_id"]: sorted(one.get("labels", ())) for one in tables["studies"].find(where, {"labels": 1})}


def label_counts(tables: Tables, scope: Scope) -> dict[str, int]:
    where = {"$and": [{"labels": {"$gt": ""}}, *on_studies(scope, ()).get(Level.STUDY, ())]}
    stages = [{"$match": where}, {"$unwind": "$labels"}, {"$group": {"_id": "$labels", "number": {"$sum": 1}}}]
    return {one["_id"]: one["number"] for one in tables["studies"].aggregate([*stages, {"$sort": {"_id": 1}}])}


def _selected(tables: Tables, keys: Mapping[TagPath, Matcher], within: Target | None, scope: Scope) -> list[Document]:
    found = list(_Rows(tables, Level.IMAGE, keys, within, scope).all(STORED))
    if len(found) < 2:
        return found
    orders: dict[str, int] = {}
    for name, ids in (
        ("studies", {study_of(one["series_id"]) for one in found}),
        ("series", {one["series_id"] for one in found}),
    ):
        if len(ids) > 1:
            listed = sorted(ids)
            for begin in range(0, len(listed), _FEW):
                where = by_ids(Level.SERIES if name == "series" else Level.STUDY, listed[begin : begin + _FEW])
                orders.update((one["_id"], one["o"]) for one in tables[name].find(where, {"o": 1}))

    def order(one: Document) -> tuple[Any, ...]:
        series = one["series_id"]
        return (orders.get(study_of(series), 0), orders.get(series, 0), one["number"], one["sop_uid"])

    return sorted(found, key=order)


class _Rows:
    """The documents of one level that meet all keys.

    Keys outside the table of attributes are on an image's metadata. A patient's are also looked for on its studies.
    """

    def __init__(
        self,
        tables: Tables,
        level: Level,
        keys: Mapping[TagPath, Matcher],
        within: Target | None = None,
        scope: Scope = EVERYTHING,
        labels: Collection[str] = (),
        text: str = "",
    ) -> None:
        self._tables = tables
        self._level = level
        self._filters: dict[Level, list[Filter]] = {}
        self._inexact: dict[Level, dict[TagPath, Matcher]] = {}
        self._outside: dict[TagPath, Matcher] = {}
        if within is not None:
            self._add_within(within)
        for path, matcher in keys.items():
            if not is_universal(matcher):
                self._add(path, matcher)
        if text:
            self._filters.setdefault(Level.STUDY, []).extend(on_words(text))
        if labels or not scope.is_everything:
            self._add_scope(scope, labels, within)
        if self._outside:
            narrowing = mongo_added.conditions(tables, self._outside)
            self._filters.setdefault(Level.IMAGE, []).extend(narrowing)
        self._checks: list[Callable[[Sequence[Document]], set[str]]] = []
        self._narrow_from_above()
        self._narrow_from_below()

    def page(self, after: int | None, skip: int, limit: int | None) -> list[Document]:
        """Documents in the order of first storage."""
        where = self._filter(self._level)
        if after is not None:
            where = {"$and": [where, {"o": {"$gt": after}}]} if where else {"o": {"$gt": after}}
        if limit is not None and limit <= 0:
            return []
        if self._is_exact():
            found = self._collection(self._level).find(where, _WITHOUT_CONTENTS).sort("o", 1).skip(skip)
            return list(found if limit is None else found.limit(limit))
        cursor = self._collection(self._level).find(where, _WITHOUT_CONTENTS).sort("o", 1).batch_size(_BATCH)
        return list(islice(self._checked(cursor), skip, None if limit is None else skip + limit))

    def ordered(self, order: Order, skip: int, limit: int | None) -> list[Document]:
        """Documents in an order of their own."""
        if limit is not None and limit <= 0:
            return []
        if order.tag == SERIES_NUMBER:
            return self._by_series_number(order, skip, limit)
        way = -1 if order.is_descending else 1
        field = f"n.{INSTANCES}" if order.tag == INSTANCES else f"s.{KEYS[order.tag]}" if order.tag in KEYS else ""
        parts: list[tuple[Filter, list[tuple[str, int]]]] = [
            ({}, [(field, way), ("o", way)] if field else [("o", way)])
        ]
        if order.tag in KEYS:
            # Then those that have none.
            parts = [({field: {"$gte": ""}}, parts[0][1]), ({field: None}, [("o", 1)])]
        places: list[int] = []
        for number, (own, by) in enumerate(parts):
            where = {"$and": [one for one in (own, self._filter(self._level)) if one] or [{}]}
            if number and skip and not places:
                skip = max(skip - self._count(parts[0][0]), 0)
            elif number:
                skip = 0
            more = None if limit is None else limit - len(places)
            if more != 0:
                places += self._places(where, by, skip, more)
        found: dict[int, Document] = {}
        for begin in range(0, len(places), _FEW):
            part = {"o": {"$in": places[begin : begin + _FEW]}}
            found.update((one["o"], one) for one in self._collection(self._level).find(part, _WITHOUT_CONTENTS))
        # What was removed meanwhile is left out.
        return [found[place] for place in places if place in found]

    def _places(self, where: Filter, by: list[tuple[str, int]], skip: int, limit: int | None) -> list[int]:
        """Places in the order of storage, of rows that come in another: an index may know these by itself."""
        collection = self._collection(self._level)
        if self._is_exact():
            found = collection.find(where, {"_id": 0, "o": 1}).sort(by).allow_disk_use(True).skip(skip)
            return [one["o"] for one in (found if limit is None else found.limit(limit))]
        fields = _LINKS | (_TEXTS if self._inexact.get(self._level) else {})
        cursor = self._checked(collection.find(where, fields).sort(by).allow_disk_use(True).batch_size(_BATCH))
        return [one["o"] for one in islice(cursor, skip, None if limit is None else skip + limit)]

    def _by_series_number(self, order: Order, skip: int, limit: int | None) -> list[Document]:
        field = f"k.{SERIES_NUMBER}"
        keyed = []
        for one in self.all({**_LINKS, field: 1}):
            values = one.get("k", {}).get(SERIES_NUMBER)
            keyed.append((values[0] if values else None, one["o"], one["_id"]))
        numbered = sorted((one for one in keyed if one[0] is not None), key=_by_number, reverse=order.is_descending)
        others = sorted((one for one in keyed if one[0] is None), key=lambda one: one[1])
        ids = [one[2] for one in [*numbered, *others]][skip : None if limit is None else skip + limit]
        found: dict[str, Document] = {}
        for begin in range(0, len(ids), _FEW):
            where = by_ids(self._level, ids[begin : begin + _FEW])
            found.update((one["_id"], one) for one in self._collection(self._level).find(where, _WITHOUT_CONTENTS))
        return [found[one] for one in ids if one in found]

    def all(self, fields: Document) -> Iterator[Document]:
        """Documents in any order."""
        where = self._filter(self._level)
        if self._is_exact():
            return iter(self._collection(self._level).find(where, fields))
        return self._checked(self._collection(self._level).find(where, {**_LINKS, **_TEXTS, **fields}))

    def count(self) -> int:
        return self._count({})

    def _count(self, more: Filter) -> int:
        own = self._filter(self._level)
        where = {"$and": [own, more]} if own and more else own or more
        if self._is_exact():
            return int(self._collection(self._level).count_documents(where))
        fields = _LINKS | (_TEXTS if self._inexact.get(self._level) else {})
        return sum(1 for _ in self._checked(self._collection(self._level).find(where, fields)))

    def _add_within(self, within: Target) -> None:
        if self._level is Level.IMAGE:
            self._filters.setdefault(Level.IMAGE, []).append(subtree(within))
            return
        at = within.level
        if at <= self._level and self._level is not Level.PATIENT:
            own = {"_id": within.study_uid} if self._level is Level.STUDY else {"study_uid": within.study_uid}
            if within.series_uid is not None:
                own["series_uid"] = within.series_uid
            self._filters.setdefault(self._level, []).append(own)
            return
        below = {Level.STUDY: {"_id": within.study_uid}, Level.IMAGE: subtree(within)}
        below[Level.SERIES] = {"study_uid": within.study_uid, "series_uid": within.series_uid or ""}
        self._filters.setdefault(at, []).append(below[at])

    def _add_scope(self, scope: Scope, labels: Collection[str], within: Target | None) -> None:
        """What is not visible is nothing that keys are met by."""
        has_below = bool(self._outside) or any(self._filters.get(at) for at in (Level.SERIES, Level.IMAGE))
        is_below = self._level > Level.STUDY or (self._level is Level.STUDY and has_below)
        for level, filters in on_studies(scope, labels, by_series=is_below or self._level is Level.PATIENT).items():
            if within is not None and level < self._level:
                # Not all that bear a label: the one that is asked about.
                filters.append({"_id" if level is Level.STUDY else "study_uid": within.study_uid})
            self._filters.setdefault(level, []).extend(filters)

    def _add(self, path: TagPath, matcher: Matcher) -> None:
        attribute = BY_TAG.get(path[0]) if len(path) == 1 else None
        if attribute is None:
            self._outside[path] = matcher
            return
        is_counter = attribute.counted and attribute.vr == "IS"
        at = attribute.level
        if at is Level.PATIENT and self._level > Level.PATIENT and not is_counter:
            at = Level.STUDY
        where, is_exact = on_values(field_of(attribute, at), attribute, matcher)
        if attribute.tag == "0020000D" and self._level > Level.STUDY:
            # What is below a study names its UID.
            where = _renamed(where)
            at = self._level
        self._filters.setdefault(at, []).append(where)
        if not is_exact:
            self._inexact.setdefault(at, {})[path] = matcher

    def _narrow_from_above(self) -> None:
        if Level.PATIENT in self._filters and self._level > Level.PATIENT:
            # Counters alone; all that meet them are listed, since nobody asks for these in earnest.
            ids = [one["_id"] for one in self._documents(Level.PATIENT, {})]
            self._filters.setdefault(Level.STUDY, []).append({"patient": {"$in": ids}})
        for above in (Level.STUDY, Level.SERIES):
            if above >= self._level or not self._is_asked(above):
                continue
            field = _ABOVE[self._level][above]
            few = self._few(above)
            if few is not None:
                self._filters.setdefault(self._level, []).append({field: {"$in": [one["_id"] for one in few]}})
            else:
                self._checks.append(lambda batch, above=above, field=field: self._meets_above(batch, above, field))  # type: ignore[misc]

    def _meets_above(self, batch: Sequence[Document], above: Level, field: str) -> set[str]:
        ids = sorted({one[field] for one in batch})
        met = {one["_id"] for one in self._documents(above, by_ids(above, ids))}
        return {one["_id"] for one in batch if one[field] in met}

    def _narrow_from_below(self) -> None:
        asked = [at for at in Level if at > self._level and self._is_asked(at)]
        if not asked:
            return
        lowest = asked[-1]
        few = self._few(lowest) if self._filters.get(lowest) else None
        if few is None:
            self._checks.append(lambda batch: self._meets_below(batch, asked))
            return
        at = lowest
        for above in reversed([Level.PATIENT, Level.STUDY, Level.SERIES]):
            if above >= at or above < self._level:
                continue
            if above in asked:
                few = self._above(few, at, above)
                at = above
        ids = sorted(self._ids_at(few, at, self._level))
        self._filters.setdefault(self._level, []).append({"_id": {"$in": ids}})

    def _above(self, documents: Sequence[Document], at: Level, above: Level) -> list[Document]:
        """Those that are asked for among what the documents belong to."""
        ids = sorted(self._ids_at(documents, at, above))
        return list(self._documents(above, by_ids(above, ids)))

    def _ids_at(self, documents: Sequence[Document], at: Level, above: Level) -> set[str]:
        if above is Level.PATIENT and at > Level.STUDY:
            studies = sorted({one["study_uid"] for one in documents})
            found = self._tables["studies"].find({"_id": {"$in": studies}}, {"patient": 1})
            return {one["patient"] for one in found}
        return {one[_ABOVE[at][above]] for one in documents}

    def _meets_below(self, batch: Sequence[Document], asked: Sequence[Level]) -> set[str]:
        """Those of a batch under which some one entity meets the keys of all levels below."""
        own_ids = sorted(one["_id"] for one in batch)
        field = "study_uid"
        studies: dict[str, str] = {}
        if self._level is Level.PATIENT:
            found = list(self._documents(Level.STUDY, {"patient": {"$in": own_ids}}))
            if asked == [Level.STUDY]:
                return {one["patient"] for one in found}
            studies = {one["_id"]: one["patient"] for one in found}
            own_ids = sorted(studies)
        elif self._level is Level.SERIES:
            field = "series_id"
        scope: Filter = {field: {"$in": own_ids}}
        if field == "series_id":
            scope["study_uid"] = {"$in": sorted({study_of(one) for one in own_ids})}
        if Level.SERIES in asked:
            series = list(self._documents(Level.SERIES, scope))
            if asked[-1] is Level.SERIES:
                return self._named({one["study_uid"] for one in series}, studies)
            scope = {"series_id": {"$in": [one["_id"] for one in series]}, "study_uid": scope["study_uid"]}
        return self._named(self._with_images(scope, field), studies)

    def _named(self, ids: set[str], studies: Mapping[str, str]) -> set[str]:
        return {studies[one] for one in ids} if self._level is Level.PATIENT else ids

    def _with_images(self, scope: Filter, field: str) -> set[str]:
        """Values of a field of the instances in a scope that meet the keys of images."""
        if not self._inexact.get(Level.IMAGE) and not self._outside:
            where = {"$and": [scope, self._filter(Level.IMAGE)]}
            grouped = self._tables["instances"].aggregate([{"$match": where}, {"$group": {"_id": f"${field}"}}])
            return {one["_id"] for one in grouped}
        return {one[field] for one in self._documents(Level.IMAGE, scope)}

    def _few(self, level: Level) -> list[Document] | None:
        """All that meet a level's keys, None when they are many."""
        found = list(islice(self._documents(level, {}, limit=_FEW + 1), _FEW + 1))
        return found if len(found) <= _FEW else None

    def _documents(self, level: Level, scope: Filter, limit: int = 0) -> Iterator[Document]:
        """What meets a level's own keys within a scope."""
        own = self._filter(level)
        where = {"$and": [scope, own]} if scope and own else scope or own
        inexact = self._inexact.get(level)
        found = self._collection(level).find(where, _LINKS | (_TEXTS if inexact else {})).limit(0 if inexact else limit)
        return self._compared(level, found)

    def _compared(self, level: Level, documents: Iterator[Document]) -> Iterator[Document]:
        inexact = self._inexact.get(level)
        if inexact:
            documents = (one for one in documents if matches_all(inexact, attributes_of(level, one)))
        if level is Level.IMAGE and self._outside:
            documents = self._meeting_outside(documents)
        return documents

    def _checked(self, documents: Iterator[Document]) -> Iterator[Document]:
        documents = self._compared(self._level, documents)
        while batch := list(islice(documents, _BATCH)):
            left: Sequence[Document] = batch
            for check in self._checks:
                met = check(left) if left else set()
                left = [one for one in left if one["_id"] in met]
            yield from left

    def _meeting_outside(self, documents: Iterator[Document]) -> Iterator[Document]:
        while page := list(islice(documents, _METADATA_PAGE)):
            metadata = contents(self._tables, [one["_id"] for one in page], "m")
            for one in page:
                if one["_id"] in metadata and matches_all(self._outside, orjson.loads(metadata[one["_id"]])):
                    yield one

    def _is_asked(self, level: Level) -> bool:
        return bool(self._filters.get(level)) or (level is Level.IMAGE and bool(self._outside))

    def _is_exact(self) -> bool:
        is_outside = self._level is Level.IMAGE and self._outside
        return not (self._checks or self._inexact.get(self._level) or is_outside)

    def _filter(self, level: Level) -> Filter:
        filters = [one for one in self._filters.get(level, ()) if one]
        return filters[0] if len(filters) == 1 else {"$and": filters} if filters else {}

    def _collection(self, level: Level) -> Any:
        return self._tables[COLLECTIONS[level]]


def _by_number(keyed: tuple[Any, int, str]) -> tuple[Any, int]:
    return keyed[0], keyed[1]


def on_studies(scope: Scope, labels: Collection[str], *, by_series: bool = False) -> dict[Level, list[Filter]]:
    """Filters of what is visible, and bears one of some labels. by_series: modalities are asked of series."""
    found: dict[Level, list[Filter]] = {}
    for asked in (scope.labels, labels or None):
        if asked is not None:
            found.setdefault(Level.STUDY, []).append({"labels": {"$in": sorted(asked)}})
    if scope.studies is not None:
        found.setdefault(Level.STUDY, []).append({"_id": {"$in": sorted(scope.studies)}})
    if scope.modalities is not None:
        level, field = (Level.SERIES, "modality") if by_series else (Level.STUDY, "m")
        found.setdefault(level, []).append({field: {"$in": sorted(scope.modalities)}})
    return found


def _renamed(where: Filter) -> Filter:
    """A filter on the UID of a study, as one on documents below it."""
    if "$or" in where:
        return {"$or": [_renamed(one) for one in where["$or"]]}
    (condition,) = where.values()
    return {"study_uid": condition}


def _instance_of(level: Level, document: Document) -> str:
    return str(document["_id"] if level is Level.IMAGE else document["last"])


def _cursor(after: str | None) -> int | None:
    if after is None:
        return None
    if not (after.isascii() and after.isdigit() and len(after) < 20 and int(after) < 1 << 63):
        raise Invalid("the cursor is not one that this index gave", "after")
    return int(after)
