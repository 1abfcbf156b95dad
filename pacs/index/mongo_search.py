"""Queries on the Mongo index: from the top level that has keys down to the lowest, ids of each leading to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from pacs.dicom.attributes import BY_TAG
from pacs.dicom.matching import Matcher, TagPath, is_universal, matches_all
from pacs.dicom.model import Level, StoredInstance, Target
from pacs.errors import Invalid
from pacs.index import mongo_added
from pacs.index.base import Page, Query
from pacs.index.mongo_conditions import Filter, on_values
from pacs.index.mongo_rows import COLLECTIONS, PARENTS, Document, RowMaker, attributes_of_row, stored_instance
from pacs.index.mongo_write import contents

# Ids in one filter, and instances whose metadata are read together.
_MANY = 20_000
_METADATA_PAGE = 100


class Reading:
    """One snapshot of the database."""

    def __init__(self, database: Any, session: Any) -> None:
        self.db = database
        self.session = session

    def search(self, query: Query) -> Page:
        """One page. Raises Invalid for a bad cursor."""
        after = _cursor(query.after)
        level, keys = query.level, _Keys(self, query.keys, query.within)
        offset = max(query.offset, 0)
        if keys.is_simple(level):
            where = keys.filter(level)
            paged = {"$and": [where, {"_id": {"$gt": after}}]} if after is not None else where
            limit = 0 if query.limit is None else query.limit + 1
            cursor = self.db[COLLECTIONS[level]].find(paged, session=self.session).sort("_id", 1).skip(offset)
            documents = list(cursor.limit(limit)) if query.limit is None or query.limit >= 0 else []
            total = self.db[COLLECTIONS[level]].count_documents(where, session=self.session) if query.count else None
        else:
            ids = sorted(keys.ids(level))
            total = len(ids) if query.count else None
            ids = [one for one in ids if after is None or one > after][offset:]
            ids = ids if query.limit is None else ids[: query.limit + 1]
            documents = sorted(self._documents(level, ids), key=lambda one: int(one["_id"]))
        has_more = query.limit is not None and len(documents) > query.limit
        documents = documents[: query.limit]
        return Page(
            rows=self._rows(RowMaker(query.fields, level), level, documents),
            next=str(documents[-1]["_id"]) if has_more and documents else None,
            total=total,
            inconsistent=frozenset(at for at, one in enumerate(documents) if one.get("inconsistent")),
        )

    def select(self, keys: Mapping[TagPath, Matcher], within: Target | None) -> list[tuple[int, StoredInstance]]:
        """(id, instance) of those that match, in the contract's order."""
        asked = _Keys(self, keys, within)
        name = COLLECTIONS[Level.IMAGE]
        found: Sequence[Document]
        if asked.is_simple(Level.IMAGE):
            found = list(self.db[name].find(asked.filter(Level.IMAGE), {"f": 0, "r": 0, "k": 0}, session=self.session))
        else:
            found = list(self._documents(Level.IMAGE, sorted(asked.ids(Level.IMAGE))))

        def order(one: Document) -> tuple[Any, ...]:
            number = one["number"]
            return (one["study_id"], one["series_id"], number is None, number or 0, one["sop_uid"])

        return [(one["_id"], stored_instance(one)) for one in sorted(found, key=order)]

    def _rows(self, maker: RowMaker, level: Level, documents: Sequence[Document]) -> list[bytes]:
        parents: dict[Level, dict[int, Document]] = {}
        below: Sequence[Document] = documents
        for at in reversed(Level):
            if maker.has_parents and Level.PATIENT < at <= level:
                ids = {one[PARENTS[at]] for one in below}
                below = list(self._documents(Level(at - 1), sorted(ids)))
                parents[Level(at - 1)] = {one["_id"]: one for one in below}
        rows = []
        for begin in range(0, len(documents), _METADATA_PAGE):
            page = documents[begin : begin + _METADATA_PAGE]
            metadata: dict[int, bytes] = {}
            if maker.has_metadata:
                ids_of = [one["_id"] if level is Level.IMAGE else one["last"] for one in page]
                metadata = contents(self.db, self.session, ids_of, "m")
            rows += [maker.json(one, parents, metadata) for one in page]
        return rows

    def _documents(self, level: Level, ids: Sequence[int]) -> Iterator[Document]:
        return self.by(level, "_id", ids, {}, None)

    def by(
        self, level: Level, field: str, ids: Sequence[int], where: Filter, fields: Document | None
    ) -> Iterator[Document]:
        """Documents whose field is one of the ids and that meet the filter."""
        for begin in range(0, len(ids), _MANY):
            part = {field: {"$in": list(ids[begin : begin + _MANY])}}
            both = {"$and": [part, where]} if where else part
            yield from self.db[COLLECTIONS[level]].find(both, fields, session=self.session)


