"""The one thread of a process that writes to the SQLite index.

Calls that arrive while it commits, or while another process has its turn, share the next commit.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from pacs.errors import Corrupt, OutOfResources, PacsError
from pacs.index.sqlite_turn import Turn

log = logging.getLogger(__name__)
T = TypeVar("T")

_GROUP = 64


class Writer:
    """Runs functions in transactions, each in a savepoint of its own; callers are answered after COMMIT.

    connect: opens a connection. timeout_s: how long a caller waits for the thread before it gives its work up. turn: to
    wait for while other processes write. settle: run once before each COMMIT, when all functions have run.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        timeout_s: float,
        turn: Turn,
        settle: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        self._connect = connect
        self._settle = settle
        self._turn = turn
        self._timeout_s = timeout_s
        self._connection: sqlite3.Connection | None = connect()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards states of jobs, and closing against new jobs
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="index-writer", daemon=True)
        self._thread.start()

    def run(self, function: Callable[[sqlite3.Connection], T], *, before_commit: Callable[[], None] | None = None) -> T:
        """The function's value, once it is committed. It may run again when a commit fails.

        before_commit: called by this thread while the writer's runs the function; there is no commit before it has
        returned. Raises what it or the function raised (then nothing of it is kept), OutOfResources or Corrupt.
        """
        job = _Job(function)
        with self._lock:
            if self._is_closed:
                raise OutOfResources("the index is closed")
            if before_commit is not None:
                job.may_commit = _Signal()
            self._jobs.put(job)
        if job.may_commit is not None and before_commit is not None:
            try:
                before_commit()
            except BaseException:
                with self._lock:
                    # The writer waits for the event, so that it cannot be further than this.
                    job.state = _State.ABANDONED
                raise
            finally:
                job.may_commit.set()
        self._wait(job)
        if job.error is not None:
            raise job.error
        return job.value  # type: ignore[no-any-return]  # what the function returned

    def load(self) -> int:
        """How many wait."""
        return self._jobs.qsize()

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._jobs.put(None)
        # Another process that was stopped within its turn must not keep this one from ending; nobody waits any more.
        self._thread.join(self._timeout_s)

    def _wait(self, job: _Job) -> None:
        waited_s = 0.0
        while not job.done.wait(min(1.0, self._timeout_s)):
            waited_s += min(1.0, self._timeout_s)
            if not self._thread.is_alive() and not job.is_finished:
                raise OutOfResources("the index's writer has stopped")
            if waited_s < self._timeout_s:
                continue
            with self._lock:
                if job.state in (_State.QUEUED, _State.RUNNING):
                    # The writer looks at this before it commits, so nobody finds a row whose file was given up.
                    job.state = _State.ABANDONED
                    raise OutOfResources("the index is too busy to write")
            # Whether a COMMIT under way takes effect is not known before it returns.
            log.error("index commit takes long waited_s=%.0f", waited_s)
            waited_s = 0.0

    def _serve(self) -> None:
        while (first := self._jobs.get()) is not None:
            with self._turn:
                jobs, is_last = self._take(first)
                try:
                    self._run_all(jobs)
                except BaseException as error:
                    log.exception("index writer failed")
                    self._reset()
                    for job in jobs:
                        job.finish(error=OutOfResources(f"the index could not be written: {type(error).__name__}"))
            if is_last:
                break
        if self._connection is not None:
            self._connection.close()
        self._turn.close()

    def _take(self, first: _Job) -> tuple[list[_Job], bool]:
        """It and what has come in since; whether that was the last."""
        jobs = [first]
        while len(jobs) < _GROUP:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _run_all(self, jobs: list[_Job]) -> None:
        error = self._commit(jobs)
        if error is None:
            return
        # One by one, so that whoever spoiled the commit spoils only its own.
        for job in jobs:
            again = error if len(jobs) == 1 or isinstance(error, _NotBegun) else self._commit([job])
            if again is not None:
                job.finish(error=translated(again))

    def _commit(self, jobs: list[_Job]) -> BaseException | None:
        """Run and answer the jobs; the error when the transaction as a whole failed, and nobody was answered."""
        try:
            connection = self._begin()
            is_alone = len(jobs) == 1
            is_undone = [self._run(connection, job, is_alone=is_alone) for job in jobs]
            if not (is_alone and is_undone[0]):
                self._settle(connection)
            for job in jobs:
                if job.may_commit is not None:
                    job.may_commit.wait()
            with self._lock:
                is_given_up = any(job.state is _State.ABANDONED and not job.is_skipped for job in jobs)
                for job in jobs if not is_given_up else ():
                    if job.state is _State.RUNNING:
                        job.state = _State.COMMITTING
            if is_given_up:
                raise _GivenUp
            if not (is_alone and is_undone[0]):
                connection.execute("COMMIT")
        except (sqlite3.Error, PacsError, _GivenUp, _NotBegun) as error:
            self._reset()
            for job in jobs:
                job.restart(self._lock)
            if not isinstance(error, _GivenUp):
                log.warning("index commit failed error=%s", error)
            return error
        for job in jobs:
            job.finish()
        return None

    def _run(self, connection: sqlite3.Connection, job: _Job, *, is_alone: bool) -> bool:
        """Run a job; whether that failed, and it was undone: of one that is alone, with the transaction."""
        with self._lock:
            job.is_skipped = job.state is _State.ABANDONED
            if job.is_skipped:
                return False
            job.state = _State.RUNNING
        if not is_alone:
            connection.execute("SAVEPOINT job")
        try:
            job.value = job.function(connection)
            job.error = None
        except Exception as error:
            if not connection.in_transaction:
                # SQLite gave the whole transaction up (a full disk, for example): the others' work went with it.
                raise sqlite3.OperationalError(f"transaction lost: {error}") from error
            connection.execute("ROLLBACK" if is_alone else "ROLLBACK TO job")
            job.error = translated(error)
        if not is_alone:
            connection.execute("RELEASE job")
        return job.error is not None

    def _begin(self) -> sqlite3.Connection:
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, PacsError) as error:
            raise _NotBegun from error
        return self._connection

    def _reset(self) -> None:
        """A connection that failed may hold half a transaction, or a file that is no longer there: take a new one."""
        if self._connection is not None:
            try:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self._connection.close()
            except sqlite3.Error:
                log.warning("index connection could not be closed")
            self._connection = None


