"""Rows of an answer: the ready JSON of each level, merged; parents are read once a query."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import orjson

from pacs.dicom.json_model import dumps
from pacs.dicom.model import Level
from pacs.index.base import Fields
from pacs.index.fields import COUNTED, IDENTITY, LISTS, Wanted, outside, take, wanted
from pacs.index.sqlite_contents import Reader
from pacs.index.sqlite_schema import ALIASES, TABLES

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
                *_columns(self._wanted[level], ALIASES[level]),
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
            names = ", ".join([self._parent_column(upper), *_columns(self._wanted[upper], alias)])
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


def _columns(asked: Wanted, alias: str) -> list[str]:
    names = [f"{alias}.fragment", f"{alias}.rest"][: asked.bodies]
    return names + [f"{alias}.{LISTS.get(a.tag, 'c' + a.tag)}" for a in asked.counted]
