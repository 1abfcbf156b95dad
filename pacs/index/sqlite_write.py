"""Changes of the SQLite index, each inside a transaction that the writer holds (``sqlite_writer``)."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from pacs.dicom.model import BlobRef, Level, StoredInstance, Target
from pacs.index import sqlite_added, sqlite_changes, sqlite_listing, sqlite_work
from pacs.index.base import Put, PutResult
from pacs.index.rows import COLUMNS, Prepared, Rows
from pacs.index.sqlite_append import (
    COUNT_PATIENT,
    COUNT_SERIES,
    COUNT_STUDY,
    INSTANCE_NAMES,
    Appending,
    contents_of,
    instance_values,
)
from pacs.index.sqlite_contents import Packer, Reader
from pacs.index.sqlite_entities import (
    ADD_TO_PATIENT,
    BODY,
    INSERT_PATIENT,
    NEXT_ID,
    count_class,
    insert_sql,
    is_there,
    last_of,
    move,
    note_inconsistency,
    note_modalities,
    refresh_patient,
    refresh_study,
    row_at,
    rows_from_metadata,
    update_row,
    update_series,
    update_sql,
)
from pacs.index.sqlite_rows import (
    INSTANCE_COLUMNS,
    key_hash,
    stored_instance,
    version_values,
)
from pacs.index.sqlite_schema import TABLES
from pacs.index.work import ChangeKind, NewJob


def put_all(
    connection: sqlite3.Connection,
    appending: Appending,
    items: Sequence[Prepared],
    *,
    replace: bool,
    jobs: Sequence[Sequence[NewJob]],
    announce: bool,
) -> list[PutResult]:
    """Add records one after the other. appending: the caller's, from one call to the next."""
    now = datetime.now(UTC) if announce else None
    with appending.using(connection) as packer:
        results = [
            appending.append(connection, packer, item, now) or _put(connection, packer, item, replace, now)
            for item in items
        ]
    for result, following in zip(results, jobs, strict=False):
        if following and result.outcome in (Put.STORED, Put.REPLACED):
            sqlite_work.add_jobs(connection, following)
    return results


def remove_all(connection: sqlite3.Connection, targets: Sequence[Target]) -> list[BlobRef]:
    """Take subtrees out, superseded versions too; the files that no row points at any more."""
    blobs = {ref.key: ref for target in targets for ref in _remove(connection, target)}
    return [ref for key, ref in blobs.items() if not holds_key(connection, key)]


def holds_key(connection: sqlite3.Connection, key: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM superseded WHERE blob_key = ?1 UNION ALL SELECT 1 FROM deleted WHERE blob_key = ?1 LIMIT 1",
        (key,),
    )
    return found.fetchone() is not None or is_current_key(connection, key)


def is_current_key(connection: sqlite3.Connection, key: str) -> bool:
    """Whether an instance, not an earlier version, points at this blob key."""
    found = connection.execute(
        f"SELECT {INSTANCE_COLUMNS} FROM instances i JOIN series e ON e.id = i.series_id"
        " JOIN studies s ON s.id = i.study_id WHERE i.blob_hash = ?",
        (key_hash(key),),
    )
    return any(stored_instance(row).blob.key == key for row in found)


def clear(connection: sqlite3.Connection) -> None:
    # Parts before patients, whose triggers then find none to delete.
    own = ("name_parts", *TABLES.values(), "contents", "templates", "study_classes", "added_values")
    for table in (*own, "superseded", "deleted"):
        connection.execute(f"DELETE FROM {table}")
    sqlite_listing.clear(connection)
    # Ids go on counting: a cursor handed out before never points past what comes next.
    connection.execute("UPDATE archive SET size_bytes = 0")


def setting(connection: sqlite3.Connection, name: str) -> str | None:
    found = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return None if found is None else str(found[0])


def remember(connection: sqlite3.Connection, name: str, value: str, instead_of: str | None) -> str:
    """Set it if it is ``instead_of`` or not set; what it is afterwards."""
    now = setting(connection, name)
    if now is None or now == instead_of:
        connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
        return value
    return now


