"""Rows of patients, studies and series kept right as instances come and go; inside a transaction of the writer.

The row of an entity says what its last stored instance says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import orjson

from pacs.dicom import normal
from pacs.dicom.model import Level
from pacs.dicom.normal import Kind
from pacs.index.rows import COLUMNS, LevelRow, Rows, Stored, rows_of, stored_form
from pacs.index.sqlite_contents import Reader
from pacs.index.sqlite_rows import INSTANCE_COLUMNS, stored_instance
from pacs.index.sqlite_schema import TABLES


def update_series(connection: sqlite3.Connection, series_id: int, study_id: int, rows: Rows) -> None:
    update_row(connection, Level.SERIES, series_id, rows.series)
    connection.execute("UPDATE series SET modality = ? WHERE id = ?", (rows.modality, series_id))
    note_modalities(connection, study_id)


def move(connection: sqlite3.Connection, study_id: int, old_patient_id: int, patient_id: int) -> None:
    """The study's last stored instance names another patient."""
    connection.execute("UPDATE studies SET patient_id = ? WHERE id = ?", (patient_id, study_id))
    series, instances = connection.execute(
        "SELECT c00201206, c00201208 FROM studies WHERE id = ?", (study_id,)
    ).fetchone()
    connection.execute(ADD_TO_PATIENT, (1, series, instances, patient_id))
    connection.execute(ADD_TO_PATIENT, (-1, -series, -instances, old_patient_id))
    refresh_patient(connection, old_patient_id)


def refresh_study(connection: sqlite3.Connection, study_id: int, patient_id: int) -> None:
    """Take the attributes of the last stored instance that is left, and go to the patient that it names."""
    last = last_of(connection, "study_id", study_id)
    connection.execute("UPDATE studies SET last_instance = ? WHERE id = ?", (last, study_id))
    rows = rows_from_metadata(connection, last)
    update_row(connection, Level.STUDY, study_id, rows.study, rows.study_digest)
    found = connection.execute("SELECT id FROM patients WHERE identity = ?", (rows.identity,)).fetchone()
    if found and found[0] == patient_id:
        refresh_patient(connection, patient_id)
        return
    if not found:
        (seq,) = connection.execute(NEXT_ID, (0,)).fetchone()
        row = rows.patient
        values = (seq, row.fragment, row.rest, rows.identity, last, row.digest, *row.columns)
        connection.execute(INSERT_PATIENT, values)
        found = (seq,)
    move(connection, study_id, patient_id, found[0])
    refresh_patient(connection, found[0])


def refresh_patient(connection: sqlite3.Connection, patient_id: int) -> None:
    """Take the attributes of the last stored instance of the patient's studies; without studies the patient goes."""
    found = connection.execute(
        "SELECT i.id FROM studies s JOIN instances i ON i.id = s.last_instance WHERE s.patient_id = ?"
        " ORDER BY i.seq DESC LIMIT 1",
        (patient_id,),
    ).fetchone()
    if found is None:
        connection.execute("DELETE FROM patients WHERE id = ?", (patient_id,))
        return
    connection.execute("UPDATE patients SET last_instance = ? WHERE id = ?", (found[0], patient_id))
    update_row(connection, Level.PATIENT, patient_id, rows_from_metadata(connection, found[0]).patient)


def note_inconsistency(connection: sqlite3.Connection, study_id: int) -> None:
    connection.execute(
        "UPDATE studies SET inconsistent ="
        " (SELECT MIN(study_digest) <> MAX(study_digest) FROM instances WHERE study_id = ?1) WHERE id = ?1",
        (study_id,),
    )


def note_modalities(connection: sqlite3.Connection, study_id: int) -> None:
    found = connection.execute(
        "SELECT DISTINCT modality FROM series WHERE study_id = ? AND modality <> '' ORDER BY modality", (study_id,)
    )
    _note_list(connection, study_id, "modalities", "c00080061", [row[0] for row in found], Kind.TEXT)


