"""Version 5 of the schema: instances take a fifth of the room.

Their JSON is compressed (``sqlite_contents``), digests are bytes, blob keys leave the UIDs out and are found by a hash,
and what another column says as well is not said twice. Files of older versions are rewritten, table by table.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pacs.dicom.model import Level, Target
from pacs.errors import Corrupt
from pacs.index.rows import attributes_of, columns
from pacs.index.sqlite_contents import Contents, Packer
from pacs.index.sqlite_rows import key_hash, stored_digest, stored_key, stored_time
from pacs.index.sqlite_schema import PAIRED, create_index

log = logging.getLogger(__name__)
_BATCH = 500
_LARGE = 10_000  # instances from which on progress is logged
_PROGRESS_S = 10.0
_RECLAIMED_BYTES = 64 << 20  # less than that is left to what comes

_OWN = (
    *("id", "fragment", "rest", "seq", "study_id", "series_id", "number", "study_digest", "sop_class_uid"),
    *("blob_key", "blob_hash", "size_bytes", "digest", "data_set_offset", "received_at", "source_name"),
    *("source_address", "source_protocol"),
)
_TABLES = (
    "CREATE TABLE templates (id INTEGER PRIMARY KEY AUTOINCREMENT, series_id INTEGER NOT NULL, content BLOB NOT NULL)",
    # Looked up for every series while it is rewritten.
    "CREATE INDEX template_series ON templates (series_id)",
    "CREATE TABLE packed_contents (id INTEGER PRIMARY KEY, metadata BLOB NOT NULL, layout BLOB NOT NULL)",
    # sop_class_uid: NULL when it is what c00080016 holds. digest: no type, so that bytes and text keep theirs.
    "CREATE TABLE packed_instances (id INTEGER PRIMARY KEY, fragment BLOB NOT NULL, rest BLOB NOT NULL,"
    " seq INTEGER NOT NULL, study_id INTEGER NOT NULL REFERENCES studies, series_id INTEGER NOT NULL REFERENCES series,"
    " number, study_digest INTEGER NOT NULL, sop_class_uid TEXT, blob_key TEXT NOT NULL, blob_hash INTEGER NOT NULL,"
    " size_bytes INTEGER NOT NULL, digest NOT NULL, data_set_offset INTEGER NOT NULL, received_at INTEGER NOT NULL,"
    " source_name TEXT NOT NULL, source_address TEXT NOT NULL, source_protocol TEXT NOT NULL, {attributes})",
)
_RENAMED = (
    "DROP TABLE instances",
    "DROP TABLE contents",
    "ALTER TABLE packed_instances RENAME TO instances",
    "ALTER TABLE packed_contents RENAME TO contents",
    "CREATE UNIQUE INDEX instance_uid ON instances (c00080018, series_id)",
    "CREATE INDEX instance_series ON instances (series_id, number, c00200013, study_id)",
    "CREATE INDEX instance_study ON instances (study_id, seq)",
    "CREATE INDEX instance_blob ON instances (blob_hash)",
)


def pack(connection: sqlite3.Connection) -> None:
    """Rewrite instances and their contents, inside the migration's transaction. Raises Corrupt."""
    total = connection.execute("SELECT COUNT(*) FROM instances").fetchone()[0]
    # Columns that the table of attributes has gained since are added, and filled, later.
    present = [row[1] for row in connection.execute("PRAGMA table_info(instances)")]
    attributes = [name for name in present if re.fullmatch(r"c[0-9A-F]{8}[ip]?", name)]
    for statement in _TABLES:
        connection.execute(statement.replace("{attributes}", ", ".join(attributes)))
    names = (*_OWN, *attributes)
    insert = f"INSERT INTO packed_instances ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    packer = Packer(connection)
    done, noted = 0, time.monotonic()
    if total >= _LARGE:
        log.warning("the index is rewritten in a smaller form, once: instances=%d", total)
    for rows in _rows(connection, attributes):
        packed = [_packed(packer, row) for row in rows]
        connection.executemany(insert, [instance for instance, _ in packed])
        connection.executemany(
            "INSERT INTO packed_contents VALUES (?, ?, ?)",
            [(instance[0], contents.metadata, contents.layout) for instance, contents in packed],
        )
        done += len(rows)
        if total >= _LARGE and time.monotonic() - noted > _PROGRESS_S:
            noted = time.monotonic()
            log.info("rewriting the index: instances=%d of=%d", done, total)
    for statement in _RENAMED:
        connection.execute(statement)
    for tag in (*PAIRED, *PAIRED.values()):
        connection.execute(f"DROP INDEX IF EXISTS ic{tag}")
    series = {row[1] for row in connection.execute("PRAGMA table_info(series)")}
    for level, there in ((Level.SERIES, series), (Level.IMAGE, set(attributes))):
        for attribute in attributes_of(level):
            needed = {*columns(attribute), *(f"c{tag}" for tag in [PAIRED.get(attribute.tag)] if tag)}
            if needed <= there:
                create_index(connection, attribute)


