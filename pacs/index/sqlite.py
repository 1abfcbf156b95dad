"""The embedded index engine: one SQLite file in WAL mode, one writer that groups commits, readers in parallel."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import orjson

from pacs.dicom.layout import Layout
from pacs.dicom.matching import Matcher, TagPath
from pacs.dicom.model import EVERYTHING, BlobRef, InstanceRecord, Scope, StoredInstance, Target
from pacs.errors import NotFound, OutOfResources
from pacs.index import (
    sqlite_added,
    sqlite_deleted,
    sqlite_listing,
    sqlite_parts,
    sqlite_search,
    sqlite_usage,
    sqlite_work,
    sqlite_write,
)
from pacs.index.base import (
    AddedIndex,
    Counts,
    Deletion,
    Discarded,
    Held,
    InstanceMetadata,
    Page,
    PutResult,
    Query,
    UsagePage,
    nothing,
)
from pacs.index.rows import LevelRows, prepare
from pacs.index.sqlite_append import Appending
from pacs.index.sqlite_conditions import Slots, install
from pacs.index.sqlite_packing import pack, reclaim
from pacs.index.sqlite_rows import INSTANCE_COLUMNS, earlier_version, loaded_time, stored_instance
from pacs.index.sqlite_schema import migrate
from pacs.index.sqlite_scope import on_one
from pacs.index.sqlite_turn import Turn
from pacs.index.sqlite_work import SqliteWork
from pacs.index.sqlite_writer import Writer, translated
from pacs.index.work import NewJob

_METADATA_PAGE = 100
_STORED_PAGE = 1000
_HELD = (
    f"SELECT x.metadata, x.layout, {INSTANCE_COLUMNS} FROM studies s JOIN series e ON e.study_id = s.id"
    " JOIN instances i ON i.series_id = e.id JOIN contents x ON x.id = i.id"
    " WHERE s.c0020000D = ? AND e.c0020000E = ? AND i.c00080018 = ?"
)
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "cache_size = -32000",
    "temp_store = MEMORY",
    "journal_size_limit = 67108864",
    # By the writer, in its turn, and by nobody beside it: before SQLite 3.51.3 a checkpoint that meets another
    # connection's commit may lose what that wrote (sqlite.org/wal.html, "The WAL-Reset Bug").
    "wal_autocheckpoint = 4000",
)


class SqliteIndex:
    """``pacs.index.base.Index`` on one file. Safe to call from any thread; other processes may open the file too.

    write_timeout_s: how long a call waits for the writer. busy_timeout_s: how long for another process's lock.
    Raises Corrupt when the file is no index, or one of a newer version; OutOfResources when it cannot be opened.
    """

    def __init__(self, path: Path, *, write_timeout_s: float = 60.0, busy_timeout_s: float = 10.0) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._readers: list[_Reader] = []
        self._lock = threading.Lock()  # guards the list of idle readers
        self._is_closed = False
        self._made = LevelRows()
        self._appending = Appending()
        with _translating():
            # Processes that start together wait until the first has migrated the file, however long that takes.
            with closing(Turn(path)) as turn, turn, closing(self._connect()) as connection:
                # Some builds overwrite what is deleted: tables that go as a whole would be written once more.
                connection.execute("PRAGMA secure_delete = FAST")
                steps = {
                    5: pack,
                    6: sqlite_work.create,
                    7: sqlite_parts.create,
                    8: sqlite_listing.create,
                    9: sqlite_deleted.create_trash,
                }
                if migrate(connection, more=steps, backfill=sqlite_write.backfill):
                    reclaim(connection)
                sqlite_work.add_cause(connection)
            self._writer = Writer(self._connect, write_timeout_s, Turn(path), sqlite_listing.settle)
        self.work = SqliteWork(self._writer, self._connection)

    def check(self) -> None:
        return

    def load(self) -> int:
        return self._writer.load()

    def size_bytes(self) -> int | None:
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def put(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        durable: Callable[[], None] = nothing,
        jobs: Sequence[Sequence[NewJob]] = (),
        announce: bool = True,
    ) -> list[PutResult]:
        prepared = [prepare(record, self._made) for record in records]
        return self._writer.run(
            lambda connection: sqlite_write.put_all(
                connection, self._appending, prepared, replace=replace, jobs=jobs, announce=announce
            ),
            before_commit=durable,
        )

    def search(self, query: Query) -> Page:
        with self._reading() as reader:
            return sqlite_search.search(reader.connection, reader.slots, query)

    def select(
        self, keys: Mapping[TagPath, Matcher], within: Target | None = None, *, scope: Scope = EVERYTHING
    ) -> list[StoredInstance]:
        with self._reading() as reader:
            return sqlite_search.select(reader.connection, reader.slots, keys, within, scope)

    def locate(self, target: Target, *, scope: Scope = EVERYTHING) -> list[StoredInstance]:
        return self.select({}, target, scope=scope)

    def labels_of(self, study_uids: Sequence[str], *, scope: Scope = EVERYTHING) -> dict[str, list[str]]:
        with self._reading() as reader:
            return sqlite_search.labels_of(reader.connection, study_uids, scope)

    def label_counts(self, *, scope: Scope = EVERYTHING) -> dict[str, int]:
        with self._reading() as reader:
            return sqlite_search.label_counts(reader.connection, scope)

    def last_arrival(self, study_uid: str) -> datetime | None:
        with self._reading() as reader:
            (found,) = reader.connection.execute(
                "SELECT MAX(received_at) FROM instances WHERE study_id = (SELECT id FROM studies WHERE c0020000D = ?)",
                (study_uid,),
            ).fetchone()
        return None if found is None else loaded_time(found)

    def metadata(self, target: Target, *, scope: Scope = EVERYTHING) -> Iterator[InstanceMetadata]:
        with self._reading() as reader:
            ids = sqlite_search.instance_ids(reader.connection, reader.slots, target, scope)
        for begin in range(0, len(ids), _METADATA_PAGE):
            page = ids[begin : begin + _METADATA_PAGE]
            with self._reading() as reader:
                # What was removed since the ids were read is left out.
                found = reader.connection.execute(
                    "SELECT x.metadata, s.c0020000D, e.c0020000E, i.c00080018 FROM json_each(?) j"
                    " JOIN instances i ON i.id = j.value JOIN contents x ON x.id = i.id"
                    " JOIN series e ON e.id = i.series_id"
                    " JOIN studies s ON s.id = i.study_id ORDER BY j.key",
                    (orjson.dumps(page).decode(),),
                ).fetchall()
                contents = [reader.slots.contents.read(row[0]) for row in found]
            for metadata, row in zip(contents, found, strict=True):
                yield InstanceMetadata(Target(*row[1:4]), metadata)

    def held(self, target: Target, *, scope: Scope = EVERYTHING) -> Held | None:
        uids = (target.study_uid, target.series_uid, target.sop_uid)
        condition, values = on_one(scope)
        with self._reading() as reader:
            found = reader.connection.execute(f"{_HELD} AND {condition}", (*uids, *values)).fetchone()
            if found is None:
                return None
            metadata, layout = map(reader.slots.contents.read, found[:2])
        return Held(stored_instance(found[2:]), Layout.from_bytes(layout), metadata)

    def layout(self, target: Target) -> Layout:
        with self._reading() as reader:
            found = reader.connection.execute(
                "SELECT x.layout FROM instances i JOIN series e ON e.id = i.series_id"
                " JOIN studies s ON s.id = i.study_id JOIN contents x ON x.id = i.id"
                " WHERE s.c0020000D = ? AND e.c0020000E = ? AND i.c00080018 = ?",
                (target.study_uid, target.series_uid, target.sop_uid),
            ).fetchone()
            if found is None:
                raise NotFound("there is no such instance")
            layout = reader.slots.contents.read(found[0])
        return Layout.from_bytes(layout)

    def remove(self, targets: Sequence[Target]) -> list[BlobRef]:
        wanted = list(targets)
        return self._writer.run(lambda connection: sqlite_write.remove_all(connection, wanted))

    def delete(
        self, target: Target, at: datetime, jobs: Sequence[NewJob] = (), note: bytes | None = None
    ) -> list[StoredInstance]:
        return self._writer.run(lambda connection: sqlite_deleted.delete(connection, target, at, jobs, note))

    def deletions(self, before: str | None, limit: int) -> list[Deletion]:
        with self._reading() as reader:
            return sqlite_deleted.deletions(reader.connection, before, limit)

    def deleted(self, target: Target) -> list[Discarded]:
        with self._reading() as reader:
            return sqlite_deleted.deleted(reader.connection, target)

    def restore(
        self, records: Sequence[InstanceRecord], jobs: Sequence[Sequence[NewJob]] = ()
    ) -> list[PutResult | None]:
        prepared = [prepare(record, self._made) for record in records]
        return self._writer.run(lambda connection: sqlite_deleted.restore(connection, self._appending, prepared, jobs))

    def doom(self, keys: Collection[str]) -> set[str]:
        wanted = list(keys)
        return self._writer.run(lambda connection: sqlite_deleted.doom(connection, wanted))

    def versions(self, target: Target) -> list[StoredInstance]:
        with self._reading() as reader:
            return sqlite_deleted.versions(reader.connection, target)

    def is_deleted(self, target: Target) -> bool:
        with self._reading() as reader:
            return sqlite_deleted.is_deleted(reader.connection, target)

    def discarded(self, until: datetime) -> Iterator[Discarded]:
        for is_deleted in (True, False):
            last = 0
            while True:
                with self._reading() as reader:
                    last, page = sqlite_deleted.page(reader.connection, until, last, is_deleted=is_deleted)
                if not page:
                    break
                yield from page

    def forget(self, keys: Collection[str]) -> None:
        gone = list(keys)
        self._writer.run(lambda connection: sqlite_deleted.forget(connection, gone))

    def bury(self, versions: Sequence[Discarded]) -> None:
        noted = list(versions)
        self._writer.run(lambda connection: sqlite_deleted.bury(connection, noted))

    def stored(self) -> Iterator[StoredInstance]:
        current = (
            f"SELECT i.id, {INSTANCE_COLUMNS} FROM instances i JOIN series e ON e.id = i.series_id"
            " JOIN studies s ON s.id = i.study_id WHERE i.id > ? ORDER BY i.id LIMIT ?"
        )
        superseded = (
            "SELECT id, study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, blob_key, size_bytes,"
            " digest, data_set_offset FROM superseded WHERE id > ? ORDER BY id LIMIT ?"
        )
        for sql, version_of in ((current, stored_instance), (superseded, earlier_version)):
            last = 0
            while True:
                with self._reading() as reader:
                    found = reader.connection.execute(sql, (last, _STORED_PAGE)).fetchall()
                if not found:
                    break
                last = found[-1][0]
                yield from (version_of(row[1:]) for row in found)

    def holds_key(self, key: str) -> bool:
        with self._reading() as reader:
            return sqlite_write.holds_key(reader.connection, key)

    def held_keys(self, keys: Sequence[str]) -> set[str]:
        with self._reading() as reader:
            return {key for key in keys if sqlite_write.holds_key(reader.connection, key)}

    def counts(self) -> Counts:
        with self._reading() as reader:
            patients, series, instances = reader.connection.execute(
                "SELECT COUNT(*), COALESCE(SUM(c00201202), 0), COALESCE(SUM(c00201204), 0) FROM patients"
            ).fetchone()
            studies = reader.connection.execute("SELECT COUNT(*) FROM studies").fetchone()[0]
            size_bytes = reader.connection.execute("SELECT size_bytes FROM archive").fetchone()[0]
        return Counts(patients, studies, series, instances, size_bytes)

    def usage(self, after: str = "", studies: int = 200) -> UsagePage:
        with self._reading() as reader:
            return sqlite_usage.page(reader.connection, after, studies)

    def add_index(self, path: TagPath) -> None:
        self._writer.run(lambda connection: sqlite_added.add(connection, path))

    def fill_index(self, path: TagPath) -> bool:
        return self._writer.run(lambda connection: sqlite_added.fill(connection, path))

    def drop_index(self, path: TagPath) -> None:
        self._writer.run(lambda connection: sqlite_added.drop(connection, path))
        while self._writer.run(sqlite_added.sweep):
            pass

    def added_indexes(self) -> list[AddedIndex]:
        with self._reading() as reader:
            return sqlite_added.listed(reader.connection)

    def setting(self, name: str) -> str | None:
        with self._reading() as reader:
            return sqlite_write.setting(reader.connection, name)

    def remember(self, name: str, value: str, instead_of: str | None = None) -> str:
        return self._writer.run(lambda connection: sqlite_write.remember(connection, name, value, instead_of))

    def clear(self) -> None:
        self._writer.run(sqlite_write.clear)

    def close(self) -> None:
        self._writer.close()
        with self._lock:
            self._is_closed = True
            idle, self._readers = self._readers, []
        for reader in idle:
            reader.connection.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as reader:
            yield reader.connection

    @contextmanager
    def _reading(self) -> Iterator[_Reader]:
        """A connection of its own for the length of one read, inside one snapshot."""
        with _translating():
            reader = self._reader()
            try:
                reader.connection.execute("BEGIN")
                yield reader
            finally:
                reader.slots.clear()
                if reader.connection.in_transaction:
                    reader.connection.execute("ROLLBACK")
                self._give_back(reader)

    def _reader(self) -> _Reader:
        with self._lock:
            if self._is_closed:
                raise OutOfResources("the index is closed")
            if self._readers:
                return self._readers.pop()
        connection = self._connect()
        return _Reader(connection, install(connection))

    def _give_back(self, reader: _Reader) -> None:
        with self._lock:
            if not self._is_closed:
                self._readers.append(reader)
                return
        reader.connection.close()

    def _connect(self) -> sqlite3.Connection:
        # Handed from thread to thread, never used by two at once.
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection


class _Reader(NamedTuple):
    connection: sqlite3.Connection
    slots: Slots


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error) from error
