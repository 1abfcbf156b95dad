"""What raccoon's database says of each file, and what became of it, in a temporary database: memory stays small."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from itertools import islice
from typing import Any

from pacs.dicom.model import Target

_BATCH = 1000
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32000;
CREATE TABLE documents (path BLOB, study TEXT, series TEXT, sop TEXT, rank REAL, deleted INTEGER);
CREATE TABLE queue (id INTEGER PRIMARY KEY, pass INTEGER, path BLOB UNIQUE);
CREATE TABLE held (key TEXT PRIMARY KEY, study TEXT, series TEXT, sop TEXT) WITHOUT ROWID;
CREATE TABLE noted (key TEXT PRIMARY KEY, study TEXT, series TEXT, sop TEXT) WITHOUT ROWID;
CREATE TABLE files (path BLOB PRIMARY KEY, fate TEXT, study TEXT, series TEXT, sop TEXT, detail TEXT) WITHOUT ROWID;
CREATE TABLE present (sop TEXT, study TEXT, PRIMARY KEY (sop, study)) WITHOUT ROWID;
"""
_DOCUMENT_INDEXES = """
CREATE INDEX document_path ON documents (path);
CREATE INDEX document_sop ON documents (sop);
"""


class Pass(IntEnum):
    """In which order files are taken: what raccoon would have shown comes first, so that it wins over its doubles."""

    CURRENT = 0  # of the newest document of an instance
    OLDER = 1  # of further documents of it
    DELETED = 2  # of deleted documents only
    UNNAMED = 3  # of no document


class Fate(Enum):
    """What became of one file; the value is for people."""

    IN_PLACE = "adopted in place"
    LINKED = "adopted by hard link"
    COPIED = "copied"
    RENEWED = "copied, with file meta information renewed"
    ALREADY = "already there"
    DUPLICATE = "duplicate"
    CONFLICT = "same instance, other content"
    SOFT_DELETED = "deleted in raccoon"
    DELETED_HERE = "deleted here since"
    SHOWN = "deleted in raccoon, and shown here"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    ORPHAN = "named by no document"
    OTHER = "not DICOM"


# What these say of is, or was, in this archive.
_PRESENT = frozenset(
    {
        *(Fate.IN_PLACE, Fate.LINKED, Fate.COPIED, Fate.RENEWED),
        *(Fate.ALREADY, Fate.DUPLICATE, Fate.CONFLICT, Fate.DELETED_HERE, Fate.SHOWN),
    }
)


