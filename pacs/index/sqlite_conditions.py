"""One key as an SQL condition on the columns of ``sqlite_rows``: exact, by the same criteria as the reference.

What SQL cannot compare (several values in one column, offsets of times, sounds of names, whole data sets) goes through
the function that ``install`` registers; each call names the criterion by its slot.
"""

from __future__ import annotations

import datetime
import sqlite3
from calendar import monthrange
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from pacs.dicom import criteria
from pacs.dicom.attributes import BY_TAG, Attribute
from pacs.dicom.criteria import Between, Glob, Moments, Name, OneOf, Sounding
from pacs.dicom.matching import (
    CombinedRange,
    Empty,
    Matcher,
    Sequence,
    TagPath,
    Universal,
    ValueList,
    is_universal,
    matches_all,
)
from pacs.dicom.normal import Kind, kind_of
from pacs.index import sqlite_parts
from pacs.index.parts import PARTED
from pacs.index.rows import columns
from pacs.index.sqlite_contents import Reader
from pacs.index.sqlite_schema import ALIASES, TABLES

Condition = tuple[str, list[Any]]
Slot = Callable[..., bool]

NEVER: Condition = ("0", [])
# Above every number and text, below no BLOB: parts the one value that a column nearly always holds from the lists.
_LISTS = "x''"
# Offsets are at most 26 hours apart (PS3.5 6.2, DT), and a day past the month's end is up to three days off.
_OFFSET_DAYS = 6
_DIFFERENT_LISTS = 100
# Variables are limited; a longer list goes in as one JSON text.
_MANY = 50


class Slots:
    """The Python side of a connection's conditions. contents: reads the JSON of instances on this connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.contents = Reader(connection)
        self._slots: list[Slot] = []

    def is_any(self, table: str, condition: str) -> bool:
        """Whether some row meets a condition that an index answers; holds for the transaction."""
        found = self.connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table} WHERE {condition})")
        return bool(found.fetchone()[0])

    def lists(self, table: str, column: str) -> list[bytes]:
        """Different lists of values in a column, found one after the other by its index; not many too many."""
        sql = f"SELECT {column} FROM {table} WHERE {column} > ? ORDER BY {column} LIMIT 1"
        found: list[bytes] = []
        last = b""
        while len(found) <= _DIFFERENT_LISTS:
            row = self.connection.execute(sql, (last,)).fetchone()
            if row is None:
                break
            last = row[0]
            found.append(last)
        return found

    def add(self, function: Slot) -> int:
        self._slots.append(function)
        return len(self._slots) - 1

    def call(self, slot: int, *values: Any) -> bool:
        return self._slots[slot](*values)

    def clear(self) -> None:
        self._slots.clear()


def install(connection: sqlite3.Connection) -> Slots:
    """Register ``dicom_meets(slot, values…)`` on a connection."""
    slots = Slots(connection)
    connection.create_function("dicom_meets", -1, slots.call)
    return slots


def is_led(attribute: Attribute, matcher: Matcher, *, looks_at_all: bool = False) -> bool:
    """Whether an index leads to the rows that match. looks_at_all: also one that must be gone through wholly."""
    if attribute.counted and attribute.vr == "IS":
        return False
    match matcher:
        case ValueList(any_of):
            return all(is_led(attribute, one, looks_at_all=looks_at_all) for one in any_of)
        case CombinedRange(_, date, _):
            return bool(date.low or date.high)
        case Empty() | Sequence() | Universal():
            return False
    match criteria.criterion(matcher, kind_of(attribute.vr)):
        case OneOf() | Between() | Moments():
            return True
        case Glob() as glob:
            return looks_at_all or glob.prefix != ""
        case Name(groups, _):
            asked = [one for wanted in groups if wanted is not None for one in wanted]
            return bool(asked) and all(looks_at_all or not isinstance(one, Glob) or one.prefix for one in asked)
        case _:
            return False


def on_columns(slots: Slots, attribute: Attribute, matcher: Matcher, *, leads: bool = True) -> Condition:
    """The condition of one key on an attribute of the table. leads: False when another key finds fewer rows."""
    alias = ALIASES[attribute.level]
    kind = kind_of(attribute.vr)
    own = columns(attribute)
    names = [f"{alias}.{name}" for name in own]
    if is_universal(matcher):
        return ("1", [])
    match matcher:
        case Empty():
            return (_all(f"{name} IS NULL" for name in names), [])
        case ValueList(any_of):
            return _either(*(on_columns(slots, attribute, one, leads=leads) for one in any_of))
        case Sequence() | Universal():
            return NEVER
        case CombinedRange(time_path):
            return _combined(slots, names[0], alias, time_path, matcher)
        case _:
            return _Columns(slots, attribute, leads).on(criteria.criterion(matcher, kind))


def on_metadata(slots: Slots, keys: Mapping[TagPath, Matcher]) -> Condition:
    """The condition of keys outside the table on one instance's whole data set, in alias i."""
    slot = slots.add(lambda metadata: matches_all(keys, orjson.loads(slots.contents.read(metadata))))
    return (f"dicom_meets({slot}, (SELECT metadata FROM contents WHERE id = i.id))", [])


