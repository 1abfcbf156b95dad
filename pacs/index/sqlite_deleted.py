"""Deleted versions in the SQLite index: rows of their own, so that no search has to leave them out."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import orjson

from pacs.dicom.model import StoredInstance, Target
from pacs.index.base import Discarded
from pacs.index.sqlite_rows import INSTANCE_COLUMNS, earlier_version, stored_instance, version_values
from pacs.index.sqlite_work import add_jobs
from pacs.index.sqlite_write import is_current_key, take_out, within_uids
from pacs.index.work import NewJob

_PAGE = 500
_COLUMNS = (
    "study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, blob_key, size_bytes, digest, data_set_offset"
)


def delete(
    connection: sqlite3.Connection, target: Target, at: datetime, jobs: Sequence[NewJob] = ()
) -> list[StoredInstance]:
    """Take a subtree out and note what was there, earlier versions too."""
    within, values = within_uids(target)
    instances = [*take_out(connection, target), *_superseded(connection, target)]
    connection.execute(f"DELETE FROM superseded WHERE {within}", values)
    bury(connection, [Discarded(instance, at, is_deleted=True) for instance in instances])
    if instances:
        add_jobs(connection, jobs)
    return instances


def versions(connection: sqlite3.Connection, target: Target) -> list[StoredInstance]:
    """All that ``delete`` would take out."""
    within, values = within_uids(target)
    for name, column in (("study_uid", "s.c0020000D"), ("series_uid", "e.c0020000E"), ("sop_uid", "i.c00080018")):
        within = within.replace(name, column)
    current = connection.execute(
        f"SELECT {INSTANCE_COLUMNS} FROM instances i JOIN series e ON e.id = i.series_id"
        f" JOIN studies s ON s.id = i.study_id WHERE {within}",
        values,
    )
    return [*(stored_instance(row) for row in current), *_superseded(connection, target)]


def bury(connection: sqlite3.Connection, versions: Sequence[Discarded]) -> None:
    connection.executemany(
        f"INSERT OR IGNORE INTO deleted ({_COLUMNS}, deleted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ((*version_values(version.instance), version.at.isoformat()) for version in versions),
    )


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
    connection.execute("DELETE FROM superseded WHERE blob_key IN (SELECT value FROM json_each(?))", listed)
    connection.execute("UPDATE deleted SET blob_key = NULL WHERE blob_key IN (SELECT value FROM json_each(?))", listed)


def _superseded(connection: sqlite3.Connection, target: Target) -> list[StoredInstance]:
    within, values = within_uids(target)
    return [
        earlier_version(row)
        for row in connection.execute(f"SELECT {_COLUMNS} FROM superseded WHERE {within} ORDER BY id", values)
    ]
