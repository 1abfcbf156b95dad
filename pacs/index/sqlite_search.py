"""Queries on the SQLite index.

An entity is found when some one instance under it, with its series, study and patient, meets all keys together; so a
study that is asked for by series keys and image keys has a matching image in a matching series.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from pacs.dicom.attributes import BY_TAG, Attribute
from pacs.dicom.matching import Matcher, TagPath, UidList, is_universal
from pacs.dicom.model import EVERYTHING, Level, Scope, StoredInstance, Target
from pacs.errors import Invalid
from pacs.index import sqlite_added
from pacs.index.base import Page, Query
from pacs.index.listing import begins, check_order
from pacs.index.sqlite_conditions import Condition, Slots, is_led, on_columns, on_metadata
from pacs.index.sqlite_json import RowReader
from pacs.index.sqlite_listed import Listed
from pacs.index.sqlite_rows import INSTANCE_COLUMNS, stored_instance
from pacs.index.sqlite_schema import ALIASES, COMMON, TABLES
from pacs.index.sqlite_scope import conditions as visible
from pacs.index.sqlite_scope import on_study, study_ids

# Rows that are found and sorted sooner than a page of them by going through the table in order.
_FEW = 5000
# Rows below that are found sooner than each entity is asked for one.
_FEW_BELOW = 20_000
_ORDER = "i.study_id, i.series_id, i.number IS NULL, i.number, i.c00080018"


def search(connection: sqlite3.Connection, slots: Slots, query: Query) -> Page:
    """One page. Raises Invalid for a bad cursor, or an order that the level does not have."""
    level, alias = query.level, ALIASES[query.level]
    check_order(level, query.order)
    after = _cursor(query.after)
    if level is Level.STUDY and (query.text or query.labels or query.order or not query.scope.is_everything):
        return _listed(connection, slots, query, after)
    if query.text:
        raise Invalid("a text finds studies alone", "search")
    where = _Where(slots, query.keys, query.within, query.scope, query.labels)
    condition, values = where.at(level)
    if query.order is not None:
        return _ordered(connection, slots, query, after, condition, values)
    source = f"{TABLES[level]} {alias}"
    total: int | None = None
    if where.is_led_at(level):
        # Ids alone are quick to find and to sort, and say how many there are.
        listed = connection.execute(f"SELECT {alias}.id FROM {source} WHERE {condition} LIMIT {_FEW + 1}", values)
        ids = [row[0] for row in listed]
        if len(ids) <= _FEW:
            ids.sort()
            total = len(ids)
            first = 0 if after is None else bisect_right(ids, after)
            first += max(query.offset, 0)
            page = ids[first:] if query.limit is None else ids[first : first + query.limit + 1]
            condition, values = f"{alias}.id IN (SELECT value FROM json_each(?))", [orjson.dumps(page).decode()]
            query = replace(query, offset=0)
        else:
            # So many that in order of ids a page is full sooner than all of them are found and sorted.
            source += " NOT INDEXED"
    reader = RowReader(connection, slots.contents, query.fields, level)
    inconsistent = "s.inconsistent" if level is Level.STUDY else "0"
    limit = -1 if query.limit is None else query.limit + 1
    found = connection.execute(
        f"SELECT {alias}.id, {inconsistent}, {reader.columns} FROM {source} WHERE {condition}"
        f" AND {alias}.id > ? ORDER BY {alias}.id LIMIT ? OFFSET ?",
        [*values, after or 0, limit, max(query.offset, 0)],
    ).fetchall()
    has_more = query.limit is not None and len(found) > query.limit
    if has_more:
        del found[query.limit :]
    if total is None and query.count:
        total = len(found)
        if has_more or query.offset or after is not None:
            counting = f"SELECT COUNT(*) FROM {TABLES[level]} {alias} WHERE {condition}"
            total = int(connection.execute(counting, values).fetchone()[0])
    return Page(
        rows=[reader.json(row[2:]) for row in found],
        next=str(found[-1][0]) if has_more and found else None,
        total=total if query.count else None,
        inconsistent=frozenset(position for position, row in enumerate(found) if row[1]),
    )


def _listed(connection: sqlite3.Connection, slots: Slots, query: Query, after: int | None) -> Page:
    """Studies by what they are listed by."""
    has_below = any(BY_TAG[path[0]].level > Level.STUDY for path in query.keys if path[0] in BY_TAG) or any(
        len(path) > 1 or path[0] not in BY_TAG for path in query.keys
    )
    # Keys of series and images are met by what is visible.
    below = replace(query.scope, labels=None, studies=None) if has_below else EVERYTHING
    where = _Where(slots, query.keys, query.within, below)
    sets = list(study_ids(query.scope, query.labels, with_modalities=not has_below))
    quick = len(sets)
    if where.by_level:
        condition, values = where.at(Level.STUDY)
        sets.append((f"SELECT s.id FROM studies s WHERE {condition}", values))
        quick += where.is_led_at(Level.STUDY)
    listed = Listed(connection, begins(query.text), sets, quick)
    order, limit = query.order, -1 if query.limit is None else query.limit + 1
    # Where others than ids are compared, a cursor is how many came before.
    first = max(query.offset, 0) + (0 if order is None else after or 0)
    ids = listed.page(order, (after or 0) if order is None else 0, first, limit)
    has_more = query.limit is not None and len(ids) > query.limit
    ids = ids[: query.limit] if has_more else ids
    total = None
    if query.count:
        total = len(ids) if not (has_more or query.offset or after is not None) else listed.count()
    following = str(ids[-1] if order is None else first + len(ids)) if has_more and ids else None
    return _page(connection, slots, query, ids, following, total)


def _ordered(
    connection: sqlite3.Connection, slots: Slots, query: Query, after: int | None, condition: str, values: list[Any]
) -> Page:
    """Rows of another level in an order of their own; after: how many came before."""
    alias, order = ALIASES[query.level], query.order
    way = "DESC" if order and order.is_descending else "ASC"
    by = f"{alias}.id {way}"
    if order and order.tag:
        # The first of several values.
        key = f"e.c{order.tag}"
        key = f"CASE typeof({key}) WHEN 'blob' THEN json_extract(CAST({key} AS TEXT), '$[0]') ELSE {key} END"
        by = f"({key}) IS NULL, CASE WHEN ({key}) IS NULL THEN e.id END, ({key}) {way}, {by}"
    listed = connection.execute(
        f"SELECT {alias}.id FROM {TABLES[query.level]} {alias} WHERE {condition} ORDER BY {by}", values
    )
    ids = [row[0] for row in listed]
    first = max(query.offset, 0) + (after or 0)
    page = ids[first:] if query.limit is None else ids[first : first + query.limit]
    following = str(first + len(page)) if page and first + len(page) < len(ids) else None
    return _page(connection, slots, query, page, following, len(ids) if query.count else None)


def _page(
    connection: sqlite3.Connection, slots: Slots, query: Query, ids: list[int], following: str | None, total: int | None
) -> Page:
    """Rows of these ids, as they come."""
    alias = ALIASES[query.level]
    reader = RowReader(connection, slots.contents, query.fields, query.level)
    inconsistent = "s.inconsistent" if query.level is Level.STUDY else "0"
    found = connection.execute(
        f"SELECT {inconsistent}, {reader.columns} FROM json_each(?) j CROSS JOIN {TABLES[query.level]} {alias}"
        f" ON {alias}.id = j.value ORDER BY j.key",
        (orjson.dumps(ids).decode(),),
    ).fetchall()
    return Page(
        rows=[reader.json(row[1:]) for row in found],
        next=following,
        total=total,
        inconsistent=frozenset(position for position, row in enumerate(found) if row[0]),
    )


def labels_of(connection: sqlite3.Connection, study_uids: Sequence[str], scope: Scope) -> dict[str, list[str]]:
    condition, values = on_study(scope)
    found = connection.execute(
        "SELECT s.c0020000D, (SELECT json_group_array(label) FROM study_labels WHERE study_uid = s.c0020000D)"
        f" FROM studies s WHERE s.c0020000D IN (SELECT value FROM json_each(?)) AND {condition}",
        [orjson.dumps(list(study_uids)).decode(), *values],
    )
    return {uid: sorted(orjson.loads(labels)) for uid, labels in found}


def label_counts(connection: sqlite3.Connection, scope: Scope) -> dict[str, int]:
    condition, values = on_study(scope)
    found = connection.execute(
        "SELECT b.label, COUNT(*) FROM study_labels b JOIN studies s ON s.c0020000D = b.study_uid"
        f" WHERE {condition} GROUP BY b.label ORDER BY b.label",
        values,
    )
    return dict(found.fetchall())


def select(
    connection: sqlite3.Connection,
    slots: Slots,
    keys: Mapping[TagPath, Matcher],
    within: Target | None,
    scope: Scope = EVERYTHING,
) -> list[StoredInstance]:
    """Instances that match, in the contract's order."""
    condition, values = _Where(slots, keys, within, scope).at(Level.IMAGE)
    joins = _joins(Level.IMAGE, {Level.STUDY, Level.SERIES})
    sql = f"SELECT {INSTANCE_COLUMNS} FROM instances i{joins} WHERE {condition} ORDER BY {_ORDER}"
    return [stored_instance(row) for row in connection.execute(sql, values)]


