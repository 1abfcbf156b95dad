"""Transactions of the Mongo index: run again when nodes get in each other's way, and when a primary steps down.

What several threads of a process ask for at the same time goes into one transaction; transactions of several processes
run side by side, and meet only where they change the same patient or study.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from pacs.errors import Corrupt, OutOfResources, PacsError, Uncertain
from pacs.index.base import PutResult
from pacs.index.mongo_abandoned import Abandoned
from pacs.index.mongo_documents import Document
from pacs.index.mongo_outage import Outage
from pacs.index.mongo_recent import Recent, Stale
from pacs.index.mongo_tables import Tables
from pacs.index.mongo_unit import Order, Unit
from pacs.index.mongo_write import PutOptions, put_all
from pacs.index.rows import Prepared
from pacs.index.work import NewJob

log = logging.getLogger(__name__)
T = TypeVar("T")

_GROUP = 128  # records that several calls may share a transaction with
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.25
_LONG_S = 1.0  # conflicts between nodes that are at work are over sooner
_TRANSIENT, _UNKNOWN = "TransientTransactionError", "UnknownTransactionCommitResult"
_DUPLICATE_KEY = 11000


class Writer:
    """Runs functions in transactions. timeout_s: how long one may take, with all that it is run again for.

    One thread, begun by the first ``put``, puts what all threads of the process ask for.
    """

    def __init__(
        self, client: MongoClient[Document], tables: Callable[[], Tables], outage: Outage, timeout_s: float
    ) -> None:
        self._client = client
        self._tables = tables
        self._outage = outage
        self.timeout_s = timeout_s
        self._abandoned = Abandoned(client)
        self._order = Order()
        self._recent = Recent()
        self._waiting: SimpleQueue[_Put | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards closing against new calls
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def put(
        self, items: Sequence[Prepared], options: PutOptions, jobs: Sequence[Sequence[NewJob]] = ()
    ) -> list[PutResult]:
        """See ``Index.put``."""
        own = _Put(items, options, jobs or [()] * len(items))
        with self._lock:
            if self._is_closed:
                raise OutOfResources("the index is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="index-writer", daemon=True)
                self._thread.start()
            self._waiting.put(own)
        own.done.wait()
        if own.error is not None:
            raise own.error
        return own.results

    def load(self) -> int:
        """How many wait."""
        return self._waiting.qsize()

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._lock:
            self._is_closed = True
            self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    def run(self, function: Callable[[Unit], T], *, by_memory: bool = False) -> T:
        """The function's value, once it is committed with majority and in the journal; it may run several times.

        by_memory: first by what this process knows from its last transactions. Raises what the function raised (then
        nothing is kept), OutOfResources, or Uncertain when nobody said whether the commit took effect.
        """
        begin = time.monotonic()
        deadline = begin + self.timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            self._outage.check()
            try:
                return self._attempt(function, deadline, self._recent if by_memory else None)
            except PyMongoError as error:
                self._outage.note(error)
                if by_memory and _is_duplicate(error):
                    by_memory = False
                    continue
                if not _is_worth_another_try(error) or time.monotonic() > deadline:
                    raise translated(error, "written") from error
                by_memory = False
                log.debug("transaction runs again reason=%s", type(error).__name__)
            except Stale as error:
                if not by_memory:
                    raise Corrupt("documents of the index contradict one another") from error
                by_memory = False
                continue
            if time.monotonic() - begin > _LONG_S:
                self._abandoned.end()
            # At random, so that two that met do not meet again.
            time.sleep(pause_s * (0.5 + random.random()))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _attempt(self, function: Callable[[Unit], T], deadline: float, recent: Recent | None) -> T:
        with self._client.start_session() as session:
            session.start_transaction(
                read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority", j=True)
            )
            unit = Unit(self._tables(), session, self._order, recent)
            try:
                value = function(unit)
                unit.flush()
                _commit(session, deadline)
            except BaseException:
                self._recent.forget(unit.documents())
                if session.in_transaction:
                    with suppress(PyMongoError):
                        session.abort_transaction()
                raise
            self._recent.learn(unit.documents())
            self._recent.added = unit.added
            return value

    def _serve(self) -> None:
        """Put what waits; all that came during one transaction goes into the next."""
        following = self._waiting.get()
        while following is not None:
            group, size = [following], len(following.items)
            while size < _GROUP:
                try:
                    following = self._waiting.get_nowait()
                except Empty:
                    following = _MORE
                    break
                if following is None or following.options != group[0].options:
                    break
                group.append(following)
                size += len(following.items)
            else:
                following = _MORE
            self._run_group(group)
            if following is _MORE:
                following = self._waiting.get()

    def _run_group(self, group: list[_Put]) -> None:
        items = [item for one in group for item in one.items]
        jobs = [following for one in group for following in one.jobs]
        options = group[0].options
        try:
            results = iter(self.run(lambda unit: put_all(unit, items, options, jobs), by_memory=True))
        except Exception as error:  # noqa: BLE001 - raised again in the thread that asked
            # A server that is away stays so for the next one, and what may have been committed must not be again.
            if len(group) == 1 or isinstance(error, PacsError):
                for one in group:
                    one.finish(error)
                return
            # One by one, so that whoever spoiled the transaction spoils only its own.
            for one in group:
                self._run_group([one])
            return
        for one in group:
            one.results = [next(results) for _ in one.items]
            one.finish(None)


class _Put:
    """One call's records."""

    def __init__(self, items: Sequence[Prepared], options: PutOptions, jobs: Sequence[Sequence[NewJob]]) -> None:
        self.items = items
        self.options = options
        self.jobs = jobs
        self.results: list[PutResult] = []
        self.error: Exception | None = None
        self.done = threading.Event()

    def finish(self, error: Exception | None) -> None:
        self.error = error
        self.done.set()


# None ends the writer.
_MORE = _Put((), PutOptions(), ())


def _commit(session: ClientSession, deadline: float) -> None:
    """Commit; asked again, the server tells how the same commit ended."""
    while True:
        try:
            session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label(_UNKNOWN):
                raise
            if time.monotonic() > deadline:
                # Or it would hold what it has locked for as long as a transaction may live.
                with suppress(PyMongoError):
                    session.client.admin.command("killSessions", [session.session_id])
                raise Uncertain("the index went away while it committed: it is not known what it has taken") from error
            time.sleep(0.05)
        else:
            return


def _is_worth_another_try(error: PyMongoError) -> bool:
    # Twice the same key: another node stored the same entity a moment before.
    return error.has_error_label(_TRANSIENT) or _is_duplicate(error)


def _is_duplicate(error: PyMongoError) -> bool:
    if isinstance(error, BulkWriteError):
        return any(one.get("code") == _DUPLICATE_KEY for one in (error.details or {}).get("writeErrors", ()))
    return isinstance(error, DuplicateKeyError)


def translated(error: PyMongoError, done: str) -> OutOfResources:
    """MongoDB's errors in the archive's kinds."""
    name = type(error).__name__
    log.warning("MongoDB failed: %s", error)
    return OutOfResources(f"the index cannot be {done} ({name})")
