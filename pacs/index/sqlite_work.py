"""Jobs and records in the SQLite index; the change feed is in ``sqlite_changes``."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from pacs.index import sqlite_changes
from pacs.index.sqlite_writer import Writer
from pacs.index.work import Change, ChangeKind, Job, JobEnd, JobState, NewJob, Record, RecordWrite, job_id

Reading = Callable[[], AbstractContextManager[sqlite3.Connection]]

# due: of a running job, when its lease ends. next_due: when it is to run again, if it was asked for while it ran.
TABLES = (
    "CREATE TABLE jobs (id TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, grp TEXT NOT NULL,"
    " payload BLOB NOT NULL, state INTEGER NOT NULL, due REAL NOT NULL, next_due REAL NOT NULL, latest REAL,"
    " created REAL NOT NULL, attempts INTEGER NOT NULL, revision INTEGER NOT NULL, claim TEXT NOT NULL,"
    " error TEXT NOT NULL, cause TEXT NOT NULL DEFAULT '') WITHOUT ROWID",
    "CREATE INDEX jobs_due ON jobs (kind, due, grp) WHERE state < 2",
    "CREATE INDEX jobs_group ON jobs (kind, grp, due) WHERE state < 2",
    "CREATE INDEX jobs_key ON jobs (key)",
    "CREATE TABLE records (kind TEXT NOT NULL, key TEXT NOT NULL, content BLOB NOT NULL, version INTEGER NOT NULL,"
    " label TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
    "CREATE INDEX record_labels ON records (kind, label, key)",
)
_COLUMNS = "kind, key, grp, payload, state, due, created, attempts, revision, claim, error, cause"
_PUT_OFF = "MIN(MAX(due, excluded.due), COALESCE(latest, 1e12))"
_UPSERT = (
    "INSERT INTO jobs (id, kind, key, grp, payload, state, due, next_due, latest, created, attempts, revision, claim,"
    " error, cause) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6, ?7, ?8, 0, 1, '', '', ?9) ON CONFLICT (id) DO UPDATE SET"
    " grp = excluded.grp, payload = excluded.payload, cause = excluded.cause, revision = revision + (state = 1),"
    # A job that waits for another attempt waits on: it has failed, and asking again does not mend that.
    f" due = CASE WHEN state = 2 THEN excluded.due WHEN state = 0 AND attempts = 0 THEN {_PUT_OFF} ELSE due END,"
    " next_due = excluded.due,"
    " latest = CASE WHEN state = 0 THEN latest ELSE excluded.latest END,"
    " attempts = CASE WHEN state = 2 THEN 0 ELSE attempts END,"
    " created = CASE WHEN state = 2 THEN excluded.created ELSE created END,"
    " state = CASE WHEN state = 2 THEN 0 ELSE state END"
    # A thousand instances of a study ask for the same: nothing is written for those that change nothing.
    f" WHERE state != 0 OR attempts = 0 AND due != {_PUT_OFF} OR grp != excluded.grp OR payload != excluded.payload"
)


class SqliteWork:
    """``pacs.index.work.Work``. reading: a connection for the length of one read."""

    def __init__(self, writer: Writer, reading: Reading) -> None:
        self._writer = writer
        self._reading = reading

    def add_jobs(self, jobs: Sequence[NewJob]) -> None:
        self._writer.run(lambda connection: add_jobs(connection, jobs))

    def next_due(self, kinds: Sequence[str]) -> dict[str, datetime]:
        sql = "SELECT MIN(due) FROM jobs WHERE kind = ? AND state < 2"
        with self._reading() as connection:
            found = [(kind, connection.execute(sql, (kind,)).fetchone()[0]) for kind in kinds]
        return {kind: _aware(due) for kind, due in found if due is not None}

    def claim_jobs(self, kind: str, now: datetime, until: datetime, limit: int) -> list[Job]:
        return self._writer.run(lambda connection: _claim(connection, kind, now, until, limit))

    def extend_claims(self, jobs: Sequence[Job], until: datetime) -> None:
        held = [(until.timestamp(), job.job_id, job.claim) for job in jobs]
        sql = "UPDATE jobs SET due = ? WHERE id = ? AND claim = ? AND state = 1"
        self._writer.run(lambda connection: connection.executemany(sql, held))

    def end_jobs(self, ends: Sequence[JobEnd]) -> None:
        def write(connection: sqlite3.Connection) -> None:
            for end in ends:
                _end(connection, end)

        self._writer.run(write)

    def postpone_jobs(self, kind: str, group: str, until: datetime) -> None:
        sql = "UPDATE jobs SET due = ?1 WHERE kind = ?2 AND grp = ?3 AND state = 0 AND due < ?1"
        self._writer.run(lambda connection: connection.execute(sql, (until.timestamp(), kind, group)))

    def jobs(
        self,
        *,
        kind: str | None = None,
        state: JobState | None = None,
        job_id: str | None = None,
        key_prefix: str = "",
        after: str = "",
        limit: int = 100,
    ) -> list[Job]:
        where, values = ["id > ?"], [after]
        for condition, value in (("kind = ?", kind), ("state = ?", state), ("id = ?", job_id)):
            if value is not None:
                where.append(condition)
                values.append(value)  # type: ignore[arg-type]  # a state is a number
        if key_prefix:
            where.append("key >= ? AND key < ?")
            values += [key_prefix, f"{key_prefix}\U0010ffff"]
        sql = f"SELECT {_COLUMNS} FROM jobs WHERE {' AND '.join(where)} ORDER BY id LIMIT ?"
        with self._reading() as connection:
            return [_job(row) for row in connection.execute(sql, (*values, limit))]

    def count_jobs(self) -> dict[tuple[str, JobState], int]:
        with self._reading() as connection:
            found = connection.execute("SELECT kind, state, COUNT(*) FROM jobs GROUP BY kind, state").fetchall()
        return {(kind, JobState(state)): number for kind, state, number in found}

    def retry_jobs(self, job_ids: Sequence[str], now: datetime) -> int:
        sql = "UPDATE jobs SET state = 0, due = ?, attempts = 0, created = ? WHERE id = ? AND state != 1"
        return self._each(sql, [(now.timestamp(), now.timestamp(), one) for one in job_ids])

    def discard_jobs(self, job_ids: Sequence[str]) -> int:
        return self._each("DELETE FROM jobs WHERE id = ? AND state != 1", [(one,) for one in job_ids])

    def changes(self, after: int, limit: int) -> list[Change]:
        with self._reading() as connection:
            return sqlite_changes.page(connection, after, limit)

    def change_span(self) -> tuple[int, int]:
        with self._reading() as connection:
            return sqlite_changes.span(connection)

    def count_changes(self, after: int, until: int) -> dict[tuple[datetime, ChangeKind], int]:
        with self._reading() as connection:
            return sqlite_changes.count(connection, after, until)

    def forget_changes(self, until: datetime) -> int:
        forgotten = 0
        while found := self._writer.run(lambda connection: sqlite_changes.forget(connection, until)):
            forgotten += found
        return forgotten

    def record(self, kind: str, key: str) -> Record | None:
        with self._reading() as connection:
            return _record(connection, kind, key)

    def records(
        self, kind: str, *, labels: tuple[str, str] | None = None, after: str = "", limit: int = 1000
    ) -> list[Record]:
        # By itself it would go through all records of the kind, because those are in the order of keys already.
        by_label = " INDEXED BY record_labels" if labels is not None else ""
        sql = f"SELECT kind, key, content, version, label FROM records{by_label} WHERE kind = ? AND key > ?"
        values: tuple[Any, ...] = (kind, after)
        if labels is not None:
            sql, values = f"{sql} AND label BETWEEN ? AND ?", (*values, *labels)
        with self._reading() as connection:
            return [Record(*row) for row in connection.execute(f"{sql} ORDER BY key LIMIT ?", (*values, limit))]

    def write_records(self, writes: Sequence[RecordWrite], jobs: Sequence[NewJob] = ()) -> bool:
        return self._writer.run(lambda connection: write_records(connection, writes, jobs))

    def _each(self, sql: str, values: Iterable[tuple[Any, ...]]) -> int:
        listed = list(values)
        return self._writer.run(lambda connection: connection.executemany(sql, listed).rowcount) if listed else 0


def create(connection: sqlite3.Connection) -> None:
    """Version 6 of the schema: jobs, changes and records."""
    for statement in (*TABLES, *sqlite_changes.TABLES):
        connection.execute(statement)


def add_cause(connection: sqlite3.Connection) -> None:
    """To a table that is older than the column. An older program does not mind it, so it is no version of its own."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}
    if "cause" not in columns:
        connection.execute("ALTER TABLE jobs ADD COLUMN cause TEXT NOT NULL DEFAULT ''")