def backfill(connection: sqlite3.Connection) -> None:
    """Make every row's columns and JSON again from the metadata of instances."""
    contents, packer = Reader(connection), Packer(connection)
    for instance_id, series_id in connection.execute("SELECT id, series_id FROM instances ORDER BY id").fetchall():
        rows = rows_from_metadata(connection, instance_id, contents)
        image = dataclasses.replace(
            rows.image,
            fragment=packer.pack_one(series_id, rows.image.fragment),
            rest=packer.pack_one(series_id, rows.image.rest),
        )
        update_row(connection, Level.IMAGE, instance_id, image)
        connection.execute(
            "UPDATE instances SET study_digest = ?, number = ? WHERE id = ?",
            (rows.study_digest, rows.number, instance_id),
        )
    for level in (Level.PATIENT, Level.STUDY, Level.SERIES):
        for row_id, last in connection.execute(f"SELECT id, last_instance FROM {TABLES[level]}").fetchall():
            rows = rows_from_metadata(connection, last)
            digest = rows.study_digest if level is Level.STUDY else None
            update_row(connection, level, row_id, row_at(rows, level), digest)


def _put(
    connection: sqlite3.Connection, packer: Packer, item: Prepared, replace: bool, now: datetime | None
) -> PutResult:
    header, blob, rows = item.record.header, item.record.blob, item.rows
    study = connection.execute(_FIND_STUDY, (header.target.study_uid,)).fetchone()
    series = study and connection.execute(_FIND_SERIES, (header.target.series_uid, study[0])).fetchone()
    old = series and connection.execute(_FIND_INSTANCE, (header.target.sop_uid, series[0])).fetchone()
    existing = None
    if old:
        existing = stored_instance(old[1:])
        if (existing.blob.digest, existing.transfer_syntax_uid) == (blob.digest, header.transfer_syntax_uid):
            return PutResult(Put.SAME, existing)
        if not replace:
            return PutResult(Put.CONFLICT, existing)
        _supersede(connection, existing)
    grown = blob.size_bytes - (existing.blob.size_bytes if existing else 0)
    (seq,) = connection.execute(NEXT_ID, (grown,)).fetchone()
    instance_id = old[0] if old else seq
    patient_id = _patient(connection, rows, seq, instance_id)
    study_id = _study(connection, rows, seq, instance_id, patient_id, study)
    series_id = _series(connection, rows, seq, instance_id, study_id, series)
    _instance(connection, packer, item, seq, instance_id, study_id, series_id, is_new=old is None)
    if existing:
        count_class(connection, study_id, existing.sop_class_uid, -1)
    count_class(connection, study_id, header.sop_class_uid, 1)
    _count(connection, patient_id, study_id, series_id, instance_id, (not study, not series, not old))
    if now is not None:
        kind = ChangeKind.REPLACED if existing else ChangeKind.STORED
        sqlite_changes.note(connection, kind, [header.target], now)
    if existing:
        note_inconsistency(connection, study_id)
        return PutResult(Put.REPLACED, existing)
    return PutResult(Put.STORED)


def _supersede(connection: sqlite3.Connection, instance: StoredInstance) -> None:
    connection.execute(
        "INSERT INTO superseded (study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, blob_key,"
        " size_bytes, digest, data_set_offset, superseded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*version_values(instance), datetime.now(UTC).isoformat()),
    )


def _patient(connection: sqlite3.Connection, rows: Rows, seq: int, instance_id: int) -> int:
    """The patient row of this data set, made or brought up to date."""
    found = connection.execute("SELECT id, digest FROM patients WHERE identity = ?", (rows.identity,)).fetchone()
    if found is None:
        row = rows.patient
        connection.execute(
            INSERT_PATIENT, (seq, row.fragment, row.rest, rows.identity, instance_id, row.digest, *row.columns)
        )
        return seq
    if found[1] != rows.patient.digest:
        update_row(connection, Level.PATIENT, found[0], rows.patient)
    return int(found[0])