def count_class(connection: sqlite3.Connection, study_id: int, sop_class_uid: str, by: int) -> None:
    key = (study_id, sop_class_uid)
    counted = connection.execute(
        "INSERT INTO study_classes VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
        " SET instances = instances + excluded.instances RETURNING instances",
        (*key, by),
    ).fetchone()[0]
    if counted <= 0:
        connection.execute("DELETE FROM study_classes WHERE study_id = ? AND sop_class_uid = ?", key)
    elif counted != by:
        return
    found = connection.execute(
        "SELECT sop_class_uid FROM study_classes WHERE study_id = ? ORDER BY sop_class_uid", (study_id,)
    )
    _note_list(connection, study_id, "classes", "c00080062", [row[0] for row in found], Kind.UID)


def _note_list(
    connection: sqlite3.Connection, study_id: int, name: str, column: str, values: Iterable[str], kind: Kind
) -> None:
    listed = list(values)
    (form,) = stored_form(normal.normal_values({"Value": listed}, kind), kind)
    connection.execute(
        f"UPDATE studies SET {name} = ?, {column} = ? WHERE id = ?", (orjson.dumps(listed).decode(), form, study_id)
    )


def is_there(connection: sqlite3.Connection, instance_id: int) -> bool:
    return connection.execute("SELECT 1 FROM instances WHERE id = ?", (instance_id,)).fetchone() is not None


def last_of(connection: sqlite3.Connection, parent: str, parent_id: int) -> int:
    found = connection.execute(
        f"SELECT id FROM instances WHERE {parent} = ? ORDER BY seq DESC LIMIT 1", (parent_id,)
    ).fetchone()
    return int(found[0])


def rows_from_metadata(connection: sqlite3.Connection, instance_id: int, contents: Reader | None = None) -> Rows:
    """What an instance says about all levels, made again from its metadata. contents: kept over several calls."""
    row = connection.execute(
        f"SELECT {INSTANCE_COLUMNS}, x.metadata FROM instances i JOIN series e ON e.id = i.series_id"
        " JOIN studies s ON s.id = i.study_id JOIN contents x ON x.id = i.id WHERE i.id = ?",
        (instance_id,),
    ).fetchone()
    instance = stored_instance(row[:-1])
    metadata = (contents or Reader(connection)).read(row[-1])
    return rows_of(orjson.loads(metadata), instance.target, instance.sop_class_uid, instance.transfer_syntax_uid)


def row_at(rows: Rows, level: Level) -> LevelRow:
    return {Level.PATIENT: rows.patient, Level.STUDY: rows.study, Level.SERIES: rows.series}.get(level, rows.image)


def update_row(
    connection: sqlite3.Connection, level: Level, row_id: int, row: LevelRow, digest: int | None = None
) -> None:
    """digest: the study row's, which covers its patient's attributes too; the row's own otherwise."""
    values: list[Stored] = [row.fragment, row.rest, *row.columns]
    if level is not Level.IMAGE:
        values.append(row.digest if digest is None else digest)
    connection.execute(_UPDATE_ROW[level], (*values, row_id))


def insert_sql(table: str, names: Sequence[str], zeros: Sequence[str] = ()) -> str:
    marks = ["?"] * len(names) + ["0"] * len(zeros)
    return f"INSERT INTO {table} ({', '.join([*names, *zeros])}) VALUES ({', '.join(marks)})"


def update_sql(table: str, names: Sequence[str]) -> str:
    return f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"


NEXT_ID = "UPDATE archive SET next_id = next_id + 1, size_bytes = size_bytes + ? RETURNING next_id - 1"
BODY = ("id", "fragment", "rest")
INSERT_PATIENT = insert_sql(
    "patients",
    (*BODY, "identity", "last_instance", "digest", *COLUMNS[Level.PATIENT]),
    ("c00201200", "c00201202", "c00201204"),
)
_UPDATE_ROW = {
    level: update_sql(table, ("fragment", "rest", *COLUMNS[level], *(() if level is Level.IMAGE else ("digest",))))
    for level, table in TABLES.items()
}
ADD_TO_PATIENT = (
    "UPDATE patients SET c00201200 = c00201200 + ?, c00201202 = c00201202 + ?, c00201204 = c00201204 + ? WHERE id = ?"
)
