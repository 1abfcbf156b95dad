"""Queries on the SQLite index.

An entity is found when some one instance under it, with its series, study and patient, meets all keys together; so a
study that is asked for by series keys and image keys has a matching image in a matching series.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pacs.dicom.attributes import BY_TAG
from pacs.dicom.matching import Matcher, TagPath, UidList, is_universal
from pacs.dicom.model import Level, StoredInstance, Target
from pacs.errors import Invalid
from pacs.index.base import Page, Query
from pacs.index.sqlite_conditions import Condition, Slots, on_columns, on_metadata
from pacs.index.sqlite_json import RowReader
from pacs.index.sqlite_rows import INSTANCE_COLUMNS, stored_instance
from pacs.index.sqlite_schema import ALIASES, TABLES

_ORDER = "i.study_id, i.series_id, i.number IS NULL, i.number, i.c00080018"


def search(connection: sqlite3.Connection, slots: Slots, query: Query) -> Page:
    """One page. Raises Invalid for a bad cursor."""
    level, alias = query.level, ALIASES[query.level]
    where = _Where(slots, query.keys, query.within)
    joins, condition, values = where.at(level)
    reader = RowReader(connection, query.fields, level)
    inconsistent = "s.inconsistent" if level is Level.STUDY else "0"
    after = _cursor(query.after)
    sql = (
        f"SELECT {alias}.id, {inconsistent}, {reader.columns} FROM {TABLES[level]} {alias}{joins}"
        f" WHERE {condition}{f' AND {alias}.id > ?' if after is not None else ''}"
        f" ORDER BY {alias}.id LIMIT ? OFFSET ?"
    )
    limit = -1 if query.limit is None else query.limit + 1
    cursor_values = [] if after is None else [after]
    found = connection.execute(sql, [*values, *cursor_values, limit, max(query.offset, 0)]).fetchall()
    has_more = query.limit is not None and len(found) > query.limit
    if has_more:
        del found[query.limit :]
    total = None
    if query.count:
        counting = f"SELECT COUNT(*) FROM {TABLES[level]} {alias}{joins} WHERE {condition}"
        total = int(connection.execute(counting, values).fetchone()[0])
    return Page(
        rows=[reader.json(row[2:]) for row in found],
        next=str(found[-1][0]) if has_more and found else None,
        total=total,
        inconsistent=frozenset(position for position, row in enumerate(found) if row[1]),
    )


def select(
    connection: sqlite3.Connection, slots: Slots, keys: Mapping[TagPath, Matcher], within: Target | None
) -> list[StoredInstance]:
    """Instances that match, in the contract's order."""
    joins, condition, values = _Where(slots, keys, within).at(Level.IMAGE, always=(Level.STUDY, Level.SERIES))
    sql = f"SELECT {INSTANCE_COLUMNS} FROM instances i{joins} WHERE {condition} ORDER BY {_ORDER}"
    return [stored_instance(row) for row in connection.execute(sql, values)]


def instance_ids(connection: sqlite3.Connection, slots: Slots, target: Target) -> list[int]:
    """Ids of a subtree's instances, in the contract's order."""
    joins, condition, values = _Where(slots, {}, target).at(Level.IMAGE)
    sql = f"SELECT i.id FROM instances i{joins} WHERE {condition} ORDER BY {_ORDER}"
    return [row[0] for row in connection.execute(sql, values)]


@dataclass
class _Where:
    """Conditions of all keys, by the level whose row they are on. Keys outside the table are on an image's data set."""

    slots: Slots
    keys: Mapping[TagPath, Matcher]
    within: Target | None
    by_level: dict[Level, list[Condition]] = field(default_factory=dict)
    has_uids: bool = False

    def __post_init__(self) -> None:
        outside: dict[TagPath, Matcher] = {}
        for path, matcher in self.keys.items():
            if is_universal(matcher):
                continue
            attribute = BY_TAG.get(path[0]) if len(path) == 1 else None
            if attribute is None:
                outside[path] = matcher
                continue
            self.by_level.setdefault(attribute.level, []).append(on_columns(self.slots, attribute, matcher))
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
        if outside:
            self.by_level.setdefault(Level.IMAGE, []).append(on_metadata(self.slots, outside))

    def at(self, level: Level, always: tuple[Level, ...] = ()) -> tuple[str, str, list[Any]]:
        """JOINs of the levels above, the condition and its values, for a SELECT from this level's table.

        always: levels to join whether or not there is a condition on them.
        """
        upper = {at for at in self.by_level if at < level} | set(always)
        conditions = [one for at in Level if at <= level for one in self.by_level.get(at, ())]
        lower = [at for at in self.by_level if at > level]
        if lower:
            conditions.append(self._below(level, max(lower)))
        sql = " AND ".join(f"({one})" for one, _ in conditions) or "1"
        return _joins(level, upper), sql, [value for _, values in conditions for value in values]

    def _below(self, level: Level, lowest: Level) -> Condition:
        """Some one entity below meets the keys below."""
        between = {at for at in self.by_level if level < at < lowest}
        if level is Level.PATIENT and lowest > Level.STUDY:
            between.add(Level.STUDY)
        inner = [one for at in Level if at > level for one in self.by_level.get(at, ())]
        condition = " AND ".join(f"({sql})" for sql, _ in inner)
        values = [value for _, listed in inner for value in listed]
        source = f"FROM {TABLES[lowest]} {ALIASES[lowest]}{_joins(lowest, between)} WHERE"
        own = f"{ALIASES[level]}.id"
        parent = "s.patient_id" if level is Level.PATIENT else f"{ALIASES[lowest]}.{_PARENTS[level]}"
        if self.has_uids:
            # The few that a UID names are found first, instead of asking every entity in turn.
            return f"{own} IN (SELECT {parent} {source} {condition})", values
        return f"EXISTS (SELECT 1 {source} {parent} = {own} AND {condition})", values


_PARENTS = {Level.STUDY: "study_id", Level.SERIES: "series_id"}


def _joins(level: Level, upper: set[Level]) -> str:
    """JOINs from a level's table up to each of these levels."""
    alias = ALIASES[level]
    joins = ""
    if Level.SERIES in upper:
        joins += f" JOIN series e ON e.id = {alias}.series_id"
    if Level.STUDY in upper or (Level.PATIENT in upper and level > Level.STUDY):
        joins += f" JOIN studies s ON s.id = {alias}.study_id"
    if Level.PATIENT in upper:
        joins += " JOIN patients p ON p.id = s.patient_id"
    return joins


def _cursor(after: str | None) -> int | None:
    if after is None:
        return None
    if not (after.isascii() and after.isdigit() and len(after) < 19):
        raise Invalid("the cursor is not one that this index gave", "after")
    return int(after)