def add_jobs(connection: sqlite3.Connection, jobs: Sequence[NewJob]) -> None:
    """Within the transaction of what they follow."""
    now = datetime.now(UTC).timestamp()
    for job in jobs:
        latest = job.latest.timestamp() if job.latest else None
        due = job.due.timestamp() if job.due else now
        connection.execute(
            _UPSERT, (job_id(job.kind, job.key), job.kind, job.key, job.group, job.payload, due, latest, now, job.cause)
        )


def _claim(connection: sqlite3.Connection, kind: str, now: datetime, until: datetime, limit: int) -> list[Job]:
    due = "kind = ? AND state < 2 AND due <= ?"
    first = connection.execute(
        f"SELECT grp FROM jobs WHERE {due} ORDER BY due LIMIT 1", (kind, now.timestamp())
    ).fetchone()
    if first is None:
        return []
    claim = secrets.token_hex(8)
    found = connection.execute(
        f"UPDATE jobs SET state = 1, due = ?, claim = ?, attempts = attempts + 1 WHERE id IN"
        f" (SELECT id FROM jobs WHERE {due} AND grp = ? ORDER BY due, id LIMIT ?) RETURNING {_COLUMNS}",
        (until.timestamp(), claim, kind, now.timestamp(), first[0], limit),
    )
    return sorted((_job(row) for row in found), key=lambda job: (job.created_at, job.key))


