"""Rows of an answer: the ready JSON of each level, merged; parents are read once a query."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pacs.dicom.attributes import BY_TAG, DEFAULT_SEQUENCES, KEPT_SEQUENCES, Attribute
from pacs.dicom.json_model import dumps
from pacs.dicom.matching import private_tags
from pacs.dicom.model import Level
from pacs.index.base import Fields
from pacs.index.sqlite_contents import Reader
from pacs.index.sqlite_schema import ALIASES, TABLES, attributes_of

# Made from columns instead of the ready JSON: lists as JSON, the rest numbers. (Available Transfer Syntax UID never
# changes, so it is part of the ready JSON.)
_LISTS = {"00080061": "modalities", "00080062": "classes"}
_PARENT = {Level.STUDY: "patient_id", Level.SERIES: "study_id", Level.IMAGE: "series_id"}


class RowReader:
    """Makes JSON objects of one query's rows.

    columns: what the query must select, from the alias of the level's table and in this order, for ``json``.
    """

    def __init__(self, connection: sqlite3.Connection, contents: Reader, fields: Fields, level: Level) -> None:
        self._connection = connection
        self._contents = contents
        self._wanted = {at: wanted(fields, at) for at in Level if at <= level}
        self._level = level
        self._outside = outside(fields, level)
        self._has_metadata = bool(self._outside) or (fields.everything and level is Level.IMAGE)
        self._is_whole = fields.everything and level is Level.IMAGE
        self._has_parents = any(self._wanted[at].is_anything for at in Level if at < level)
        self._packed = range(self._wanted[level].bodies) if level is Level.IMAGE else ()
        self._parents: dict[tuple[Level, int], dict[str, Any]] = {}
        self.columns = ", ".join(
            [
                self._parent_column(level),
                self._metadata_column(),
                *self._wanted[level].columns(ALIASES[level]),
            ]
        )

    def json(self, row: Sequence[Any]) -> bytes:
        """One object, attributes in ascending order of tags."""
        parent_id, metadata, *own = row
        for position in self._packed:
            own[position] = self._contents.read(own[position])
        found = {**self._parent(self._level, parent_id), **self._wanted[self._level].read(own)}
        if metadata is not None:
            whole = orjson.loads(self._contents.read(metadata))
            if self._is_whole:
                # The instance's own values; what only the index knows comes from the rows.
                found = {**found, **{tag: whole[tag] for tag in whole if tag not in IDENTITY and tag not in COUNTED}}
            else:
                take(whole, self._outside, found)
        return dumps(dict(sorted(found.items())))

    def _parent(self, level: Level, parent_id: int | None) -> dict[str, Any]:
        """Attributes of all levels above; parent_id: id of the row one level up."""
        if parent_id is None:
            return {}
        upper = Level(level - 1)
        known = self._parents.get((upper, parent_id))
        if known is None:
            alias = ALIASES[upper]
            names = ", ".join([self._parent_column(upper), *self._wanted[upper].columns(alias)])
            sql = f"SELECT {names} FROM {TABLES[upper]} {alias} WHERE {alias}.id = ?"
            grandparent_id, *own = self._connection.execute(sql, (parent_id,)).fetchone()
            known = {**self._parent(upper, grandparent_id), **self._wanted[upper].read(own)}
            self._parents[(upper, parent_id)] = known
        return known

    def _parent_column(self, level: Level) -> str:
        return f"{ALIASES[level]}.{_PARENT[level]}" if level > Level.PATIENT and self._has_parents else "NULL"

    def _metadata_column(self) -> str:
        if not self._has_metadata:
            return "NULL"
        alias = ALIASES[self._level]
        instance = f"{alias}.id" if self._level is Level.IMAGE else f"{alias}.last_instance"
        return f"(SELECT metadata FROM contents WHERE id = {instance})"


@dataclass(frozen=True)
class _Wanted:
    """What is asked of one level. tags: None for all; defaults: the default ones, with ``tags`` added."""

    defaults: bool
    tags: frozenset[str] | None
    counted: tuple[Attribute, ...]

    @property
    def is_anything(self) -> bool:
        return self.defaults or self.tags is None or bool(self.tags) or bool(self.counted)

    @property
    def bodies(self) -> int:
        """How many of the first columns are JSON: fragment, and rest."""
        if not self.is_anything:
            return 0
        return 2 if self.tags is None or self.tags else 1

    def columns(self, alias: str) -> list[str]:
        names = [f"{alias}.fragment", f"{alias}.rest"][: self.bodies]
        return names + [f"{alias}.{_LISTS.get(a.tag, 'c' + a.tag)}" for a in self.counted]

    def read(self, values: Sequence[Any]) -> dict[str, Any]:
        if not self.is_anything:
            return {}
        found: dict[str, Any] = {}
        defaults = orjson.loads(values[0])
        if self.defaults or self.tags is None:
            found = defaults
        if self.tags is None:
            found.update(orjson.loads(values[1]))
        elif self.tags:
            pool = {**defaults, **orjson.loads(values[1])}
            found.update({tag: pool[tag] for tag in self.tags if tag in pool})
        if self.counted:
            for attribute, value in zip(self.counted, values[len(values) - len(self.counted) :], strict=True):
                listed = orjson.loads(value) if attribute.tag in _LISTS else [value]
                found[attribute.tag] = {"vr": attribute.vr, "Value": listed} if listed else {"vr": attribute.vr}
        return found


# Values of these in a data set are not looked at: the index knows better.
COUNTED = frozenset(tag for tag, attribute in BY_TAG.items() if attribute.counted)
IDENTITY = frozenset({"00080016", "00080018", "0020000D", "0020000E"})


def wanted(fields: Fields, level: Level) -> _Wanted:
    defaults = level in fields.levels
    kept = {a.tag for a in attributes_of(level)} | {tag for tag, at in KEPT_SEQUENCES.items() if at is level}
    tags = None if fields.everything else frozenset(fields.tags & kept)
    counted = tuple(
        a
        for a in attributes_of(level)
        if a.counted and a.tag != "00083002" and (fields.everything or a.tag in fields.tags or (defaults and a.default))
    )
    if tags is not None:
        tags -= {a.tag for a in counted}
        if defaults:
            # They are there already: the rest need not be looked at for them.
            tags -= {a.tag for a in attributes_of(level) if a.default} | DEFAULT_SEQUENCES
    return _Wanted(defaults, tags, counted)


def outside(fields: Fields, level: Level) -> frozenset[str]:
    """Tags asked for by name that no row at or above this level keeps."""

    def is_kept(tag: str) -> bool:
        attribute = BY_TAG.get(tag)
        if attribute is not None:
            return attribute.level <= level or attribute.counted
        return tag in KEPT_SEQUENCES and KEPT_SEQUENCES[tag] <= level

    return frozenset(tag for tag in fields.tags if not is_kept(tag))


def take(whole: dict[str, Any], tags: Iterable[str], found: dict[str, Any]) -> None:
    """Add these tags of a data set; a private one with the element that reserves its block (PS3.5 7.8.1)."""
    for tag in tags:
        if "@" not in tag:
            if tag in whole:
                found[tag] = whole[tag]
            continue
        for place in private_tags(whole, tag):
            if place in whole:
                creator = f"{place[:4]}00{place[4:6]}"
                found[creator], found[place] = whole[creator], whole[place]
