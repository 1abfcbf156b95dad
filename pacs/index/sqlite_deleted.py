"""Deleted versions in the SQLite index: rows of their own, so that no search has to leave them out."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime

import orjson

from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.index.base import DELETION, Deletion, Discarded, Put, PutResult, deletion_key
from pacs.index.rows import Prepared
from pacs.index.sqlite_append import Appending
from pacs.index.sqlite_rows import (
    INSTANCE_COLUMNS,
    earlier_version,
    loaded_time,
    stored_instance,
    stored_time,
    version_values,
)
from pacs.index.sqlite_work import add_jobs, write_records
from pacs.index.sqlite_write import is_current_key, put_all, take_out, within_uids
from pacs.index.work import NewJob, RecordWrite

_PAGE = 500
_COLUMNS = (
    "study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, blob_key, size_bytes, digest, data_set_offset"
)


_ARRIVAL = "received_at, source_name, source_address, source_protocol"
# Its file is there, and is not about to go.
_CAN_RETURN = "blob_key IS NOT NULL AND is_doomed = 0"


def create_trash(connection: sqlite3.Connection) -> None:
    """Version 9 of the schema: what it takes to undo a deletion, and to list them."""
    present = {row[1] for row in connection.execute("PRAGMA table_info(deleted)")}
    for column in (
        "received_at INTEGER",
        "source_name TEXT",
        "source_address TEXT",
        "source_protocol TEXT",
        "is_earlier INTEGER NOT NULL DEFAULT 0",
        "is_doomed INTEGER NOT NULL DEFAULT 0",
    ):
        if column.split()[0] not in present:
            connection.execute(f"ALTER TABLE deleted ADD COLUMN {column}")
    connection.execute(
        "CREATE INDEX IF NOT EXISTS deleted_when ON deleted (deleted_at, study_uid) WHERE blob_key IS NOT NULL"
    )


def delete(
    connection: sqlite3.Connection, target: Target, at: datetime, jobs: Sequence[NewJob], note: bytes | None
) -> list[StoredInstance]:
    """Take a subtree out and note what was there, earlier versions too."""
    within, values = within_uids(target)
    current = _current(connection, target, at)
    take_out(connection, target)
    earlier = [Discarded(each, at, is_deleted=True, is_earlier=True) for each in _superseded(connection, target)]
    connection.execute(f"DELETE FROM superseded WHERE {within}", values)
    bury(connection, [*current, *earlier])
    if current or earlier:
        add_jobs(connection, jobs)
        if note is not None:
            write_records(connection, [RecordWrite(DELETION, deletion_key(at, target.study_uid), note)])
    return [each.instance for each in (*current, *earlier)]


def versions(connection: sqlite3.Connection, target: Target) -> list[StoredInstance]:
    """All that ``delete`` would take out."""
    current = _current(connection, target, datetime.min)
    return [*(each.instance for each in current), *_superseded(connection, target)]


def _current(connection: sqlite3.Connection, target: Target, at: datetime) -> list[Discarded]:
    """A subtree's instances as what they are once deleted."""
    within, values = within_uids(target)
    for name, column in (("study_uid", "s.c0020000D"), ("series_uid", "e.c0020000E"), ("sop_uid", "i.c00080018")):
        within = within.replace(name, column)
    found = connection.execute(
        f"SELECT i.received_at, i.source_name, i.source_address, i.source_protocol, {INSTANCE_COLUMNS}"
        " FROM instances i JOIN series e ON e.id = i.series_id"
        f" JOIN studies s ON s.id = i.study_id WHERE {within}",
        values,
    )
    return [
        Discarded(
            stored_instance(row[4:]),
            at,
            is_deleted=True,
            received_at=loaded_time(row[0]),
            source=Caller(*row[1:4]),
        )
        for row in found
    ]


def bury(connection: sqlite3.Connection, versions: Sequence[Discarded]) -> None:
    connection.executemany(
        f"INSERT OR IGNORE INTO deleted ({_COLUMNS}, deleted_at, is_earlier, {_ARRIVAL})"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (*version_values(version.instance), version.at.isoformat(), version.is_earlier, *_arrival(version))
            for version in versions
        ),
    )


def _arrival(version: Discarded) -> tuple[int | str | None, ...]:
    at, source = version.received_at, version.source
    return (
        stored_time(at) if at else None,
        *((source.name, source.address, source.protocol) if source else (None, None, None)),
    )


def deleted(connection: sqlite3.Connection, target: Target) -> list[Discarded]:
    """What of a subtree can be restored, in the order of ``Index.deleted``."""
    within, values = within_uids(target)
    found = connection.execute(
        f"SELECT {_COLUMNS}, deleted_at, is_earlier, {_ARRIVAL} FROM deleted WHERE {within} AND {_CAN_RETURN}"
        " ORDER BY deleted_at DESC, is_earlier, id",
        values,
    )
    return [
        Discarded(
            earlier_version(row[:9]),
            datetime.fromisoformat(row[9]),
            is_deleted=True,
            is_earlier=bool(row[10]),
            received_at=None if row[11] is None else loaded_time(row[11]),
            source=None if row[12] is None else Caller(*row[12:]),
        )
        for row in found
    ]