class _Columns:
    """The columns of one attribute, three for a name, else one."""

    def __init__(self, slots: Slots, attribute: Attribute, leads: bool) -> None:
        level, names = attribute.level, columns(attribute)
        self._slots = slots
        self._has_parts = leads and attribute.tag == PARTED
        self._table, self._alias = TABLES[level], ALIASES[level]
        self._bare = names
        # A plus keeps the planner from the column's index.
        self._names = [f"{'' if leads else '+'}{self._alias}.{name}" for name in names]
        self._leads = leads
        self._kind = kind_of(attribute.vr)

    def on(self, asked: criteria.Criterion) -> Condition:
        name, kind = self._names[0], self._kind
        match asked:
            case Name(groups, either):
                return self._on_name(asked, groups, either)
            case Sounding():
                slot = self._slots.add(
                    lambda *parts: criteria.meets(asked, (parts[0] or "", parts[1] or "", parts[2] or ""))
                )
                listed = ", ".join(self._names)
                heard = f"COALESCE({listed}) IS NOT NULL AND typeof({name}) <> 'blob' AND dicom_meets({slot}, {listed})"
                return _either((heard, []), *self._in_lists(asked))
            case Moments():
                slot = self._slots.add(lambda value: criteria.meets(asked, value))
                near, values = _near(name, asked)
                return self._any_of(
                    [(f"{near} AND dicom_meets({slot}, {name})", values), *self._in_lists(asked)], is_narrow=True
                )
            case OneOf(values) if (lists := self._met_lists(asked)) is not None and len(values) <= _MANY:
                return (f"{name} IN ({', '.join('?' * (len(values) + len(lists)))})", [*values, *lists])
            case OneOf() | Between():
                return self._any_of([plain(name, kind, asked), *self._in_lists(asked)], is_narrow=True)
            case Glob():
                return self._any_of([plain(name, kind, asked), *self._in_lists(asked)], is_narrow=asked.prefix != "")
            case _:
                return NEVER

    def _on_name(self, asked: Name, groups: tuple[tuple[OneOf | Glob, ...] | None, ...], either: bool) -> Condition:
        led = {
            one
            for wanted in groups
            for one in wanted or ()
            if self._has_parts and isinstance(one, Glob) and sqlite_parts.is_narrow(self._slots.connection, one)
        }

        def on_group(name: str, one: OneOf | Glob) -> Condition:
            if isinstance(one, Glob) and one in led:
                # Looked at one by one, whatever else the column's index could say of them.
                return _both(sqlite_parts.condition(self._alias, one), plain(f"+{name}", Kind.NAME, one))
            return plain(name, Kind.NAME, one)

        if not either:
            pairs = [(name, wanted) for name, wanted in zip(self._names, groups, strict=True) if wanted is not None]
            on_groups = [
                _either(*(on_group(name, one) for one in wanted))
                for name, wanted in pairs
                # "DOE*=*" is met without ideographs, too.
                if not any(criteria.meets(one, "") for one in wanted)
            ]
            is_there: Condition = (f"COALESCE({', '.join(self._names)}) < {_LISTS}", [])
            return self._any_of([_both(*on_groups or [is_there]), *self._in_lists(asked)], is_narrow=False)
        wanted = groups[0]
        used = [
            name
            for name, bare in zip(self._names, self._bare, strict=True)
            if name == self._names[0] or self._slots.is_any(self._table, f"{bare} IS NOT NULL")
        ]
        if wanted is None:
            anything: list[Condition] = [(f"{name} < {_LISTS}", []) for name in used]
            return self._any_of([*anything, *self._in_lists(asked)], is_narrow=False)
        on_each = [on_group(name, one) for name in used for one in wanted]
        is_narrow = all(one in led or isinstance(one, OneOf) or one.prefix != "" for one in wanted)
        return self._any_of([*on_each, *self._in_lists(asked)], is_narrow)

    def _in_lists(self, asked: criteria.Criterion) -> list[Condition]:
        """On the rows that hold several values; nothing when there are none, which leaves the index to the others."""
        name, kind = self._names[0], self._kind
        lists = self._met_lists(asked)
        if lists is not None:
            return [(f"{name} IN ({', '.join('?' * len(lists))})", [*lists])] if lists else []
        slot = self._slots.add(lambda stored: _meets_list(asked, kind, stored))
        return [(f"{name} >= {_LISTS} AND dicom_meets({slot}, {name})", [])]

    def _any_of(self, conditions: list[Condition], is_narrow: bool) -> Condition:
        """Some one condition; is_narrow: each has few rows, found by an index sooner than by looking at all."""
        if len(conditions) == 1 or not (is_narrow and self._leads):
            return _either(*conditions)
        sources = " UNION ".join(f"SELECT id FROM {self._table} {self._alias} WHERE {sql}" for sql, _ in conditions)
        return (f"{self._alias}.id IN ({sources})", [value for _, values in conditions for value in values])

    def _met_lists(self, asked: criteria.Criterion) -> list[bytes] | None:
        """Those of the column's lists that meet the criterion; None when there are too many to look at each.

        Image Type, for one, has a few in a million instances.
        """
        lists = self._slots.lists(self._table, self._bare[0])
        if len(lists) > _DIFFERENT_LISTS:
            return None
        return [stored for stored in lists if _meets_list(asked, self._kind, stored)]


