"""Indexes over attributes outside the table of attributes, added while the archive works.

For each instance they hold the normal forms of the attribute's values. A query uses one only once it is complete, and
only to name the instances that may match: what is asked is then compared with their data sets, as it is without an
index. So an index may hold too much, never too little: values of any length are kept, those past ``_LONGEST`` as one
mark that every key finds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from pacs.dicom.matchers import Matcher, TagPath
from pacs.dicom.matching import timezone_of
from pacs.dicom.model import Attributes
from pacs.errors import NotFound
from pacs.index.added import check, criteria_of, kinds_of, leaves, needs_a_value, path_of, text_of, values_of
from pacs.index.base import AddedIndex
from pacs.index.sqlite_conditions import Condition, plain
from pacs.index.sqlite_contents import Reader

_BATCH = 200
_Definition = tuple[int, TagPath]


def add(connection: sqlite3.Connection, path: TagPath) -> None:
    """Begin an index; from now on what is put goes into it. Nothing happens when it is there already.

    Raises Invalid for an attribute that is indexed anyway, or has no values that could be compared.
    """
    check(path)
    connection.execute(
        "INSERT OR IGNORE INTO added_indexes (path, filled_to, complete) VALUES (?, 0, 0)", (text_of(path),)
    )


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


def _condition(index_id: int, path: TagPath, matcher: Matcher) -> Condition | None:
    """None when the index cannot help: it does not know where a value is missing."""
    every = "SELECT instance_id FROM added_values WHERE index_id = ?"
    if not needs_a_value(matcher):
        return None
    sources: list[str] = []
    values: list[Any] = []
    for kind in kinds_of(path[-1]):
        asked = criteria_of(matcher, kind)
        if asked is None:
            return f"i.id IN ({every})", [index_id]
        for sql, more in (plain("value", kind, one) for one in asked):
            sources.append(f"{every} AND kind = ? AND ({sql})")
            values += [index_id, kind.value, *more]
        # Long values.
        sources.append(f"{every} AND kind = ? AND value = x''")
        values += [index_id, kind.value]
    return f"i.id IN ({' UNION ALL '.join(sources)})", values


def _insert(connection: sqlite3.Connection, definition: _Definition, instance_id: int, attributes: Attributes) -> None:
    index_id, path = definition
    found = dict.fromkeys(values_of(attributes, path, timezone_of(attributes)))
    connection.executemany(
        "INSERT OR IGNORE INTO added_values VALUES (?, ?, ?, ?)",
        [(index_id, kind, value, instance_id) for kind, value in found],
    )
