"""``pacs serve`` with several workers: forks the processes, starts again those that die, stops them all.

The workers share the listening sockets that are opened here and, page by page, the modules that are loaded here;
nothing else but the archive itself. No index is opened here, no thread and no event loop started: an SQLite connection,
a lock that a thread holds or a loop's descriptors must not pass through a fork. And a supervisor that does little
seldom fails.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess

from pacs import logs
from pacs.errors import OutOfResources
from pacs.listening import listen
from pacs.service_manager import Terminal, notify, notify_reloading, watchdog_s
from pacs.services.lock import ArchiveLock, remove_leftovers
from pacs.settings import Settings

log = logging.getLogger(__name__)

_BACKLOG = 512
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 10.0  # a worker that served for so long starts again without a pause when it dies
_KILL_AFTER_S = 45.0  # longer than a worker's own grace
_STARTS = 5  # of all workers together without one that got ready, before the server gives up
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_NOTED = (*_STOPPING, signal.SIGHUP)

_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Role:
    """What a worker process is told: its number from 1, the listening sockets, and its two pipes.

    dimse: None without DIMSE; dimse_tls: without a port for TLS. The worker says on ``ready`` that it serves, and ends
    when ``parent`` has been closed.
    """

    number: int
    http: socket.socket
    dimse: socket.socket | None
    dimse_tls: socket.socket | None
    ready: int
    parent: int


def supervise(
    settings: Settings,
    work: Callable[[Role], None],
    on_ready: Callable[[str], None],
    reload: Callable[[], bool] = lambda: True,
) -> None:
    """Serve with SERVER_WORKERS processes until SIGTERM or SIGINT.

    work: runs in each of them, forked from this one, and may end with SystemExit. on_ready is called with what the
    first of them said. reload: called on SIGHUP; whether the workers are to reload too. Raises PacsError when folder or
    port cannot be used, and when the workers do not start.
    """
    remove_leftovers(settings.dicom_store_rootpath)
    with ExitStack() as opened:
        # As long as one worker starts again, nobody may take the folder for abandoned.
        opened.enter_context(ArchiveLock(settings.dicom_store_rootpath))
        host, port = settings.server_host, settings.server_port
        http = opened.enter_context(
            listen(host, port, _BACKLOG, what="HTTP", host_setting="SERVER_HOST", port_setting="SERVER_PORT")
        )
        dimse = (
            _dimse_listener(opened, settings, settings.dimse_port, "DIMSE_PORT"),
            _dimse_listener(opened, settings, settings.dimse_tls_port, "DIMSE_TLS_PORT"),
        )
        Supervisor(settings.server_workers, work, http, dimse, on_ready, reload).run()


def _dimse_listener(opened: ExitStack, settings: Settings, port: int, port_setting: str) -> socket.socket | None:
    if not (port and settings.enable_dimse):
        return None
    host = settings.dimse_hostname
    return opened.enter_context(
        listen(host, port, _BACKLOG, what="DIMSE", host_setting="DIMSE_HOSTNAME", port_setting=port_setting)
    )


def run_apart(work: Callable[[], None]) -> int:
    """Exit code of ``work`` in a process of its own: what it starts and opens is not there to be forked later."""
    process = _fork.Process(target=work, name="apart")
    process.start()
    process.join()
    return process.exitcode or 0


class _Worker:
    """One of the processes as its parent sees it, and those that take its place.

    process: None while none runs. said: what it wrote on ``ready``, our end of that pipe (-1 once it is closed).
    due: when to start it again.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: ForkProcess | None = None
        self.ready = self.parent = -1
        self.said = b""
        self.is_ready = False
        self.began = 0.0
        self.due: float | None = None
        self.pause_s = _FIRST_PAUSE_S

    @property
    def descriptors(self) -> list[int]:
        return [descriptor for descriptor in (self.ready, self.parent) if descriptor >= 0]