def plain(name: str, kind: Kind, asked: OneOf | Glob | Between) -> Condition:
    """On columns that hold the one value."""
    match asked:
        case OneOf(values):
            if len(values) > _MANY:
                return (f"{name} IN (SELECT value FROM json_each(?))", [orjson.dumps(list(values)).decode()])
            return (f"{name} IN ({', '.join('?' * len(values))})", list(values))
        case Glob(pattern):
            return _glob(name, pattern, asked.prefix)
        case Between(low, high):
            # The offset that follows a date and time's 21 characters sorts before DEL.
            end = f"{high}\x7f" if kind is Kind.DATE_TIME and high is not None else high
            above = (f"{name} >= ?", [low]) if low is not None else ("1", [])
            below = (f"{name} <= ?", [end]) if high is not None else (f"{name} < {_LISTS}", [])
            return _both(above, below)


def _glob(name: str, pattern: str, prefix: str) -> Condition:
    conditions: list[Condition] = [(f"{name} >= ?", [prefix])] if prefix else []
    end = _after(prefix)
    conditions.append((f"{name} < ?", [end]) if end else (f"{name} < {_LISTS}", []))
    if pattern != prefix + "*":
        # GLOB shares DICOM's * and ? but gives "[" a meaning that PS3.4 C.2.2.2.4 does not.
        conditions.append((f"{name} GLOB ?", [pattern.replace("[", "[[]")]))
    return _both(*conditions)