def _study(
    connection: sqlite3.Connection, rows: Rows, seq: int, instance_id: int, patient_id: int, found: Sequence[Any] | None
) -> int:
    row, digest = rows.study, rows.study_digest
    if found is None:
        connection.execute(_INSERT_STUDY, (seq, row.fragment, row.rest, patient_id, instance_id, digest, *row.columns))
        return seq
    study_id, old_patient_id, old_digest = found
    if old_digest != digest:
        update_row(connection, Level.STUDY, study_id, row, digest)
        connection.execute("UPDATE studies SET inconsistent = 1 WHERE id = ?", (study_id,))
    if old_patient_id != patient_id:
        move(connection, study_id, old_patient_id, patient_id)
    return int(study_id)


def _series(
    connection: sqlite3.Connection, rows: Rows, seq: int, instance_id: int, study_id: int, found: Sequence[Any] | None
) -> int:
    row = rows.series
    if found is None:
        values = (seq, row.fragment, row.rest, study_id, instance_id, row.digest, rows.modality, *row.columns)
        connection.execute(_INSERT_SERIES, values)
        note_modalities(connection, study_id)
        return seq
    if found[1] != row.digest:
        update_series(connection, int(found[0]), study_id, rows)
    return int(found[0])


def _instance(
    connection: sqlite3.Connection,
    packer: Packer,
    item: Prepared,
    seq: int,
    instance_id: int,
    study_id: int,
    series_id: int,
    is_new: bool,
) -> None:
    packed = packer.pack(series_id, contents_of(item))
    values = (*instance_values(item, packed, seq, study_id, series_id), instance_id)
    connection.execute(_INSERT_INSTANCE if is_new else _UPDATE_INSTANCE, values)
    connection.execute(
        "INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", (instance_id, packed.metadata, packed.layout)
    )
    sqlite_added.note(connection, instance_id, item.record.header.attributes, is_new=is_new)


def _count(
    connection: sqlite3.Connection,
    patient_id: int,
    study_id: int,
    series_id: int,
    instance_id: int,
    is_new: tuple[bool, bool, bool],
) -> None:
    studies, series, instances = is_new
    connection.execute(COUNT_PATIENT, (studies, series, instances, instance_id, patient_id))
    connection.execute(COUNT_STUDY, (series, instances, instance_id, study_id))
    connection.execute(COUNT_SERIES, (instances, instance_id, series_id))


def _remove(connection: sqlite3.Connection, target: Target) -> list[BlobRef]:
    within, values = within_uids(target)
    blobs = [
        BlobRef(*row)
        for row in connection.execute(f"SELECT blob_key, size_bytes, digest FROM superseded WHERE {within}", values)
    ]
    connection.execute(f"DELETE FROM superseded WHERE {within}", values)
    return blobs + [instance.blob for instance in take_out(connection, target)]


def take_out(connection: sqlite3.Connection, target: Target) -> list[StoredInstance]:
    """Take the current versions of a subtree out, with counters, and return them."""
    within, values = within_uids(target)
    found = connection.execute(
        f"SELECT i.id, i.series_id, i.study_id, {INSTANCE_COLUMNS} FROM instances i"
        " JOIN series e ON e.id = i.series_id JOIN studies s ON s.id = i.study_id WHERE "
        + within.replace("study_uid", "s.c0020000D")
        .replace("series_uid", "e.c0020000E")
        .replace("sop_uid", "i.c00080018"),
        values,
    ).fetchall()
    if not found:
        return []
    instances = [stored_instance(row[3:]) for row in found]
    gone = [instance.target for instance in instances]
    sqlite_changes.note(connection, ChangeKind.DELETED, gone, datetime.now(UTC))
    ids = orjson.dumps([row[0] for row in found]).decode()
    connection.execute("DELETE FROM contents WHERE id IN (SELECT value FROM json_each(?))", (ids,))
    connection.execute("DELETE FROM instances WHERE id IN (SELECT value FROM json_each(?))", (ids,))
    sqlite_added.forget(connection, ids)
    size_bytes = sum(instance.blob.size_bytes for instance in instances)
    connection.execute("UPDATE archive SET size_bytes = size_bytes - ?", (size_bytes,))
    study_id = found[0][2]
    emptied = sum(
        _shrink_series(connection, series_id, study_id, number)
        for series_id, number in Counter(row[1] for row in found).items()
    )
    for sop_class_uid, number in Counter(instance.sop_class_uid for instance in instances).items():
        count_class(connection, study_id, sop_class_uid, -number)
    _shrink_study(connection, study_id, emptied, len(found))
    return instances


