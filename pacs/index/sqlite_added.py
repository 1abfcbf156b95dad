"""Indexes over attributes outside the table of attributes, added while the archive works.

For each instance they hold the normal forms of the attribute's values. A query uses one only once it is complete, and
only to name the instances that may match: what is asked is then compared with their data sets, as it is without an
index. So an index may hold too much, never too little: values of any length are kept, those past ``_LONGEST`` as one
mark that every key finds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pacs.dicom import criteria, normal
from pacs.dicom.attributes import BY_TAG
from pacs.dicom.criteria import Between, Glob, Name, Never, OneOf
from pacs.dicom.dictionary import AMBIGUOUS, public_vr
from pacs.dicom.matchers import CombinedRange, Empty, Matcher, TagPath, Universal, ValueList
from pacs.dicom.matchers import Sequence as Items
from pacs.dicom.matching import element_at, is_universal, items_of, kind_at, timezone_of
from pacs.dicom.model import Attributes
from pacs.dicom.normal import Kind
from pacs.errors import Invalid, NotFound
from pacs.index.base import AddedIndex
from pacs.index.sqlite_conditions import Condition, plain
from pacs.index.sqlite_contents import Reader

_LONGEST = 256
_BATCH = 200
_KINDS = tuple(kind for kind in Kind if kind is not Kind.OPAQUE)
_Definition = tuple[int, TagPath]


def add(connection: sqlite3.Connection, path: TagPath) -> None:
    """Begin an index; from now on what is put goes into it. Nothing happens when it is there already.

    Raises Invalid for an attribute that is indexed anyway, or has no values that could be compared.
    """
    check(path)
    connection.execute(
        "INSERT OR IGNORE INTO added_indexes (path, filled_to, complete) VALUES (?, 0, 0)", (text_of(path),)
    )


def check(path: TagPath) -> None:
    """Raises Invalid for an attribute that is indexed anyway, or has no values that could be compared."""
    if len(path) == 1 and path[0] in BY_TAG:
        raise Invalid(f"{BY_TAG[path[0]].keyword} always has an index", "tag")
    tag = path[-1]
    vr = None if "@" in tag else public_vr(int(tag, 16))
    if vr == "SQ":
        raise Invalid("A sequence has no values of its own: name an attribute within it (A.B)", "tag")
    if vr == "OB or OW" or (vr is not None and vr not in AMBIGUOUS and normal.kind_of(vr) is Kind.OPAQUE):
        raise Invalid(f"Attributes of VR {vr} cannot be searched by value", "tag")


def drop(connection: sqlite3.Connection, path: TagPath) -> None:
    """Forget an index; no query uses it any more. Its values are left for ``sweep``. Raises NotFound."""
    if not connection.execute("DELETE FROM added_indexes WHERE path = ?", (text_of(path),)).rowcount:
        raise NotFound("there is no such index")


def sweep(connection: sqlite3.Connection) -> bool:
    """Remove some values of indexes that are gone; whether there may be more."""
    ids = [row[0] for row in connection.execute("SELECT id FROM added_indexes")]
    # Ids only grow, so the gaps between those that are there belong to nobody.
    low = 0
    for end in [*sorted(ids), 1 << 62]:
        removed = connection.execute(
            "DELETE FROM added_values WHERE (index_id, kind, value, instance_id) IN (SELECT index_id, kind, value,"
            " instance_id FROM added_values WHERE index_id > ? AND index_id < ? LIMIT 5000)",
            (low, end),
        ).rowcount
        if removed:
            return True
        low = end
    return False


def fill(connection: sqlite3.Connection, path: TagPath) -> bool:
    """Take in the next instances; whether the index is complete then. Raises NotFound when it was dropped."""
    found = connection.execute(
        "SELECT id, filled_to, complete FROM added_indexes WHERE path = ?", (text_of(path),)
    ).fetchone()
    if found is None:
        raise NotFound("there is no such index")
    index_id, filled_to, is_complete = found
    if is_complete:
        return True
    rows = connection.execute(
        "SELECT id, metadata FROM contents WHERE id > ? ORDER BY id LIMIT ?", (filled_to, _BATCH)
    ).fetchall()
    contents = Reader(connection)
    for instance_id, metadata in rows:
        _insert(connection, (index_id, path), instance_id, orjson.loads(contents.read(metadata)))
    is_complete = len(rows) < _BATCH
    connection.execute(
        "UPDATE added_indexes SET filled_to = ?, complete = ? WHERE id = ?",
        (rows[-1][0] if rows else filled_to, is_complete, index_id),
    )
    return is_complete


def listed(connection: sqlite3.Connection) -> list[AddedIndex]:
    """All indexes, and how far each is."""
    total = connection.execute("SELECT COUNT(*) FROM instances").fetchone()[0]
    found = []
    for path, filled_to, complete in connection.execute(
        "SELECT path, filled_to, complete FROM added_indexes ORDER BY id"
    ).fetchall():
        done = total
        if not complete:
            done = connection.execute("SELECT COUNT(*) FROM instances WHERE id <= ?", (filled_to,)).fetchone()[0]
        found.append(AddedIndex(path_of(path), bool(complete), done, total))
    return found


def paths_in(file: Path) -> list[TagPath]:
    """Paths of the indexes of a file that may be damaged, of an older version, or not there."""
    return [path_of(path) for path in _texts_in(file, "SELECT path FROM added_indexes ORDER BY id")]


def setting_in(file: Path, name: str) -> str | None:
    """A setting of such a file."""
    return next(iter(_texts_in(file, "SELECT value FROM settings WHERE name = ?", name)), None)


def _texts_in(file: Path, sql: str, *values: str) -> list[str]:
    if not file.exists():
        return []
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return [str(row[0]) for row in connection.execute(sql, values)]
    except sqlite3.Error:
        return []
    finally:
        connection.close()


def note(connection: sqlite3.Connection, instance_id: int, attributes: Attributes, *, is_new: bool) -> None:
    """An instance was put, or replaced."""
    definitions = connection.execute("SELECT id, path FROM added_indexes").fetchall()
    if definitions and not is_new:
        connection.execute("DELETE FROM added_values WHERE instance_id = ?", (instance_id,))
    for index_id, path in definitions:
        _insert(connection, (index_id, path_of(path)), instance_id, attributes)


def forget(connection: sqlite3.Connection, instance_ids: str) -> None:
    """Instances are gone. instance_ids: a JSON list."""
    connection.execute(
        "DELETE FROM added_values WHERE instance_id IN (SELECT value FROM json_each(?))", (instance_ids,)
    )


def conditions(connection: sqlite3.Connection, keys: Mapping[TagPath, Matcher]) -> Iterator[Condition]:
    """For each key that a complete index helps: the condition, in alias i, that no match fails to meet."""
    complete = {
        path_of(path): index_id
        for index_id, path in connection.execute("SELECT id, path FROM added_indexes WHERE complete")
    }
    if not complete:
        return
    for path, matcher in leaves(keys):
        condition = _condition(complete[path], path, matcher) if path in complete else None
        if condition is not None:
            yield condition


def leaves(keys: Mapping[TagPath, Matcher], within: TagPath = ()) -> Iterator[tuple[TagPath, Matcher]]:
    for path, matcher in keys.items():
        if isinstance(matcher, Items):
            yield from leaves(matcher.keys, within + path)
        else:
            yield within + path, matcher


def _condition(index_id: int, path: TagPath, matcher: Matcher) -> Condition | None:
    """None when the index cannot help: it does not know where a value is missing."""
    every = "SELECT instance_id FROM added_values WHERE index_id = ?"
    if not needs_a_value(matcher):
        return None
    sources: list[str] = []
    values: list[Any] = []
    for kind in kinds_of(path[-1]):
        asked = _asked(matcher, kind)
        if asked is None:
            return f"i.id IN ({every})", [index_id]
        for sql, more in asked:
            sources.append(f"{every} AND kind = ? AND ({sql})")
            values += [index_id, kind.value, *more]
        # Long values.
        sources.append(f"{every} AND kind = ? AND value = x''")
        values += [index_id, kind.value]
    return f"i.id IN ({' UNION ALL '.join(sources)})", values


def needs_a_value(matcher: Matcher) -> bool:
    if isinstance(matcher, ValueList):
        return all(map(needs_a_value, matcher.any_of))
    return not is_universal(matcher) and not isinstance(matcher, Empty | Universal | Items | CombinedRange)


def kinds_of(tag: str) -> tuple[Kind, ...]:
    """How values of an attribute may compare: in one way when the data dictionary knows its VR."""
    vr = None if "@" in tag else public_vr(int(tag, 16))
    return _KINDS if vr is None or vr in AMBIGUOUS else (normal.kind_of(vr),)


def _asked(matcher: Matcher, kind: Kind) -> list[Condition] | None:
    """Conditions on a value of which a match meets one. None: any value may be one."""
    if isinstance(matcher, ValueList):
        each = [_asked(one, kind) for one in matcher.any_of]
        return None if any(one is None for one in each) else [sql for one in each for sql in one or ()]
    match criteria.criterion(matcher, kind):
        case Never():
            return []
        case OneOf() | Glob() | Between() as asked:
            return [plain("value", kind, asked)]
        case Name(groups, _):
            for wanted in groups:
                # A group that may be empty tells nothing: empty groups are not kept.
                if wanted is not None and not any(criteria.meets(one, "") for one in wanted):
                    return [plain("value", kind, one) for one in wanted]
            return None
        case _:
            return None


def _insert(connection: sqlite3.Connection, definition: _Definition, instance_id: int, attributes: Attributes) -> None:
    index_id, path = definition
    found = dict.fromkeys(values_of(attributes, path, timezone_of(attributes)))
    connection.executemany(
        "INSERT OR IGNORE INTO added_values VALUES (?, ?, ?, ?)",
        [(index_id, kind, value, instance_id) for kind, value in found],
    )


def values_of(attributes: Attributes, path: TagPath, timezone: str) -> Iterator[tuple[str, str | int | float | bytes]]:
    """(kind, value as it is kept) of all values at a path, of all items on the way."""
    data_sets: Sequence[Attributes] = [attributes]
    for tag in path[:-1]:
        data_sets = [item for data_set in data_sets for item in items_of(element_at(data_set, tag))]
    for data_set in data_sets:
        element = element_at(data_set, path[-1])
        kind = kind_at(path[-1], element)
        for value in normal.normal_values(element, kind, timezone) or ():
            # A name's groups are values of their own.
            for one in value if isinstance(value, tuple) else (value,):
                if one != "":
                    yield kind.value, b"" if isinstance(one, str) and len(one) > _LONGEST else one


def text_of(path: TagPath) -> str:
    return orjson.dumps(path).decode()


def path_of(text: str) -> TagPath:
    return tuple(orjson.loads(text))
