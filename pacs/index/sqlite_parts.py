"""Version 7 of the schema: parts of patients' names, which lead to a name that is asked for by what stands in it.

Triggers keep them, so that they are right whatever changes a patient, a process of an older version too. Several names
in one column have none: those are looked at one by one, as for every key.
"""

from __future__ import annotations

import sqlite3

from pacs.dicom.attributes import BY_TAG
from pacs.dicom.criteria import Glob
from pacs.index.parts import LENGTH, PARTED, begin_of
from pacs.index.rows import columns

_COLUMNS = columns(BY_TAG[PARTED])
# Names that are found by their parts sooner than by going through all.
_FEW = 2000


def create(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE name_parts (part TEXT NOT NULL, patient_id INTEGER NOT NULL, PRIMARY KEY (part, patient_id))"
        " WITHOUT ROWID"
    )
    names = ", ".join(_COLUMNS)
    is_changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in _COLUMNS)
    for event, when, body in (
        ("INSERT ON patients", "", _added("NEW")),
        ("DELETE ON patients", "", _removed("OLD")),
        (f"UPDATE OF {names} ON patients", f" WHEN {is_changed}", _removed("OLD") + _added("NEW")),
    ):
        connection.execute(
            f"CREATE TRIGGER name_parts_{event.split()[0].lower()} AFTER {event}{when} BEGIN {'; '.join(body)}; END"
        )
    for name in _COLUMNS:
        connection.execute(f"INSERT OR IGNORE INTO name_parts {_parts(f'p.{name}', 'p.id', 'patients p, ')}")


def is_narrow(connection: sqlite3.Connection, asked: Glob) -> bool:
    """Whether parts lead to few names; holds for the transaction."""
    begin = begin_of(asked)
    if begin is None:
        return False
    sql = f"SELECT COUNT(*) FROM (SELECT 1 FROM name_parts WHERE part >= ? AND part < ? LIMIT {_FEW + 1})"
    return bool(connection.execute(sql, _between(begin)).fetchone()[0] <= _FEW)


def condition(alias: str, asked: Glob) -> tuple[str, list[str]]:
    """What all patients meet with a name that matches; for a pattern that ``is_narrow``."""
    begin = begin_of(asked) or ""
    return (f"{alias}.id IN (SELECT patient_id FROM name_parts WHERE part >= ? AND part < ?)", _between(begin))


def _between(begin: str) -> list[str]:
    # No character is greater, and a part has no more than LENGTH of them.
    return [begin, begin + "\U0010ffff" * LENGTH]


def _parts(value: str, patient: str, source: str = "") -> str:
    """A SELECT of a value's parts, each with the patient. (A trigger may have no WITH to count by.)"""
    positions = f"json_each('[0' || replace(hex(zeroblob(length({value}) - 1)), '00', ',0') || ']')"
    return (
        f"SELECT substr({value}, key + 1, {LENGTH}), {patient} FROM {source}{positions}"
        f" WHERE typeof({value}) = 'text' AND {value} <> ''"
    )


def _added(row: str) -> list[str]:
    return [f"INSERT OR IGNORE INTO name_parts {_parts(f'{row}.{name}', f'{row}.id')}" for name in _COLUMNS]


def _removed(row: str) -> list[str]:
    return [
        f"DELETE FROM name_parts WHERE (part, patient_id) IN ({_parts(f'{row}.{name}', f'{row}.id')})"
        for name in _COLUMNS
    ]