def _end(connection: sqlite3.Connection, end: JobEnd) -> None:
    key = (end.job.job_id, end.job.claim)
    mine = "id = ? AND claim = ? AND state = 1"
    if end.retry_at is None and not end.error:
        # Asked for again while it ran: it has to see what came since.
        if not connection.execute(f"DELETE FROM jobs WHERE {mine} AND revision = ?", (*key, end.job.revision)).rowcount:
            connection.execute(
                f"UPDATE jobs SET state = 0, due = next_due, attempts = 0, claim = '', error = '' WHERE {mine}", key
            )
    elif end.retry_at is not None:
        connection.execute(
            f"UPDATE jobs SET state = 0, due = ?, claim = '', error = ? WHERE {mine}",
            (end.retry_at.timestamp(), end.error, *key),
        )
    else:
        connection.execute(f"UPDATE jobs SET state = 2, claim = '', error = ? WHERE {mine}", (end.error, *key))


def write_records(connection: sqlite3.Connection, writes: Sequence[RecordWrite], jobs: Sequence[NewJob] = ()) -> bool:
    versions = []
    for write in writes:
        there = _record(connection, write.kind, write.key)
        versions.append(there.version if there else 0)
        if write.expected not in (None, versions[-1]):
            return False
    for write, version in zip(writes, versions, strict=True):
        if write.content is None:
            connection.execute("DELETE FROM records WHERE kind = ? AND key = ?", (write.kind, write.key))
        else:
            connection.execute(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)",
                (write.kind, write.key, write.content, version + 1, write.label),
            )
    add_jobs(connection, jobs)
    return True


def _record(connection: sqlite3.Connection, kind: str, key: str) -> Record | None:
    sql = "SELECT kind, key, content, version, label FROM records WHERE kind = ? AND key = ?"
    found = connection.execute(sql, (kind, key)).fetchone()
    return Record(*found) if found else None


def _job(row: Sequence[Any]) -> Job:
    kind, key, group, payload, state, due, created, attempts, revision, claim, error, cause = row
    return Job(
        kind,
        key,
        group,
        payload,
        JobState(state),
        _aware(due),
        _aware(created),
        attempts,
        revision,
        claim,
        error,
        cause,
    )


def _aware(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
