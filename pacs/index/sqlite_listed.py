"""Pages of studies that are found by their words, labels or what is visible, or that come in an order of their own.

What a study has to meet is a number of sets of ids. The few that a small set holds are sorted; otherwise the index of
the order is gone through, and each study looked for in the sets, none of which needs the studies' own, large rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from pacs.index.base import Order
from pacs.index.listing import INSTANCES, KEYS, RECEIVED
from pacs.index.sqlite_conditions import Condition
from pacs.index.sqlite_listing import words

# Studies that are sorted sooner than an index is gone through.
_FEW = 2000


class Listed:
    """Studies that have words with some beginnings, and whose ids are in all of some sets (SELECTs).

    quick: how many of the first sets an index leads to.
    """

    def __init__(
        self, connection: sqlite3.Connection, begins: Sequence[str], sets: Sequence[Condition], quick: int
    ) -> None:
        self._connection = connection
        self._words = words(begins) if begins else None
        self._is_by_words = bool(begins) and not sets
        self._sets = list(sets)
        if self._words:
            (settled, matched), (fresh, contained) = self._words
            sql = f"SELECT rowid FROM study_words WHERE {settled}"
            sql += f" UNION ALL SELECT study_id FROM fresh_words WHERE {fresh}"
            self._sets.insert(0, (sql, [*matched, *contained]))
            quick += 1
        self._is_few = any(self._has_few(one) for one in self._sets[:quick])

    def page(self, order: Order | None, after: int, offset: int, limit: int) -> list[int]:
        """Ids. after: of ids, in the order of first storage only. limit: -1 for all."""
        if order is None or order.tag == RECEIVED:
            return self._by_id(after, offset, limit, is_descending=bool(order and order.is_descending))
        return self._by_key(order, offset, limit)

    def count(self) -> int:
        if self._is_by_words and self._words:
            (settled, matched), (fresh, contained) = self._words
            return self._number(
                f"SELECT (SELECT COUNT(*) FROM study_words WHERE {settled})"
                f" + (SELECT COUNT(*) FROM fresh_words WHERE {fresh})",
                [*matched, *contained],
            )
        condition, values = self._condition("l.study_id")
        return self._number(f"SELECT COUNT(*) FROM listed l WHERE {condition}", values)

    def _by_id(self, after: int, offset: int, limit: int, *, is_descending: bool) -> list[int]:
        way = "DESC" if is_descending else "ASC"
        if self._is_by_words and self._words:
            # Both come in this order by themselves, and are merged.
            (settled, matched), (fresh, contained) = self._words
            return self._ids(
                f"SELECT rowid FROM study_words WHERE {settled} AND rowid > ?"
                f" UNION ALL SELECT study_id FROM fresh_words WHERE {fresh} AND study_id > ?"
                f" ORDER BY 1 {way} LIMIT ? OFFSET ?",
                [*matched, after, *contained, after],
                limit,
                offset,
            )
        condition, values = self._condition("l.study_id")
        return self._ids(
            f"SELECT l.study_id FROM listed l WHERE {condition} AND l.study_id > ? ORDER BY l.study_id {way}"
            " LIMIT ? OFFSET ?",
            [*values, after],
            limit,
            offset,
        )

    def _by_key(self, order: Order, offset: int, limit: int) -> list[int]:
        way = "DESC" if order.is_descending else "ASC"
        if order.tag == INSTANCES:
            condition, values = self._condition("s.id")
            sql = f"SELECT s.id FROM studies s WHERE {condition} ORDER BY s.c{INSTANCES} {way}, s.id {way}"
            return self._ids(f"{sql} LIMIT ? OFFSET ?", values, limit, offset)
        key = f"l.{KEYS[order.tag]}"
        condition, values = self._condition("l.study_id")
        having = f"FROM listed l WHERE {condition} AND {key} IS NOT NULL"
        found = self._ids(
            f"SELECT l.study_id {having} ORDER BY {key} {way}, l.study_id {way} LIMIT ? OFFSET ?", values, limit, offset
        )
        if limit >= 0 and len(found) >= limit:
            return found
        # Then those that have none.
        left_out = 0
        if offset and not found:
            left_out = offset - self._number(f"SELECT COUNT(*) {having}", values)
        rest = f"SELECT l.study_id FROM listed l WHERE {condition} AND {key} IS NULL ORDER BY l.study_id"
        more = limit if limit < 0 else limit - len(found)
        return found + self._ids(f"{rest} LIMIT ? OFFSET ?", values, more, max(left_out, 0))

    def _has_few(self, one: Condition) -> bool:
        sql, values = one
        return self._number(f"SELECT COUNT(*) FROM (SELECT 1 FROM ({sql}) LIMIT {_FEW + 1})", values) <= _FEW

    def _condition(self, own: str) -> Condition:
        # A plus keeps the planner from looking each of many up, instead of going through an index.
        name = own if self._is_few else f"+{own}"
        sql = " AND ".join(f"{name} IN ({one})" for one, _ in self._sets) or "1"
        return sql, [value for _, values in self._sets for value in values]

    def _ids(self, sql: str, values: Sequence[Any], limit: int, offset: int) -> list[int]:
        return [row[0] for row in self._connection.execute(sql, [*values, limit, offset])]

    def _number(self, sql: str, values: Sequence[Any]) -> int:
        return int(self._connection.execute(sql, values).fetchone()[0])