def translated(error: BaseException) -> BaseException:
    """SQLite's errors in the archive's kinds; others as they are."""
    if isinstance(error, PacsError):
        return error
    if isinstance(error, _NotBegun) and error.__cause__ is not None:
        return translated(error.__cause__)
    if isinstance(error, _GivenUp):
        return OutOfResources("the index is too busy to write")
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(error, sqlite3.IntegrityError):
        made: PacsError = Corrupt(f"the index is damaged ({name})")
    else:
        made = OutOfResources(f"the index cannot be used ({name})")
    made.__cause__ = error
    return made


class _State(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    COMMITTING = "committing"
    ABANDONED = "abandoned"


class _GivenUp(Exception):
    """A caller stopped waiting; its work must not be committed."""


class _NotBegun(Exception):
    """No transaction could be opened (locked, read-only, gone): one more try for each job would only take longer."""


class _Signal:
    """Is set once, and may be waited for again and again: a ``threading.Event`` costs several times as much."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.set = self._lock.release

    def wait(self, timeout_s: float = -1) -> bool:
        """Whether it was set, within that time; -1: wait for as long as it takes."""
        is_set = self._lock.acquire(timeout=timeout_s)
        if is_set:
            self._lock.release()
        return is_set


class _Job:
    def __init__(self, function: Callable[[sqlite3.Connection], Any]) -> None:
        self.function = function
        self.state = _State.QUEUED
        self.is_skipped = False
        self.done = _Signal()
        self.is_finished = False
        self.may_commit: _Signal | None = None
        self.value: Any = None
        self.error: BaseException | None = None

    def finish(self, error: BaseException | None = None) -> None:
        if not self.is_finished:
            self.error = error or self.error
            self.is_finished = True
            self.done.set()

    def restart(self, lock: threading.Lock) -> None:
        with lock:
            if self.state is not _State.ABANDONED:
                self.state = _State.QUEUED