class Supervisor:
    """work: what a worker process does. http, dimse: listening sockets; of DIMSE without TLS and with it.

    on_ready is called once, when all workers serve, with what the first of them said.
    """

    def __init__(
        self,
        workers: int,
        work: Callable[[Role], None],
        http: socket.socket,
        dimse: tuple[socket.socket | None, socket.socket | None],
        on_ready: Callable[[str], None],
        reload: Callable[[], bool] = lambda: True,
    ) -> None:
        self._workers = [_Worker(number) for number in range(1, workers + 1)]
        self._work = work
        self._http = http
        self._dimse = dimse
        self._on_ready = on_ready
        self._reload = reload
        self._terminal = Terminal()
        self._watchdog_s = watchdog_s()
        self._signalled: tuple[int, int] = (-1, -1)
        self._is_up = False  # all served once
        self._failed_starts = 0

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises OutOfResources when the workers do not start."""
        # A collection writes into every object that it looks at, and each page written to is a page no longer shared.
        gc.collect()
        gc.freeze()
        with self._noting_signals():
            try:
                self._keep_all()
            finally:
                self._end()

    @contextmanager
    def _noting_signals(self) -> Iterator[None]:
        """SIGTERM, SIGINT and SIGHUP write into a pipe, and so wake whoever waits for it."""
        self._signalled = os.pipe()
        for descriptor in self._signalled:
            os.set_blocking(descriptor, False)
        before = {number: signal.signal(number, lambda *_: None) for number in _NOTED}
        signal.set_wakeup_fd(self._signalled[1], warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            for descriptor in self._signalled:
                os.close(descriptor)

    def _keep_all(self) -> None:
        first, *others = self._workers
        # The first one alone: it may have to make the index.
        for some in ([first], others):
            for worker in some:
                self._start(worker)
            while not all(worker.is_ready for worker in some):
                if not self._look():
                    return
        self._is_up = True
        self._on_ready(first.said.decode())
        while self._look():
            pass

    def _look(self) -> bool:
        """Wait until something happens and see to it. False: it is time to stop."""
        due = [worker.due for worker in self._workers if worker.due is not None]
        waiting = max(0.0, min(due) - time.monotonic()) if due else None
        if self._watchdog_s is not None:
            notify("WATCHDOG=1")
            waiting = min(self._watchdog_s, waiting if waiting is not None else self._watchdog_s)
        running = {worker.process.sentinel: worker for worker in self._workers if worker.process}
        speaking = {worker.ready: worker for worker in self._workers if worker.ready >= 0}
        happened = set(wait([self._signalled[0], *running, *speaking], waiting))
        if self._signalled[0] in happened:
            # One byte a signal: its number (signal.set_wakeup_fd).
            numbers = os.read(self._signalled[0], 4096)
            if any(number in numbers for number in _STOPPING) or self._terminal.is_gone():
                return False
            self._reload_all()
        for worker in [speaking[descriptor] for descriptor in speaking if descriptor in happened]:
            self._hear(worker)
        for worker in [running[sentinel] for sentinel in running if sentinel in happened]:
            self._bury(worker)
        for worker in self._workers:
            if worker.due is not None and worker.due <= time.monotonic():
                self._start(worker)
        return True

    def _reload_all(self) -> None:
        notify_reloading()
        logs.reopen()
        if self._reload():
            for worker in self._workers:
                if worker.process is not None and worker.process.pid is not None and worker.is_ready:
                    with suppress(ProcessLookupError):
                        os.kill(worker.process.pid, signal.SIGHUP)
        notify("READY=1")

    def _start(self, worker: _Worker) -> None:
        worker.due, worker.said, worker.is_ready = None, b"", False
        worker.ready, theirs = os.pipe()
        parent, worker.parent = os.pipe()
        role = Role(worker.number, self._http, *self._dimse, theirs, parent)
        process = _fork.Process(target=self._become, args=(role,), name=f"worker-{worker.number}")
        # A signal between fork and the first lines of the child would otherwise go to us, from the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _NOTED)
        try:
            process.start()
        except OSError as error:
            self._close(worker)
            self._failed(worker, f"worker {worker.number} cannot be started: {error.strerror}")
        else:
            worker.process = process
        finally:
            # In the parent only: the child does not return from start().
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(theirs)
            os.close(parent)

    def _become(self, role: Role) -> None:
        """In the new process: let go of what is the parent's, and work."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Until it serves, there is nothing that it could do about it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # Ctrl-C reaches all processes of a terminal; the parent passes on that it is time to stop.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Above all the ends that tell the other workers that their parent lives.
        held = [descriptor for worker in self._workers for descriptor in worker.descriptors]
        for descriptor in (*self._signalled, *held):
            os.close(descriptor)
        # A hang-up waits until it can be heeded (``app``).
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        self._work(role)

    def _hear(self, worker: _Worker) -> None:
        """A part of what a worker says; it has served since it said all."""
        said = os.read(worker.ready, 4096)
        worker.said += said
        if said:
            return
        os.close(worker.ready)
        worker.ready = -1
        if not worker.said:
            return
        worker.is_ready = True
        worker.began = time.monotonic()
        self._failed_starts = 0
        if self._is_up and worker.process:
            log.warning("worker started again number=%d pid=%d", worker.number, worker.process.pid)

    def _bury(self, worker: _Worker) -> None:
        """See to it that one that ended is started again."""
        assert worker.process is not None
        worker.process.join()
        while worker.ready >= 0:
            self._hear(worker)
        pid, code = worker.process.pid, worker.process.exitcode
        worker.process.close()
        worker.process = None
        self._close(worker)
        if not worker.said:
            self._failed(worker, f"worker {worker.number} does not start (exit code {code})")
            return
        log.error("worker died number=%d pid=%d exit=%d", worker.number, pid, code)
        if time.monotonic() - worker.began > _STEADY_S:
            worker.pause_s = _FIRST_PAUSE_S
        self._start_later(worker)

    def _failed(self, worker: _Worker, message: str) -> None:
        """Raises OutOfResources while the server starts, and when none of the workers can be started any more."""
        if not self._is_up:
            raise OutOfResources(message)
        log.error("%s", message)
        self._failed_starts += 1
        is_any_running = any(other.process for other in self._workers)
        if self._failed_starts >= _STARTS * len(self._workers) and not is_any_running:
            raise OutOfResources(f"no worker can be started any more: {message}")
        self._start_later(worker)

    def _start_later(self, worker: _Worker) -> None:
        worker.due = time.monotonic() + worker.pause_s
        worker.pause_s = min(2 * worker.pause_s, _LONGEST_PAUSE_S)

    def _close(self, worker: _Worker) -> None:
        for descriptor in worker.descriptors:
            os.close(descriptor)
        worker.ready = worker.parent = -1

    def _end(self) -> None:
        """Tell all to finish what is under way; kill those that do not."""
        notify("STOPPING=1")
        running = {worker.process.sentinel: worker.process for worker in self._workers if worker.process}
        for process in running.values():
            process.terminate()
        deadline = time.monotonic() + _KILL_AFTER_S
        while running and (ended := wait(list(running), max(0.0, deadline - time.monotonic()))):
            for sentinel in ended:
                assert isinstance(sentinel, int)
                running.pop(sentinel).join()
        for process in running.values():
            log.error("worker does not stop and is killed pid=%d", process.pid)
            process.kill()
            process.join()
        for worker in self._workers:
            self._close(worker)
