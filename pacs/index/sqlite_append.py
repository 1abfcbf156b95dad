"""The usual put: one more instance of a series whose rows stay as they are. One query, one statement.

Every statement of SQLite lets other threads run, and then waits until they stop: a dozen of them for an instance take
longer by waiting than by working. A temporary trigger of the writer's connection does the dozen as one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pacs.dicom.model import Level
from pacs.index import sqlite_changes
from pacs.index.base import Put, PutResult
from pacs.index.rows import COLUMNS, Prepared
from pacs.index.sqlite_contents import Contents, Packer
from pacs.index.sqlite_entities import insert_sql
from pacs.index.sqlite_rows import key_hash, stored_digest, stored_key, stored_time
from pacs.index.work import ChangeKind

INSTANCE_NAMES = (
    *("fragment", "rest", "seq", "study_id", "series_id", "number", "study_digest", "sop_class_uid"),
    *("blob_key", "blob_hash", "size_bytes", "digest", "data_set_offset", "received_at", "source_name"),
    *("source_address", "source_protocol", *COLUMNS[Level.IMAGE], "c00083002"),
)
_SOP_CLASS = COLUMNS[Level.IMAGE].index("c00080016")


class Appending:
    """What one put leaves for the next: the trigger, and the templates read last. Used by the writer's thread only."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._packer: Packer | None = None

    @contextmanager
    def using(self, connection: sqlite3.Connection) -> Iterator[Packer]:
        """Within one savepoint. When it fails, templates may be gone with it, and are read again."""
        packer = self._packer if self._connection is connection else None
        self._connection = self._packer = None
        if packer is None:
            for statement in _SETUP:
                connection.execute(statement)
            packer = Packer(connection)
        yield packer
        self._connection, self._packer = connection, packer

    def append(
        self, connection: sqlite3.Connection, packer: Packer, item: Prepared, now: datetime | None
    ) -> PutResult | None:
        """Add the instance; None, and nothing done, when anything else than counters has to change.

        now: of the change to note, None for none.
        """
        header, rows = item.record.header, item.rows
        target = header.target
        key = (target.study_uid, target.series_uid, target.sop_uid, header.sop_class_uid)
        found = connection.execute(_FIND, key).fetchone()
        study_id, patient_id, series_id, next_id, *known = found
        if known != [rows.study_digest, rows.identity, rows.patient.digest, rows.series.digest, 1, 0, 0]:
            return None
        packed = packer.pack(series_id, contents_of(item))
        values = instance_values(item, packed, next_id, study_id, series_id)
        connection.execute(
            _APPEND,
            (
                *(*values, next_id, packed.metadata, packed.layout, patient_id, header.sop_class_uid),
                *(sqlite_changes.values(ChangeKind.STORED, target, now) if now else _UNNOTED),
            ),
        )
        return PutResult(Put.STORED)


def contents_of(item: Prepared) -> Contents:
    return Contents(item.rows.image.fragment, item.rows.image.rest, item.metadata, item.layout)


def instance_values(item: Prepared, packed: Contents, seq: int, study_id: int, series_id: int) -> tuple[Any, ...]:
    """Of ``INSTANCE_NAMES``."""
    record, row = item.record, item.rows.image
    header, blob, source = record.header, record.blob, record.source
    return (
        *(packed.fragment, packed.rest, seq, study_id, series_id, item.rows.number, item.rows.study_digest),
        # Nearly always what the column of SOP Class UID says as well.
        None if header.sop_class_uid == row.columns[_SOP_CLASS] else header.sop_class_uid,
        *(stored_key(blob.key, header.target), key_hash(blob.key), blob.size_bytes, stored_digest(blob.digest)),
        *(header.data_set_offset, stored_time(record.received_at), source.name, source.address, source.protocol),
        *row.columns,
        header.transfer_syntax_uid,
    )


COUNT_PATIENT = (
    "UPDATE patients SET c00201200 = c00201200 + ?, c00201202 = c00201202 + ?, c00201204 = c00201204 + ?,"
    " last_instance = ? WHERE id = ?"
)
COUNT_STUDY = "UPDATE studies SET c00201206 = c00201206 + ?, c00201208 = c00201208 + ?, last_instance = ? WHERE id = ?"
COUNT_SERIES = "UPDATE series SET c00201209 = c00201209 + ?, last_instance = ? WHERE id = ?"

_FIND = (
    "SELECT s.id, s.patient_id, e.id, a.next_id, s.digest, p.identity, p.digest, e.digest, k.instances > 0,"
    " i.id IS NOT NULL, EXISTS (SELECT 1 FROM added_indexes)"
    " FROM archive a LEFT JOIN studies s ON s.c0020000D = ?1 LEFT JOIN patients p ON p.id = s.patient_id"
    " LEFT JOIN series e ON e.c0020000E = ?2 AND e.study_id = s.id"
    " LEFT JOIN instances i ON i.c00080018 = ?3 AND i.series_id = e.id"
    " LEFT JOIN study_classes k ON k.study_id = s.id AND k.sop_class_uid = ?4"
)
_ALL_NAMES = (*INSTANCE_NAMES, "id")
_CHANGE_NAMES = ("changed_at", "change_kind", "study_uid", "series_uid", "sop_uid")
_UNNOTED = (None,) * len(_CHANGE_NAMES)
_APPENDED_NAMES = (*_ALL_NAMES, "metadata", "layout", "patient_id", "sop_class", *_CHANGE_NAMES)
_APPEND = insert_sql("appended", _APPENDED_NAMES)


_NEW_CHANGE = tuple(f"NEW.{name}" for name in _CHANGE_NAMES)


def _filled(sql: str, *values: str) -> str:
    for value in values:
        sql = sql.replace("?", value, 1)
    return sql


_SETUP = (
    f"CREATE TEMP VIEW IF NOT EXISTS appended ({', '.join(_APPENDED_NAMES)})"
    f" AS SELECT {', '.join('0' for _ in _APPENDED_NAMES)}",
    "CREATE TEMP TRIGGER IF NOT EXISTS appending INSTEAD OF INSERT ON appended BEGIN "
    + "; ".join(
        (
            _filled(insert_sql("instances", _ALL_NAMES), *(f"NEW.{name}" for name in _ALL_NAMES)),
            "INSERT INTO contents VALUES (NEW.id, NEW.metadata, NEW.layout)",
            "UPDATE archive SET next_id = next_id + 1, size_bytes = size_bytes + NEW.size_bytes",
            _filled(COUNT_PATIENT, "0", "0", "1", "NEW.id", "NEW.patient_id"),
            _filled(COUNT_STUDY, "0", "1", "NEW.id", "NEW.study_id"),
            _filled(COUNT_SERIES, "1", "NEW.id", "NEW.series_id"),
            "UPDATE study_classes SET instances = instances + 1"
            " WHERE study_id = NEW.study_id AND sop_class_uid = NEW.sop_class",
            _filled(sqlite_changes.INSERT.replace("VALUES (?, ?, ?, ?, ?)", "SELECT ?, ?, ?, ?, ?"), *_NEW_CHANGE)
            + " WHERE NEW.changed_at IS NOT NULL",
        )
    )
    + "; END",
)
