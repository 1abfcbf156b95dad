"""Worker processes for pixels: bounded in number, waiting callers, time and memory.

Codecs are C on hostile input. A call that crashes, hangs or devours memory takes its worker with it and nothing else,
which concurrent.futures.ProcessPoolExecutor cannot do: there one dead worker breaks the whole pool.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pacs.errors import OutOfResources, TooSlow, Undecodable

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

# Not multiprocessing's spawn: it runs the parent's main module again, and so imports the whole server.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from pacs.imaging.worker import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)


class Pool:
    """Runs functions in separate processes, started at need and kept warm. Safe to call from any thread.

    workers: processes at most. queue_limit: callers that may wait for one. timeout_s: of one call, and of waiting for
    a worker. memory_bytes: address space of one worker (0: no limit). idle_s: a worker without work for so long ends.
    """

    def __init__(
        self,
        workers: int = 2,
        queue_limit: int = 64,
        timeout_s: float = 60.0,
        *,
        memory_bytes: int = 4 << 30,
        idle_s: float = 300.0,
    ) -> None:
        self._limit = max(1, workers)
        self._queue_limit = queue_limit
        self.timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._idle_s = idle_s
        self._changed = threading.Condition()
        self._idle: list[_Worker] = []  # the last one used is used next, so that spare ones become old
        self._busy: set[_Worker] = set()
        self._starting = 0
        self._waiting = 0
        self._closed = False
        self._janitor: threading.Thread | None = None

    def load(self) -> tuple[int, int]:
        """(calls that run, callers that wait for a worker)."""
        return len(self._busy), self._waiting

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an importable function with picklable arguments in a worker; a PacsError of it is raised here.

        Raises OutOfResources when too many wait or the pool is closed, TooSlow when the time is over, Undecodable when
        the worker died, or the function raised what is no PacsError.
        """
        return self.run_for(self.timeout_s, function, *args, **kwargs)

    def run_for(self, timeout_s: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """``run`` with another time limit, for work that is known to be long: transcoding thousands of frames."""
        return self._run(timeout_s, False, function, *args, **kwargs)

    def run_in_turn(self, timeout_s: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """``run_for`` that waits its turn however long the queue is, for an answer that is already on its way."""
        return self._run(timeout_s, True, function, *args, **kwargs)

    def _run(
        self, timeout_s: float, in_turn: bool, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        request = pickle.dumps((timeout_s, function, args, kwargs), pickle.HIGHEST_PROTOCOL)
        worker = self._acquire(in_turn)
        answer = None
        try:
            answer = worker.call(request, timeout_s)
        except TimeoutError as err:
            log.warning("imaging worker timed out function=%s timeout_s=%g", function.__name__, timeout_s)
            raise TooSlow("the pixels take too long to process") from err
        except (EOFError, OSError) as err:
            if self._closed:
                raise OutOfResources("the server is stopping") from err
            log.error("imaging worker died function=%s exit=%s", function.__name__, worker.end())
            raise Undecodable("processing the pixels failed") from err
        finally:
            self._release(worker, reusable=answer is not None)
        result, error, trace = pickle.loads(answer)
        if trace:
            log.error("imaging worker failed function=%s\n%s", function.__name__, trace)
        if error is not None:
            raise error
        value: T = result
        return value

    def close(self) -> None:
        """End all workers, running calls too. Idempotent."""
        with self._changed:
            self._closed = True
            idle, busy = self._idle, [*self._busy]
            self._idle = []
            self._changed.notify_all()
        for worker in idle:
            worker.end()
        for worker in busy:
            worker.kill()  # its caller, who reads from it, notices and ends it

    def worker_ids(self) -> list[int]:
        """Process ids of all workers."""
        with self._changed:
            return [worker.process.pid for worker in (*self._idle, *self._busy)]

    def _acquire(self, in_turn: bool) -> _Worker:
        with self._changed:
            if not in_turn and not self._is_free() and self._waiting >= self._queue_limit:
                raise OutOfResources("too many images are being processed")
            self._waiting += 1
            try:
                # Every call ends in time, so that whoever waits for a turn has one.
                longest_s = None if in_turn else self.timeout_s
                in_time = self._changed.wait_for(lambda: self._closed or self._is_free(), longest_s)
            finally:
                self._waiting -= 1
            if self._closed:
                raise OutOfResources("the server is stopping")
            if not in_time:
                raise OutOfResources("too many images are being processed")
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive():
                    self._busy.add(worker)
                    return worker
                worker.end()
            self._starting += 1
        return self._start()

    def _start(self) -> _Worker:
        worker = None
        try:
            worker = _Worker(self._memory_bytes)
        except OSError as err:
            raise OutOfResources("no process can be started for the pixels") from err
        finally:
            with self._changed:
                self._starting -= 1
                if worker is not None:
                    self._busy.add(worker)
                    if self._janitor is None:
                        self._janitor = threading.Thread(target=self._end_idle, name="imaging-idle", daemon=True)
                        self._janitor.start()
                self._changed.notify()
        if self._closed:
            self._release(worker, reusable=False)
            raise OutOfResources("the server is stopping")
        return worker

    def _release(self, worker: _Worker, *, reusable: bool) -> None:
        if not reusable:
            worker.end()
        with self._changed:
            self._busy.discard(worker)
            if reusable and not self._closed:
                worker.idle_since = time.monotonic()
                self._idle.append(worker)
                worker = None  # type: ignore[assignment]  # kept
            # All: the janitor waits on the same condition, and must not take a caller's turn.
            self._changed.notify_all()
        if worker is not None:
            worker.end()

    def _is_free(self) -> bool:
        return bool(self._idle) or len(self._busy) + self._starting < self._limit

    def _end_idle(self) -> None:
        while True:
            with self._changed:
                if self._closed or not (self._idle or self._busy or self._starting):
                    self._janitor = None
                    return
                oldest = self._idle[0].idle_since if self._idle else time.monotonic()
                self._changed.wait(max(0.01, oldest + self._idle_s - time.monotonic()))
                limit = time.monotonic() - self._idle_s
                old = [worker for worker in self._idle if worker.idle_since <= limit]
                self._idle = [worker for worker in self._idle if worker.idle_since > limit]
            for worker in old:
                worker.end()


class _Worker:
    def __init__(self, memory_bytes: int) -> None:
        self.idle_since = 0.0
        self._connection, theirs = multiprocessing.Pipe()
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        arguments = [json.dumps(sys.path), str(theirs.fileno()), str(memory_bytes)]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # codecs complain there about every damaged image
                pass_fds=(theirs.fileno(),),
                env=environment,
            )
        except OSError:
            self._connection.close()
            raise
        finally:
            theirs.close()

    def is_alive(self) -> bool:
        """Of a worker without work: one that died has closed its end, which reads as something to receive."""
        return self.process.poll() is None and not self._connection.poll(0)

    def call(self, request: bytes, timeout_s: float) -> bytes:
        """Raises TimeoutError, or EOFError or OSError when the process is gone."""
        self._connection.send_bytes(request)
        if not self._connection.poll(timeout_s):
            raise TimeoutError
        answer: bytes = self._connection.recv_bytes()
        return answer

    def kill(self) -> int:
        """End the process and return its exit code. Any thread, idempotent."""
        self.process.kill()
        return self.process.wait()

    def end(self) -> int:
        """``kill``, and close our end; only where nobody is in ``call``. Idempotent."""
        code = self.kill()
        self._connection.close()
        return code