def deletions(connection: sqlite3.Connection, before: str | None, limit: int) -> list[Deletion]:
    """A page of ``Index.deletions``."""
    at, _, study_uid = (before or "~").partition(" ")  # "~" is after every date
    found = connection.execute(
        "SELECT g.study_uid, g.deleted_at, g.instances, g.size_bytes, r.content FROM"
        " (SELECT study_uid, deleted_at, SUM(1 - is_earlier) instances, SUM(size_bytes) size_bytes FROM deleted"
        f" WHERE {_CAN_RETURN} AND (deleted_at, study_uid) < (?, ?)"
        " GROUP BY deleted_at, study_uid ORDER BY deleted_at DESC, study_uid DESC LIMIT ?) g"
        f" LEFT JOIN records r ON r.kind = '{DELETION}' AND r.key = g.deleted_at || ' ' || g.study_uid"
        " ORDER BY g.deleted_at DESC, g.study_uid DESC",
        (at, study_uid, limit),
    )
    return [Deletion(row[0], datetime.fromisoformat(row[1]), *row[2:]) for row in found]


def restore(
    connection: sqlite3.Connection, appending: Appending, items: Sequence[Prepared], jobs: Sequence[Sequence[NewJob]]
) -> list[PutResult | None]:
    """Take deleted versions back in."""
    find = f"SELECT deleted_at FROM deleted WHERE blob_key = ? AND {_CAN_RETURN}"
    found = [connection.execute(find, (item.record.blob.key,)).fetchone() for item in items]
    there = [number for number, row in enumerate(found) if row is not None]
    results: list[PutResult | None] = [None] * len(items)
    following = [jobs[number] for number in there] if jobs else ()
    puts = put_all(
        connection, appending, [items[number] for number in there], replace=False, jobs=following, announce=True
    )
    for number, put in zip(there, puts, strict=True):
        results[number] = put
        if put.outcome is Put.STORED:
            _exhume(connection, items[number], found[number][0])
    _drop_notes(connection, {(found[number][0], items[number].record.header.target.study_uid) for number in there})
    return results


def _exhume(connection: sqlite3.Connection, item: Prepared, at: str) -> None:
    connection.execute("DELETE FROM deleted WHERE blob_key = ?", (item.record.blob.key,))
    within, values = within_uids(item.record.header.target)
    earlier = f"{within} AND deleted_at = ? AND is_earlier AND {_CAN_RETURN}"
    connection.execute(
        f"INSERT INTO superseded ({_COLUMNS}, superseded_at) SELECT {_COLUMNS}, deleted_at FROM deleted"
        f" WHERE {earlier} ORDER BY id",
        (*values, at),
    )
    connection.execute(f"DELETE FROM deleted WHERE {earlier}", (*values, at))


def doom(connection: sqlite3.Connection, keys: Sequence[str]) -> set[str]:
    """Those of the keys whose files may go."""
    free = [key for key in keys if not is_current_key(connection, key)]
    listed = (orjson.dumps(free).decode(),)
    among = "blob_key IN (SELECT value FROM json_each(?))"
    connection.execute(f"UPDATE deleted SET is_doomed = 1 WHERE {among}", listed)
    found = connection.execute(
        f"SELECT blob_key FROM deleted WHERE {among} UNION SELECT blob_key FROM superseded WHERE {among}", listed * 2
    )
    return {key for (key,) in found}


def _drop_notes(connection: sqlite3.Connection, groups: Collection[tuple[str, str]]) -> None:
    """Of deletions of which no file is left."""
    left = "SELECT 1 FROM deleted WHERE deleted_at = ? AND study_uid = ? AND blob_key IS NOT NULL LIMIT 1"
    for at, study_uid in groups:
        if connection.execute(left, (at, study_uid)).fetchone() is None:
            connection.execute("DELETE FROM records WHERE kind = ? AND key = ?", (DELETION, f"{at} {study_uid}"))


def is_deleted(connection: sqlite3.Connection, target: Target) -> bool:
    within, values = within_uids(target)
    return connection.execute(f"SELECT 1 FROM deleted WHERE {within} LIMIT 1", values).fetchone() is not None


def page(
    connection: sqlite3.Connection, until: datetime, last: int, *, is_deleted: bool
) -> tuple[int, list[Discarded]]:
    """(id to go on after, versions); only those whose files no current instance has."""
    table, column = ("deleted", "deleted_at") if is_deleted else ("superseded", "superseded_at")
    while True:
        found = connection.execute(
            f"SELECT id, {column}, {_COLUMNS} FROM {table} WHERE id > ? AND {column} <= ? AND blob_key IS NOT NULL"
            " ORDER BY id LIMIT ?",
            (last, until.isoformat(), _PAGE),
        ).fetchall()
        versions = [
            Discarded(version, datetime.fromisoformat(row[1]), is_deleted)
            for row in found
            if not is_current_key(connection, (version := earlier_version(row[2:])).blob.key)
        ]
        last = found[-1][0] if found else last
        if versions or not found:
            return last, versions


def forget(connection: sqlite3.Connection, keys: Sequence[str]) -> None:
    listed = (orjson.dumps(list(keys)).decode(),)
    among = "blob_key IN (SELECT value FROM json_each(?))"
    groups = connection.execute(f"SELECT DISTINCT deleted_at, study_uid FROM deleted WHERE {among}", listed).fetchall()
    connection.execute(f"DELETE FROM superseded WHERE {among}", listed)
    connection.execute(f"UPDATE deleted SET blob_key = NULL WHERE {among}", listed)
    _drop_notes(connection, groups)


def _superseded(connection: sqlite3.Connection, target: Target) -> list[StoredInstance]:
    within, values = within_uids(target)
    return [
        earlier_version(row)
        for row in connection.execute(f"SELECT {_COLUMNS} FROM superseded WHERE {within} ORDER BY id", values)
    ]