def _near(name: str, asked: Moments) -> Condition:
    """What every date and time meets that lies between the two moments, at whatever offset from UTC."""
    low = _days_from(asked.low, -_OFFSET_DAYS)
    high = _days_from(asked.high, _OFFSET_DAYS)
    above = (f"{name} >= ?", [low]) if low else ("1", [])
    below = (f"{name} < ?", [high]) if high else (f"{name} < {_LISTS}", [])
    return _both(above, below)


def _days_from(bound: tuple[str, str] | None, days: int) -> str:
    """YYYYMMDD of a day before or after; "" for none."""
    if bound is None:
        return ""
    year, month, day = int(bound[0][:4]), int(bound[0][4:6]), int(bound[0][6:8])
    try:
        # Days past the month's end are taken as its last (``dates.instant``).
        moved = datetime.date(year, month, min(day, monthrange(year, month)[1])) + datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return moved.isoformat().replace("-", "")


def _after(prefix: str) -> str:
    """The least text, in the order of code points, that is greater than all that begin with the prefix; "" for none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # Surrogates are no characters.
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return ""


def _combined(slots: Slots, day: str, alias: str, time_path: TagPath, matcher: CombinedRange) -> Condition:
    date = criteria.criterion(matcher.date, Kind.DATE)
    time = criteria.criterion(matcher.time, Kind.TIME)
    paired = BY_TAG.get(time_path[-1])
    if not isinstance(date, Between) or not isinstance(time, Between) or paired is None:
        return NEVER
    at = f"{alias}.{columns(paired)[0]}"
    conditions: list[Condition] = [(f"{at} < {_LISTS} AND {day} < {_LISTS}", [])]
    if date.low is not None:
        conditions.append((f"{day} >= ?", [date.low]))
        if time.low is not None:
            conditions.append((f"({day} > ? OR {at} >= ?)", [date.low, time.low]))
    if date.high is not None:
        conditions.append((f"{day} <= ?", [date.high]))
        if time.high is not None:
            conditions.append((f"({day} < ? OR {at} <= ?)", [date.high, time.high]))

    is_listed = [slots.is_any(TABLES[paired.level], f"{name} >= {_LISTS}") for name in (day[2:], at[2:])]
    if not any(is_listed):
        return _both(*conditions)

    def meets_some(days: Any, times: Any) -> bool:
        return any(criteria.meets_combined(date, time, d, t) for d in _values(days) for t in _values(times))

    slot = slots.add(meets_some)
    in_lists = (
        f"({day} >= {_LISTS} AND {at} IS NOT NULL OR {at} >= {_LISTS} AND {day} IS NOT NULL)"
        f" AND dicom_meets({slot}, {day}, {at})"
    )
    return _either(_both(*conditions), (in_lists, []))


def _values(stored: Any) -> list[Any]:
    return orjson.loads(stored) if isinstance(stored, bytes) else [stored]


def _meets_list(asked: criteria.Criterion, kind: Kind, stored: bytes) -> bool:
    values = orjson.loads(stored)
    return any(criteria.meets(asked, tuple(value) if kind is Kind.NAME else value) for value in values)


def _all(parts: Iterable[str]) -> str:
    return "(" + " AND ".join(parts) + ")"


def _both(*conditions: Condition) -> Condition:
    return _joined(" AND ", conditions, "1")


def _either(*conditions: Condition) -> Condition:
    return _joined(" OR ", conditions, "0")


def _joined(word: str, conditions: Iterable[Condition], otherwise: str) -> Condition:
    listed = list(conditions)
    if not listed:
        return (otherwise, [])
    return ("(" + word.join(f"({sql})" for sql, _ in listed) + ")", [value for _, values in listed for value in values])
