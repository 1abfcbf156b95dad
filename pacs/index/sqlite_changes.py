"""The change feed of the SQLite index: a row a change, numbered by the one transaction that writes at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

from pacs.dicom.model import Target
from pacs.index.work import Change, ChangeKind

# UIDs leave out what they begin with in common with the one before (``_shortened``). at: microseconds since 1970.
TABLES = (
    "CREATE TABLE changes (cursor INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " study_uid TEXT NOT NULL, series_uid TEXT NOT NULL, sop_uid TEXT NOT NULL)",
)
INSERT = "INSERT INTO changes (at, kind, study_uid, series_uid, sop_uid) VALUES (?, ?, ?, ?, ?)"
_FORGOTTEN_AT_ONCE = 5000


def values(kind: ChangeKind, target: Target, at: datetime) -> tuple[int, int, str, str, str]:
    """Of ``INSERT``."""
    study, series, sop = target.study_uid, target.series_uid or "", target.sop_uid or ""
    return microseconds(at), kind, study, _shortened(series, study), _shortened(sop, series)


def note(connection: sqlite3.Connection, kind: ChangeKind, targets: Sequence[Target], at: datetime) -> None:
    """Within the transaction that makes the change."""
    connection.executemany(INSERT, [values(kind, target, at) for target in targets])


def page(connection: sqlite3.Connection, after: int, limit: int) -> list[Change]:
    sql = (
        "SELECT cursor, at, kind, study_uid, series_uid, sop_uid FROM changes WHERE cursor > ? ORDER BY cursor LIMIT ?"
    )
    found = []
    for cursor, at, kind, study, short_series, short_sop in connection.execute(sql, (after, limit)):
        series = _whole(short_series, study)
        target = Target(study, series, _whole(short_sop, series))
        found.append(Change(cursor, datetime.fromtimestamp(at / 1e6, UTC), ChangeKind(kind), target))
    return found


def count(connection: sqlite3.Connection, after: int, until: int) -> dict[tuple[datetime, ChangeKind], int]:
    """See ``Work.count_changes``."""
    sql = "SELECT at / 3600000000, kind, COUNT(*) FROM changes WHERE cursor > ? AND cursor <= ? GROUP BY 1, 2"
    return {
        (datetime.fromtimestamp(hour * 3600, UTC), ChangeKind(kind)): number
        for hour, kind, number in connection.execute(sql, (after, until))
    }


def span(connection: sqlite3.Connection, database: str = "main") -> tuple[int, int]:
    """See ``Work.change_span``. database: the name of an attached one."""
    oldest = connection.execute(f"SELECT MIN(cursor) FROM {database}.changes").fetchone()[0]
    found = connection.execute(f"SELECT seq FROM {database}.sqlite_sequence WHERE name = 'changes'").fetchone()
    newest = found[0] if found else 0
    return (newest if oldest is None else oldest - 1), newest


def forget(connection: sqlite3.Connection, until: datetime) -> int:
    """Some of the oldest."""
    # In order of cursors, up to the first that is kept: there are no holes, whatever a clock did.
    sql = "SELECT cursor, at FROM changes ORDER BY cursor LIMIT ?"
    last = None
    for cursor, at in connection.execute(sql, (_FORGOTTEN_AT_ONCE,)):
        if at > microseconds(until):
            break
        last = cursor
    return 0 if last is None else connection.execute("DELETE FROM changes WHERE cursor <= ?", (last,)).rowcount


def go_on_from(connection: sqlite3.Connection, cursor: int) -> None:
    """Hand out only cursors after this one."""
    change = "UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = 'changes'"
    if not connection.execute(change, (cursor,)).rowcount:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('changes', ?)", (cursor,))


def microseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e6)


def _shortened(uid: str, before: str) -> str:
    """How many leading characters are those of ``before``, as one character, and the rest."""
    length = min(len(uid), len(before))
    common = 0
    if uid.isascii() and before.isascii():
        # As numbers, whose highest different bit tells where: a loop over characters takes ten times as long.
        different = int.from_bytes(uid[:length].encode()) ^ int.from_bytes(before[:length].encode())
        common = length - (different.bit_length() + 7) // 8
    return chr(common + 1) + uid[common:]  # never NUL, which ends a text for some of SQLite's functions


def _whole(short: str, before: str) -> str:
    return before[: ord(short[0]) - 1] + short[1:]