def within_uids(target: Target) -> tuple[str, tuple[str, ...]]:
    """A condition on the columns study_uid, series_uid and sop_uid, and its values."""
    pairs = (("study_uid", target.study_uid), ("series_uid", target.series_uid), ("sop_uid", target.sop_uid))
    asked = [(name, value) for name, value in pairs if value is not None]
    return " AND ".join(f"{name} = ?" for name, _ in asked), tuple(value for _, value in asked)


def _shrink_series(connection: sqlite3.Connection, series_id: int, study_id: int, instances: int) -> bool:
    """Count a series down; whether that emptied it, and it is gone."""
    left, last = connection.execute(
        "UPDATE series SET c00201209 = c00201209 - ? WHERE id = ? RETURNING c00201209, last_instance",
        (instances, series_id),
    ).fetchone()
    if left == 0:
        connection.execute("DELETE FROM series WHERE id = ?", (series_id,))
        connection.execute("DELETE FROM templates WHERE series_id = ?", (series_id,))
        note_modalities(connection, study_id)
    elif not is_there(connection, last):
        last = last_of(connection, "series_id", series_id)
        connection.execute("UPDATE series SET last_instance = ? WHERE id = ?", (last, series_id))
        update_series(connection, series_id, study_id, rows_from_metadata(connection, last))
    return bool(left == 0)


def _shrink_study(connection: sqlite3.Connection, study_id: int, series: int, instances: int) -> None:
    left, last, patient_id = connection.execute(
        "UPDATE studies SET c00201206 = c00201206 - ?, c00201208 = c00201208 - ? WHERE id = ?"
        " RETURNING c00201208, last_instance, patient_id",
        (series, instances, study_id),
    ).fetchone()
    connection.execute(ADD_TO_PATIENT, (-int(left == 0), -series, -instances, patient_id))
    if left == 0:
        connection.execute("DELETE FROM studies WHERE id = ?", (study_id,))
        connection.execute("DELETE FROM study_classes WHERE study_id = ?", (study_id,))
        refresh_patient(connection, patient_id)
        return
    if not is_there(connection, last):
        refresh_study(connection, study_id, patient_id)
    note_inconsistency(connection, study_id)


_FIND_STUDY = "SELECT id, patient_id, digest FROM studies WHERE c0020000D = ?"
_FIND_SERIES = "SELECT id, digest FROM series WHERE c0020000E = ? AND study_id = ?"
_FIND_INSTANCE = (
    f"SELECT i.id, {INSTANCE_COLUMNS} FROM instances i JOIN series e ON e.id = i.series_id"
    " JOIN studies s ON s.id = i.study_id WHERE i.c00080018 = ? AND i.series_id = ?"
)
_INSERT_STUDY = insert_sql(
    "studies",
    (*BODY, "patient_id", "last_instance", "digest", *COLUMNS[Level.STUDY]),
    ("inconsistent", "modalities", "classes", "c00201206", "c00201208"),
)
_INSERT_SERIES = insert_sql(
    "series", (*BODY, "study_id", "last_instance", "digest", "modality", *COLUMNS[Level.SERIES]), ("c00201209",)
)
_INSERT_INSTANCE = insert_sql("instances", (*INSTANCE_NAMES, "id"))
_UPDATE_INSTANCE = update_sql("instances", INSTANCE_NAMES)