def instance_ids(connection: sqlite3.Connection, slots: Slots, target: Target, scope: Scope = EVERYTHING) -> list[int]:
    """Ids of a subtree's instances, in the contract's order."""
    condition, values = _Where(slots, {}, target, scope).at(Level.IMAGE)
    sql = f"SELECT i.id FROM instances i WHERE {condition} ORDER BY {_ORDER}"
    return [row[0] for row in connection.execute(sql, values)]


@dataclass
class _Where:
    """Conditions of all keys, by the level whose row they are on. Keys outside the table are on an image's data set."""

    slots: Slots
    keys: Mapping[TagPath, Matcher]
    within: Target | None
    scope: Scope = EVERYTHING
    labels: frozenset[str] = frozenset()
    by_level: dict[Level, list[Condition]] = field(default_factory=dict)
    has_uids: bool = False
    led: set[Level] = field(default_factory=set)  # levels where an index leads to the rows
    listed: set[Level] = field(default_factory=set)  # the same, or an index that is gone through

    def __post_init__(self) -> None:
        outside: dict[TagPath, Matcher] = {}
        leading = {
            attribute.level
            for attribute, matcher in self._attributes()
            if attribute.tag not in COMMON and is_led(attribute, matcher)
        }
        for path, matcher in self.keys.items():
            if is_universal(matcher):
                continue
            attribute = BY_TAG.get(path[0]) if len(path) == 1 else None
            if attribute is None:
                outside[path] = matcher
                continue
            level = attribute.level
            leads = attribute.tag not in COMMON or level not in leading
            self.by_level.setdefault(level, []).append(on_columns(self.slots, attribute, matcher, leads=leads))
            if is_led(attribute, matcher):
                self.led.add(level)
            if is_led(attribute, matcher, looks_at_all=True):
                self.listed.add(level)
            self.has_uids |= isinstance(matcher, UidList) and attribute.level > Level.PATIENT
        if self.within is not None:
            for level, name, uid in (
                (Level.STUDY, "s.c0020000D", self.within.study_uid),
                (Level.SERIES, "e.c0020000E", self.within.series_uid),
                (Level.IMAGE, "i.c00080018", self.within.sop_uid),
            ):
                if uid is not None:
                    self.by_level.setdefault(level, []).append((f"{name} = ?", [uid]))
                    self.has_uids = True
                    self.led.add(level)
        if self.labels or not self.scope.is_everything:
            is_within = self.within is not None
            for level, condition in visible(self.scope, self.labels, within=is_within):
                self.by_level.setdefault(level, []).append(condition)
                self.listed.add(level)
                # Studies that are named, or bear a label, are found first.
                self.has_uids |= level is Level.STUDY and not is_within
        if outside:
            narrowing = list(sqlite_added.conditions(self.slots.connection, outside))
            self.by_level.setdefault(Level.IMAGE, []).extend([*narrowing, on_metadata(self.slots, outside)])
            # The few that an added index names come first, too.
            self.has_uids |= bool(narrowing)
            if narrowing:
                self.led.add(Level.IMAGE)

    def _attributes(self) -> Iterator[tuple[Attribute, Matcher]]:
        for path, matcher in self.keys.items():
            if len(path) == 1 and path[0] in BY_TAG and not is_universal(matcher):
                yield BY_TAG[path[0]], matcher

    def is_led_at(self, level: Level) -> bool:
        """Whether an index leads to this level's rows, from keys of their own or of what they belong to."""
        return any(at <= level for at in self.led)

    def at(self, level: Level) -> Condition:
        """The condition on rows of this level's table."""
        conditions = [*self.by_level.get(level, ()), *self._above(level)]
        if any(at > level for at in self.by_level):
            conditions.append(self._below(level))
        sql = " AND ".join(f"({one})" for one, _ in conditions) or "1"
        return sql, [value for _, values in conditions for value in values]

    def _above(self, level: Level) -> Iterator[Condition]:
        """What a row belongs to meets the keys above: found first, then led down to the rows by indexes."""
        if level > Level.SERIES and self.by_level.get(Level.SERIES):
            yield self._parent(level, "series_id", Level.SERIES, [])
        upper = list(self._above(Level.STUDY)) if level > Level.STUDY else []
        if level > Level.STUDY and (upper or self.by_level.get(Level.STUDY)):
            yield self._parent(level, "study_id", Level.STUDY, upper)
        if level is Level.STUDY and self.by_level.get(Level.PATIENT):
            yield self._parent(level, "patient_id", Level.PATIENT, [])

    def _parent(self, level: Level, column: str, at: Level, more: list[Condition]) -> Condition:
        conditions = [*self.by_level.get(at, ()), *more]
        sql = " AND ".join(f"({one})" for one, _ in conditions)
        source = f"SELECT {ALIASES[at]}.id FROM {TABLES[at]} {ALIASES[at]} WHERE {sql}"
        return f"{ALIASES[level]}.{column} IN ({source})", [value for _, values in conditions for value in values]

    def _below(self, level: Level) -> Condition:
        """Some one entity below meets the keys below."""
        inner = [one for at in Level if at > level for one in self.by_level.get(at, ())]
        condition = " AND ".join(f"({sql})" for sql, _ in inner)
        values = [value for _, listed in inner for value in listed]
        lowest = max(self.by_level)
        own = f"{ALIASES[level]}.id"
        # Only those in between that have keys; a series or instance knows its study, and only that knows the patient.
        upper = {at for at in self.by_level if level < at < lowest}
        if level is Level.PATIENT and lowest > Level.STUDY:
            upper.add(Level.STUDY)
        parent = f"{'s' if level is Level.PATIENT else ALIASES[lowest]}.{_PARENTS[level]}"
        source = f"{TABLES[lowest]} {ALIASES[lowest]}{_joins(lowest, upper)} WHERE {condition}"
        if self.has_uids or (any(at > level for at in self.listed) and self._are_few(source, values)):
            # Found first, instead of asking every entity in turn.
            self.led.add(level)
            return f"{own} IN (SELECT {parent} FROM {source})", values
        # From the top down, by the indexes that lead there: the planner would go through all that have the value.
        steps, links, above = [], [], level
        for at in Level:
            # Only studies point at patients.
            if at > level and (at in self.by_level or (at is Level.STUDY and level is Level.PATIENT)):
                column = _PARENTS[above]
                steps.append(f"{TABLES[at]} {ALIASES[at]} INDEXED BY {_INDEXES[at, above]}")
                links.append(f"{ALIASES[at]}.{column} = {ALIASES[above]}.id")
                above = at
        return (
            f"EXISTS (SELECT 1 FROM {' CROSS JOIN '.join(steps)} WHERE {' AND '.join(links)} AND {condition})",
            values,
        )

    def _are_few(self, source: str, values: list[Any]) -> bool:
        counting = f"SELECT COUNT(*) FROM (SELECT 1 FROM {source} LIMIT {_FEW_BELOW + 1})"
        return bool(self.slots.connection.execute(counting, values).fetchone()[0] <= _FEW_BELOW)


_PARENTS = {Level.PATIENT: "patient_id", Level.STUDY: "study_id", Level.SERIES: "series_id"}
_INDEXES = {
    (Level.STUDY, Level.PATIENT): "study_patient",
    (Level.SERIES, Level.STUDY): "series_study",
    (Level.IMAGE, Level.STUDY): "instance_study",
    (Level.IMAGE, Level.SERIES): "instance_series",
}


def _joins(level: Level, upper: set[Level]) -> str:
    """JOINs from a level's table up to each of these levels."""
    alias = ALIASES[level]
    joins = ""
    if Level.SERIES in upper:
        joins += f" JOIN series e ON e.id = {alias}.series_id"
    if Level.STUDY in upper:
        joins += f" JOIN studies s ON s.id = {alias}.study_id"
    return joins


def _cursor(after: str | None) -> int | None:
    if after is None:
        return None
    if not (after.isascii() and after.isdigit() and len(after) < 19):
        raise Invalid("the cursor is not one that this index gave", "after")
    return int(after)