class _Keys:
    """Keys by the level whose documents they are on; those outside the table are on an image's metadata."""

    def __init__(self, reading: Reading, keys: Mapping[TagPath, Matcher], within: Target | None) -> None:
        self._reading = reading
        self._filters: dict[Level, list[Filter]] = {}
        self._inexact: dict[Level, dict[TagPath, Matcher]] = {}
        self._outside: dict[TagPath, Matcher] = {}
        for path, matcher in keys.items():
            if is_universal(matcher):
                continue
            attribute = BY_TAG.get(path[0]) if len(path) == 1 else None
            if attribute is None:
                self._outside[path] = matcher
                continue
            where, is_exact = on_values(attribute, matcher)
            self._filters.setdefault(attribute.level, []).append(where)
            if not is_exact:
                self._inexact.setdefault(attribute.level, {})[path] = matcher
        if within is not None:
            for level, name, uid in (
                (Level.STUDY, "uid", within.study_uid),
                (Level.SERIES, "uid", within.series_uid),
                (Level.IMAGE, "sop_uid", within.sop_uid),
            ):
                if uid is not None:
                    self._filters.setdefault(level, []).append({name: uid})
        if self._outside:
            narrowing = mongo_added.conditions(reading.db, reading.session, self._outside)
            self._filters.setdefault(Level.IMAGE, []).extend(narrowing)

    def is_simple(self, level: Level) -> bool:
        """Whether one filter on the level's documents is all there is."""
        return set(self._filters) <= {level} and not self._inexact and not self._outside

    def filter(self, level: Level) -> Filter:
        filters = [one for one in self._filters.get(level, ()) if one]
        return {"$and": filters} if filters else {}

    def ids(self, level: Level) -> set[int]:
        """Ids of all entities of a level that match."""
        levels = [*self._filters, level]
        found: list[Document] | None = None
        above = min(levels)
        for at in Level:
            if min(levels) <= at <= max(levels) and (
                found is None or at in self._filters or at in (level, Level.STUDY)
            ):
                found = self._at(at, above, found)
                above = at
        assert found is not None
        return self._up(found, above, level)

    def _at(self, level: Level, above: Level, parents: list[Document] | None) -> list[Document]:
        inexact = self._inexact.get(level, {})
        fields = {"study_id": 1, "series_id": 1, "patient_id": 1}
        if inexact:
            fields |= {"f": 1, "r": 1, "k": 1, "modalities": 1, "classes": 1, "timezone": 1}
        if parents is None:
            source = self._reading.db[COLLECTIONS[level]].find(
                self.filter(level), fields, session=self._reading.session
            )
        else:
            column = PARENTS[Level(above + 1)]
            source = self._reading.by(level, column, [one["_id"] for one in parents], self.filter(level), fields)
        found = [one for one in source if not inexact or matches_all(inexact, attributes_of_row(level, one))]
        if level is Level.IMAGE and self._outside:
            found = list(self._meeting_outside(found))
        return found

    def _meeting_outside(self, documents: list[Document]) -> Iterator[Document]:
        for begin in range(0, len(documents), _METADATA_PAGE):
            page = documents[begin : begin + _METADATA_PAGE]
            ids = [one["_id"] for one in page]
            metadata = contents(self._reading.db, self._reading.session, ids, "m")
            for one in page:
                if matches_all(self._outside, orjson.loads(metadata[one["_id"]])):
                    yield one

    def _up(self, found: list[Document], at: Level, level: Level) -> set[int]:
        if at is level:
            return {one["_id"] for one in found}
        if level is not Level.PATIENT:
            return {one[PARENTS[Level(level + 1)]] for one in found}
        studies = {one["_id"] if at is Level.STUDY else one["study_id"] for one in found}
        return {
            one["patient_id"] for one in self._reading.by(Level.STUDY, "_id", sorted(studies), {}, {"patient_id": 1})
        }


def _cursor(after: str | None) -> int | None:
    if after is None:
        return None
    if not (after.isascii() and after.isdigit() and len(after) < 19):
        raise Invalid("the cursor is not one that this index gave", "after")
    return int(after)