def reclaim(connection: sqlite3.Connection) -> None:
    """Give the room of what was rewritten back to the disk, when it is worth it; outside of transactions."""
    free, pages, page_size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count", "page_size")
    )
    if free * page_size < _RECLAIMED_BYTES or free * 2 < pages:
        return
    log.info("shrinking the index file: bytes=%d unused=%d", pages * page_size, free * page_size)
    try:
        # The copy is as large as what is left: not for memory.
        connection.execute("PRAGMA temp_store = FILE")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        # No room for the copy, or another process reads: what is stored next takes the unused pages.
        log.warning("the index file keeps its size: %s", error)


def _rows(connection: sqlite3.Connection, attributes: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    names = [name for name in _OWN if name != "blob_hash"]
    listed = ", ".join(f"i.{name}" for name in (*names, "transfer_syntax_uid", *attributes))
    keys = [*names, "transfer_syntax_uid", *attributes, "metadata", "layout", "study_uid", "series_uid"]
    last = 0
    while True:
        found = connection.execute(
            f"SELECT {listed}, x.metadata, x.layout, s.c0020000D, e.c0020000E FROM instances i"
            " LEFT JOIN contents x ON x.id = i.id LEFT JOIN series e ON e.id = i.series_id"
            " LEFT JOIN studies s ON s.id = i.study_id WHERE i.id > ? ORDER BY i.id LIMIT ?",
            (last, _BATCH),
        ).fetchall()
        if not found:
            return
        last = found[-1][0]
        yield [dict(zip(keys, row, strict=True)) for row in found]


def _packed(packer: Packer, row: dict[str, Any]) -> tuple[tuple[Any, ...], Contents]:
    """The new row of an instance, and its contents."""
    if row["metadata"] is None or row["study_uid"] is None or row["series_uid"] is None:
        raise Corrupt("the index is damaged: an instance has no contents, series or study (pacs reindex makes it anew)")
    target = Target(row["study_uid"], row["series_uid"], row["c00080018"])
    contents = packer.pack(row["series_id"], Contents(row["fragment"], row["rest"], row["metadata"], row["layout"]))
    key = row["blob_key"]
    row.update(
        fragment=contents.fragment,
        rest=contents.rest,
        sop_class_uid=None if row["sop_class_uid"] == row["c00080016"] else row["sop_class_uid"],
        blob_key=stored_key(key, target),
        digest=stored_digest(row["digest"]),
        received_at=stored_time(datetime.fromisoformat(row["received_at"])),
        c00083002=row["transfer_syntax_uid"],
    )
    values = {**row, "blob_hash": key_hash(key)}
    attributes = [name for name in row if name.startswith("c0")]
    return tuple(values[name] for name in (*_OWN, *attributes)), contents
