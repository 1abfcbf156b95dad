"""What a new SQLite index file takes over from the one in whose place it comes: all that no stored file tells."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from pacs.index import sqlite_changes
from pacs.index.sqlite_writer import translated

log = logging.getLogger(__name__)

_TABLES = ("jobs", "records", "changes")


def carry_over(old: Path, new: Path) -> None:
    """Copy jobs, records and the change feed from an index that may be damaged, older, or not there.

    Nobody else has either open. What cannot be read is lost, and the log says so.
    """
    if not old.exists():
        return
    for table in _TABLES:
        try:
            with closing(sqlite3.connect(new, isolation_level=None)) as connection:
                connection.execute("ATTACH ? AS old", (str(old),))
                if connection.execute("SELECT 1 FROM old.sqlite_master WHERE name = ?", (table,)).fetchone():
                    names = ", ".join(row[1] for row in connection.execute(f"PRAGMA old.table_info({table})"))
                    connection.execute(f"INSERT OR REPLACE INTO main.{table} ({names}) SELECT {names} FROM old.{table}")
                    if table == "changes":  # those that are forgotten had cursors too
                        sqlite_changes.go_on_from(connection, sqlite_changes.span(connection, "old")[1])
        except sqlite3.Error as error:
            log.error("the old index cannot be read to its end: its %s are lost: %s", table, error)


def go_on_after_backup(restored: Path) -> None:
    """Of an index from a backup, which nobody has open: cursors that were handed out since must not come again.

    Raises OutOfResources or Corrupt.
    """
    try:
        with closing(sqlite3.connect(restored, isolation_level=None)) as connection:
            sqlite_changes.go_on_from(connection, sqlite_changes.span(connection)[1] + _LEAP)
    except sqlite3.Error as error:
        raise translated(error) from error


# More than an archive takes in between two backups.
_LEAP = 1_000_000_000
