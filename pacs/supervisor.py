"""``pacs serve`` with several workers: starts the processes, starts again those that die, stops them all.

The workers share the two listening sockets that are opened here, and nothing else but the archive itself. No index is
opened here: an SQLite connection must not pass through a fork, and a supervisor that does little seldom fails.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from pacs.errors import OutOfResources
from pacs.listening import listen
from pacs.services.lock import ArchiveLock, remove_leftovers
from pacs.settings import Settings

log = logging.getLogger(__name__)

_BACKLOG = 512
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 10.0  # a worker that served for so long starts again without a pause when it dies
_KILL_AFTER_S = 45.0  # longer than a worker's own grace
_STARTS = 5  # of all workers together without one that got ready, before the server gives up


@dataclass(frozen=True, slots=True)
class Role:
    """What a worker process is told: its number from 1, how many there are, and the descriptors that it inherits.

    dimse: -1 without DIMSE. The worker says on ``ready`` that it serves, and ends when ``parent`` does.
    """

    number: int
    workers: int
    http: int
    dimse: int
    ready: int
    parent: int

    def text(self) -> str:
        return json.dumps([self.number, self.workers, self.http, self.dimse, self.ready, self.parent])

    @classmethod
    def of(cls, text: str) -> Role:
        return cls(*json.loads(text))


def supervise(settings: Settings, arguments: Sequence[str], on_ready: Callable[[str], None]) -> None:
    """Serve with SERVER_WORKERS processes until SIGTERM or SIGINT.

    arguments: of `pacs serve`, for the workers. on_ready is called with what the first of them said. Raises PacsError
    when folder or port cannot be used, and when the workers do not start.
    """
    remove_leftovers(settings.dicom_store_rootpath)
    with ExitStack() as opened:
        # As long as one worker starts again, nobody may take the folder for abandoned.
        opened.enter_context(ArchiveLock(settings.dicom_store_rootpath))
        host, port = settings.server_host, settings.server_port
        http = opened.enter_context(
            listen(host, port, _BACKLOG, what="HTTP", host_setting="SERVER_HOST", port_setting="SERVER_PORT")
        )
        dimse = None
        if settings.enable_dimse:
            host, port = settings.dimse_hostname, settings.dimse_port
            dimse = opened.enter_context(
                listen(host, port, _BACKLOG, what="DIMSE", host_setting="DIMSE_HOSTNAME", port_setting="DIMSE_PORT")
            )
        command = [sys.executable, "-m", "pacs", "serve", *arguments, "--worker"]
        asyncio.run(Supervisor(settings.server_workers, command, http, dimse, on_ready).run())


class Supervisor:
    """command: starts a worker when its role's text is added. http, dimse: listening sockets.

    on_ready is called once, when all workers serve, with what the first of them said.
    """

    def __init__(
        self,
        workers: int,
        command: Sequence[str],
        http: socket.socket,
        dimse: socket.socket | None,
        on_ready: Callable[[str], None],
    ) -> None:
        self._workers = workers
        self._command = command
        self._http = http
        self._dimse = dimse
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._holding: set[asyncio.Task[None]] = set()
        self._failed_starts = 0

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises OutOfResources when the workers do not start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        work = asyncio.create_task(self._keep_all())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            self._stop.set()
            work.cancel()
            await self._end()

    async def _keep_all(self) -> None:
        # The first one alone: it may have to make the index.
        said = await self._start(1)
        await asyncio.gather(*(self._start(number) for number in range(2, self._workers + 1)))
        self._on_ready(said)
        await asyncio.gather(*(self._watch(number) for number in range(1, self._workers + 1)))

    async def _start(self, number: int) -> str:
        """Start one and wait until it is ready. Raises OutOfResources when it ends before."""
        ready, theirs = os.pipe()
        parent, ours = os.pipe()
        dimse = self._dimse.fileno() if self._dimse else -1
        role = Role(number, self._workers, self._http.fileno(), dimse, theirs, parent)
        inherited = [descriptor for descriptor in (role.http, role.dimse, theirs, parent) if descriptor >= 0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, role.text(), stdin=asyncio.subprocess.DEVNULL, pass_fds=inherited
            )
        except OSError as error:
            os.close(ready)
            os.close(ours)
            raise OutOfResources(f"worker {number} cannot be started: {error.strerror}") from error
        finally:
            os.close(theirs)
            os.close(parent)
        self._processes[number] = process
        task = asyncio.create_task(_hold(ours, process))
        self._holding.add(task)  # the loop holds it only weakly
        task.add_done_callback(self._holding.discard)
        said = await _read_all(ready)
        if not said:
            raise OutOfResources(f"worker {number} does not start (exit code {await process.wait()})")
        return said

    async def _watch(self, number: int) -> None:
        """Keep one running. Raises OutOfResources when none of the workers can be started any more."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            began = loop.time()
            code = await self._processes[number].wait()
            if loop.time() - began > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            log.error("worker died number=%d pid=%d exit=%d", number, self._processes[number].pid, code)
            while not await self._start_again(number, pause_s):
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _start_again(self, number: int, pause_s: float) -> bool:
        await asyncio.sleep(pause_s)
        try:
            await self._start(number)
        except OutOfResources as error:
            log.error("%s", error)
            self._failed_starts += 1
            if self._failed_starts >= _STARTS * self._workers and not self._is_any_running():
                raise OutOfResources(f"no worker can be started any more: {error}") from error
            return False
        self._failed_starts = 0
        log.warning("worker started again number=%d pid=%d", number, self._processes[number].pid)
        return True

    def _is_any_running(self) -> bool:
        return any(process.returncode is None for process in self._processes.values())

    async def _end(self) -> None:
        """Tell all to finish what is under way; kill those that do not."""
        running = [process for process in self._processes.values() if process.returncode is None]
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
        waiting = [asyncio.create_task(process.wait()) for process in running]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=_KILL_AFTER_S)
        for process in running:
            if late and process.returncode is None:
                log.error("worker does not stop and is killed pid=%d", process.pid)
                process.kill()
        await asyncio.gather(*waiting)


async def _hold(descriptor: int, process: asyncio.subprocess.Process) -> None:
    """Our end of the pipe that tells a worker that its parent lives, for as long as the worker does."""
    try:
        await process.wait()
    finally:
        os.close(descriptor)


async def _read_all(descriptor: int) -> str:
    """What the other end writes before it closes; empty when it ends without a word."""
    loop = asyncio.get_running_loop()
    with open(descriptor, "rb", buffering=0) as file:
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        try:
            return (await reader.read()).decode()
        finally:
            transport.close()
