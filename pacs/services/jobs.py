"""Runs jobs: follow-up work that was written in the transaction of what it follows from (``pacs.index.work``).

A job is run at least once, by whichever process claims it first. A failure is tried again, ever more seldom, until it
is too old; then it stays, given up, for somebody to see.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from pacs import correlation
from pacs.errors import PacsError
from pacs.index.work import Job, JobEnd, Work

log = logging.getLogger(__name__)

_LEASE_S = 30.0
_RENEW_S = 8.0
_POLL_S, _SHORTEST_PAUSE_S = 2.0, 0.05  # other processes add jobs too
_FLUSH_S = 1.0  # how long ends are gathered for one transaction
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 1800.0
_ERROR_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Ended:
    """How one job of a batch went. error: empty when it is done. is_final: trying again would not help.

    again_at: not done, and nothing wrong: it is to run again then. pause_s: trying again sooner would not help either.
    """

    job: Job
    error: str = ""
    is_final: bool = False
    again_at: datetime | None = None
    pause_s: float = 0.0


class Unavailable(Exception):
    """What a whole group of jobs needs is away: a peer, a server. ``str`` says what and why.

    pause_s: when it wants to be asked again itself, not sooner.
    """

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


@dataclass(frozen=True, slots=True)
class Handler:
    """Who does the jobs of one kind.

    run: does a batch of claimed jobs of one group, and yields how each ended, as soon as it is known; those that it
    does not speak of are tried again. None: still at it, and may be left here. May raise Unavailable, PacsError (those
    left are tried again), or anything else (likewise; it is logged). It may be left between two of its yields. batch:
    how many jobs it can take at once. threads: how many batches this process runs side by side.
    """

    kind: str
    run: Callable[[Sequence[Job]], Iterator[Ended | None]]
    batch: int = 1
    threads: int = 1


class JobRunner:
    """Runs jobs until it is stopped: one thread looks for them, others do them, begun when there is something to do.

    give_up_s: how long a job is tried, from when it was asked for.
    """

    def __init__(self, work: Work, handlers: Sequence[Handler], *, give_up_s: float = 7 * 86400.0) -> None:
        self._work = work
        self._give_up_s = give_up_s
        self._handlers = {handler.kind: handler for handler in handlers}
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self._free = {handler.kind: handler.threads for handler in handlers}
        self._threads: set[threading.Thread] = set()
        self._running: dict[str, Job] = {}

    def start(self) -> None:
        if self._handlers:
            self._begin("jobs", self._dispatch)
            self._begin("jobs-leases", self._renew)

    def stop(self, grace_s: float) -> None:
        """Begin no other batch; a batch under way is left between two of its jobs, or at the end of the grace.

        What has not ended then is done again by whoever claims it next.
        """
        self._stop.set()
        self.wake()
        deadline = time.monotonic() + grace_s
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def wake(self) -> None:
        """There may be jobs that are due: look now, not only at the next turn."""
        self._woken.set()

    def _begin(self, name: str, target: Callable[[], None]) -> None:
        def run() -> None:
            try:
                target()
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _dispatch(self) -> None:
        while not self._stop.is_set():
            self._woken.clear()
            pause_s = _POLL_S
            try:
                with self._lock:
                    kinds = [kind for kind, free in self._free.items() if free > 0]
                now = datetime.now(UTC)
                for kind, due in self._work.next_due(kinds).items():
                    due_in_s = (due - now).total_seconds()
                    pause_s = min(pause_s, max(due_in_s, _SHORTEST_PAUSE_S))
                    if due_in_s <= 0:
                        with self._lock:
                            self._free[kind] -= 1
                        self._begin(f"jobs-{kind}", partial(self._work_on, self._handlers[kind]))
            except PacsError as error:
                log.warning("jobs wait reason=%s", error)
            except Exception:  # the next look may be another matter
                log.exception("jobs cannot be looked for")
            self._woken.wait(pause_s)

    def _work_on(self, handler: Handler) -> None:
        """Do what is due of one kind."""
        try:
            while not self._stop.is_set() and self._run_batch(handler):
                pass
        except PacsError as error:
            log.warning("jobs wait kind=%s reason=%s", handler.kind, error)
            self._stop.wait(_POLL_S)
        except Exception:  # the next job may be another matter
            log.exception("jobs failed kind=%s", handler.kind)
            self._stop.wait(_POLL_S)
        finally:
            with self._lock:
                self._free[handler.kind] += 1
            self.wake()

    def _run_batch(self, handler: Handler) -> bool:
        """Whether there was anything to do."""
        now = datetime.now(UTC)
        jobs = self._work.claim_jobs(handler.kind, now, now + timedelta(seconds=_LEASE_S), handler.batch)
        if not jobs:
            return False
        with self._lock:
            self._running.update((job.job_id, job) for job in jobs)
        causes = {job.cause for job in jobs}
        if len(causes) > 1:
            log.info("jobs together kind=%s group=%s causes=%s", handler.kind, jobs[0].group, ",".join(sorted(causes)))
        # Lines about one job say what asked for it; those about several, done together, that they belong together.
        with correlation.caused_by(causes.pop() if len(causes) == 1 else correlation.new_id()):
            self._run_claimed(handler, jobs)
        return True

    def _run_claimed(self, handler: Handler, jobs: Sequence[Job]) -> None:
        now = datetime.now(UTC)
        left = {job.job_id: job for job in jobs}
        ends: list[JobEnd] = []
        reason, pause_s = "it was not done", 0.0
        flushed = time.monotonic()
        endings = handler.run(jobs)
        try:
            for ended in endings:
                if ended is not None:
                    left.pop(ended.job.job_id, None)
                    ends.append(self._end(ended))
                if time.monotonic() - flushed > _FLUSH_S:
                    self._note(ends)
                    ends, flushed = [], time.monotonic()
                if self._stop.is_set() and left:
                    ends += [JobEnd(job, "the server was stopped", now) for job in left.values()]
                    left.clear()
                    break
        except Unavailable as error:
            reason, pause_s = str(error), error.pause_s
            wait_s = max(_pause_s(min(job.attempts for job in jobs)), pause_s)
            until = datetime.now(UTC) + timedelta(seconds=wait_s)
            log.warning("jobs put off kind=%s group=%s reason=%s", handler.kind, jobs[0].group, reason)
            self._work.postpone_jobs(handler.kind, jobs[0].group, until)
        except PacsError as error:
            reason = str(error)
        except Exception as error:
            log.exception("jobs failed kind=%s group=%s", handler.kind, jobs[0].group)
            reason = f"internal error: {type(error).__name__}"
        finally:
            close = getattr(endings, "close", None)
            if close is not None:
                close()
            ends += [self._end(Ended(job, reason, pause_s=pause_s)) for job in left.values()]
            try:
                self._note(ends)
            finally:
                with self._lock:
                    for job in jobs:
                        self._running.pop(job.job_id, None)

    def _end(self, ended: Ended) -> JobEnd:
        with correlation.caused_by(ended.job.cause):
            return self._judged(ended)

    def _judged(self, ended: Ended) -> JobEnd:
        job, error = ended.job, ended.error[:_ERROR_LIMIT]
        if not error:
            return JobEnd(job, retry_at=ended.again_at)
        age_s = (datetime.now(UTC) - job.created_at).total_seconds()
        if ended.is_final or age_s > self._give_up_s:
            log.error("job given up kind=%s key=%s attempts=%d reason=%s", job.kind, job.key, job.attempts, error)
            return JobEnd(job, error)
        pause_s = max(_pause_s(job.attempts), ended.pause_s)
        log.warning(
            "job failed kind=%s key=%s attempts=%d again_in_s=%.0f reason=%s",
            *(job.kind, job.key, job.attempts, pause_s, error),
        )
        return JobEnd(job, error, datetime.now(UTC) + timedelta(seconds=pause_s))

    def _note(self, ends: Sequence[JobEnd]) -> None:
        if ends:
            self._work.end_jobs(ends)
            with self._lock:
                for end in ends:
                    self._running.pop(end.job.job_id, None)

    def _renew(self) -> None:
        """Keep the leases of what takes longer."""
        while not self._stop.wait(_RENEW_S):
            with self._lock:
                running = list(self._running.values())
            if running:
                try:
                    self._work.extend_claims(running, datetime.now(UTC) + timedelta(seconds=_LEASE_S))
                except PacsError as error:
                    log.warning("leases of jobs could not be renewed reason=%s", error)


def _pause_s(attempts: int) -> float:
    """Twice as long after each attempt; at random, so that what failed together is not tried together."""
    longest = min(_FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 30), _LONGEST_PAUSE_S)
    return longest * (0.5 + random.random() / 2)