@dataclass(frozen=True, slots=True)
class Document:
    """One of raccoon's instance documents. path: relative, "/"-separated; rank: the higher, the newer."""

    path: str
    study_uid: str
    series_uid: str
    sop_uid: str
    rank: float
    deleted: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the list that goes with the report. kind: a word for scripts."""

    kind: str
    path: str
    sop_uid: str
    detail: str


class Plan:
    """Safe to call from any thread. Close it, and it is gone."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._lock = threading.Lock()
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        self._connection.close()

    def add_documents(self, documents: Iterable[Document]) -> None:
        self._add(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)",
            ((os.fsencode(d.path), d.study_uid, d.series_uid, d.sop_uid, d.rank, d.deleted) for d in documents),
        )
        self._connection.executescript(_DOCUMENT_INDEXES)
        for order, sql in (
            (Pass.CURRENT, "SELECT path, MAX(rank) FROM documents WHERE NOT deleted GROUP BY study, series, sop"),
            (Pass.OLDER, "SELECT path, MAX(rank) AS newest FROM documents WHERE NOT deleted GROUP BY path"),
            (Pass.DELETED, "SELECT path, 0 FROM documents"),
        ):
            self._connection.execute(
                f"INSERT OR IGNORE INTO queue (pass, path) SELECT {int(order)}, path FROM ({sql}) ORDER BY path"
            )

    def add_held(self, rows: Iterable[tuple[str, Target]]) -> None:
        """Keys that this archive's index has already."""
        self._add(
            "INSERT OR IGNORE INTO held VALUES (?, ?, ?, ?)",
            ((key, t.study_uid, t.series_uid, t.sop_uid) for key, t in rows),
        )

    def add_noted(self, rows: Iterable[tuple[str, Target]]) -> None:
        """Keys that this archive has on record as deleted."""
        self._add(
            "INSERT OR IGNORE INTO noted VALUES (?, ?, ?, ?)",
            ((key, t.study_uid, t.series_uid, t.sop_uid) for key, t in rows),
        )

    def add_unnamed(self, paths: Iterable[str]) -> None:
        """Files that were found; those that a document names are in the queue already."""
        self._add(
            f"INSERT OR IGNORE INTO queue (pass, path) VALUES ({int(Pass.UNNAMED)}, ?)",
            ((os.fsencode(path),) for path in paths),
        )

    def queued(self) -> int:
        return int(self._one("SELECT COUNT(*) FROM queue"))

    def paths(self, order: Pass) -> Iterator[str]:
        last = 0
        while True:
            with self._lock:
                page = self._connection.execute(
                    "SELECT id, path FROM queue WHERE pass = ? AND id > ? ORDER BY id LIMIT ?", (order, last, _BATCH)
                ).fetchall()
            if not page:
                return
            last = page[-1][0]
            for _, path in page:
                yield os.fsdecode(path)

    def is_deleted(self, target: Target) -> bool | None:
        """Whether all documents of an instance are deleted ones; None when there is no document of it."""
        # Those of the same study, if there are any: a SOP Instance UID may have been stored in two.
        sql = "SELECT MIN(deleted) FROM documents WHERE sop = ?"
        found = self._one(f"{sql} AND study = ?", target.sop_uid, target.study_uid)
        if found is None:
            found = self._one(sql, target.sop_uid)
        return None if found is None else bool(found)

    def is_named_live(self, path: str) -> bool:
        return self._one("SELECT 1 FROM documents WHERE path = ? AND NOT deleted", os.fsencode(path)) is not None

    def held(self, key: str) -> Target | None:
        """What the index has under a key."""
        return self._target("held", key)

    def noted(self, key: str) -> Target | None:
        """What is on record as deleted under a key."""
        return self._target("noted", key)

    def claim(self, target: Target) -> bool:
        """Whether this is the first file of the run, or of an earlier one, that brings the instance."""
        with self._lock:
            claimed = self._connection.execute(
                "INSERT OR IGNORE INTO present VALUES (?, ?)", (target.sop_uid, target.study_uid)
            )
        return claimed.rowcount == 1

    def settle(self, path: str, fate: Fate, target: Target | None = None, detail: str = "") -> None:
        """Note what became of a file, and which instance it holds."""
        study, series, sop = (target.study_uid, target.series_uid, target.sop_uid) if target else ("", "", "")
        with self._lock:
            self._connection.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                (os.fsencode(path), fate.name, study, series, sop, detail),
            )
            if fate in _PRESENT:
                self._connection.execute("INSERT OR IGNORE INTO present VALUES (?, ?)", (sop, study))

    def fates(self) -> dict[Fate, int]:
        with self._lock:
            found = self._connection.execute("SELECT fate, COUNT(*) FROM files GROUP BY fate").fetchall()
        return {Fate[name]: number for name, number in found}

    def instances(self, *, deleted: bool) -> int:
        """How many instances raccoon's documents speak of; deleted: those that it does not show any more."""
        return int(
            self._one(
                "SELECT COUNT(*) FROM (SELECT 1 FROM documents GROUP BY study, series, sop HAVING MIN(deleted) = ?)",
                int(deleted),
            )
        )

    def findings(self) -> Iterator[Finding]:
        """What somebody should look at: instances without a file first, then single files."""
        for sop, path, fate, holds, detail in self._connection.execute(
            "SELECT d.sop, d.path, f.fate, f.sop, f.detail FROM documents d LEFT JOIN files f ON f.path = d.path"
            " WHERE NOT d.deleted AND NOT EXISTS (SELECT 1 FROM present p WHERE p.sop = d.sop AND p.study = d.study)"
            f" AND NOT (d.sop = COALESCE(f.sop, '') AND f.fate IN ({', '.join(repr(f.name) for f in _PRESENT)}))"
            " GROUP BY d.study, d.series, d.sop ORDER BY d.path"
        ):
            if fate in (Fate.UNREADABLE.name, Fate.REFUSED.name):
                continue  # told below
            lost = fate in (None, Fate.MISSING.name)
            text = detail or "the file is not there" if lost else f"the file holds another instance, {holds}"
            yield Finding("missing" if lost else "overwritten", os.fsdecode(path), sop, text)
        wanted = (Fate.UNREADABLE, Fate.REFUSED, Fate.CONFLICT, Fate.SHOWN, Fate.RENEWED, Fate.DUPLICATE, Fate.ORPHAN)
        for fate in wanted:
            for path, sop, detail in self._connection.execute(
                "SELECT path, sop, detail FROM files WHERE fate = ? ORDER BY path", (fate.name,)
            ):
                yield Finding(fate.name.lower(), os.fsdecode(path), sop, detail or fate.value)
        for path, sop, study, series, other_study, other_series in self._connection.execute(
            "SELECT d.path, d.sop, d.study, d.series, f.study, f.series FROM documents d"
            " JOIN files f ON f.path = d.path WHERE NOT d.deleted AND d.sop = f.sop"
            " AND (d.study <> f.study OR d.series <> f.series) ORDER BY d.path"
        ):
            detail = f"the document says study {study} series {series}, the file study {other_study} series"
            yield Finding("differs", os.fsdecode(path), sop, f"{detail} {other_series}")

    def _add(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        remaining = iter(rows)
        while batch := list(islice(remaining, _BATCH)):
            with self._lock:
                self._connection.executemany(sql, batch)

    def _target(self, table: str, key: str) -> Target | None:
        with self._lock:
            row = self._connection.execute(f"SELECT study, series, sop FROM {table} WHERE key = ?", (key,)).fetchone()
        return Target(*row) if row else None

    def _one(self, sql: str, *values: Any) -> Any:
        with self._lock:
            row = self._connection.execute(sql, values).fetchone()
        return None if row is None else row[0]
