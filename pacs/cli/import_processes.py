"""An import by several processes: reading headers and hashing is work for processors, which threads of one process
would only take from each other.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from multiprocessing.connection import Connection, wait
from pathlib import Path

from pacs.cli import console, sources
from pacs.cli.importing import Importer, Summary
from pacs.cli.sources import Opener, Source, Unavailable
from pacs.errors import OutOfResources, PacsError
from pacs.settings import Settings

log = logging.getLogger(__name__)

_BATCH = 32  # files a commit
_GC_OBJECTS = 10_000


def can_serve(settings: Settings) -> bool:
    """Whether it pays, and a fork is safe. Those who wait for a database or a store over the network do it in threads,
    as well as processes could, and their clients do not survive a fork; nor do macOS's own libraries.
    """
    return sys.platform == "linux" and not settings.mongodb_hosts and not settings.dicom_store_url


def take_in(settings: Settings, paths: Sequence[Path], *, processes: int, show: bool = True) -> Summary:
    """Store everything that ``paths`` lead to. Nothing of the archive may be open in this process.

    Raises OutOfResources as soon as the archive cannot take more, when what was begun is done.
    """
    found = list(sources.find(paths))
    summary = Summary()
    summary.failed += [(each.name, each.reason) for each in found if isinstance(each, Unavailable)]
    wanted = [each for each in found if isinstance(each, Source)]
    # All get something to do, of a few files too.
    batch = min(_BATCH, -(-len(wanted) // processes)) or 1
    starts = iter(range(0, len(wanted), batch))
    team = _Team(settings, wanted, min(processes, -(-len(wanted) // batch)))
    try:
        with console.progress("Importing", len(found), show=show) as bar:
            idle = list(team.connections)
            busy: set[Connection] = set()
            while True:
                for connection in idle:
                    if (start := next(starts, None)) is not None:
                        _send(connection, slice(start, start + batch))
                        busy.add(connection)
                if not busy:
                    return summary
                idle = [connection for connection in wait(list(busy)) if isinstance(connection, Connection)]
                for connection in idle:
                    busy.remove(connection)
                    files, part = _received(connection)
                    summary.add(part)
                    bar.advance(bar.task_ids[0], files)
    finally:
        team.close()


class _Team:
    """Processes that each have the archive open, and know all sources: they are told positions only."""

    def __init__(self, settings: Settings, wanted: Sequence[Source], size: int) -> None:
        self.connections: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        context = multiprocessing.get_context("fork")
        # What is there by now is never garbage; and pages that the collector does not touch stay shared.
        gc.freeze()
        # Nor does it have to look after every few hundred objects, of which a single header makes more.
        gc.set_threshold(_GC_OBJECTS, 20, 20)
        # Ctrl-C goes to the whole group. It is for the parent, which lets the others finish what they began.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for _ in range(size):
                ours, theirs = context.Pipe()
                self.connections.append(ours)
                process = context.Process(target=_work, args=(settings, wanted, theirs, list(self.connections)))
                process.start()
                self._processes.append(process)
                theirs.close()
        except OSError as error:
            self.close()
            raise OutOfResources(f"no process can be started: {error.strerror}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Wait until they have finished what they are at."""
        for connection in self.connections:
            connection.close()
        for process in self._processes:
            process.join()


def _send(connection: Connection, positions: slice) -> None:
    try:
        connection.send(positions)
    except OSError as error:
        raise OutOfResources("a process of the import has ended") from error


def _received(connection: Connection) -> tuple[int, Summary]:
    try:
        answer = connection.recv()
    except (EOFError, OSError) as error:
        raise OutOfResources("a process of the import has ended") from error
    if isinstance(answer, PacsError):
        raise answer
    files, part = answer
    return files, part


def _work(settings: Settings, wanted: Sequence[Source], connection: Connection, inherited: list[Connection]) -> None:
    """Take batches until the parent has no more, or is gone."""
    from pacs.archive import Archive

    # The parent's ends: while anyone holds one, its death would not be noticed.
    for other in inherited:
        other.close()
    try:
        with Archive.open(settings) as archive, closing(Opener()) as opener:
            while (positions := _next(connection)) is not None:
                part = Summary()
                Importer(archive.store, part, opener).take(wanted[positions])
                connection.send((len(wanted[positions]), part))
    except ConnectionError:
        return
    except PacsError as error:
        _answer(connection, error)
    except Exception as error:
        log.exception("import failed")
        _answer(connection, OutOfResources(f"the import failed: {type(error).__name__}"))


def _next(connection: Connection) -> slice | None:
    try:
        positions = connection.recv()
    except (EOFError, ConnectionError):
        return None
    return positions if isinstance(positions, slice) else None


def _answer(connection: Connection, error: PacsError) -> None:
    try:
        connection.send(error)
    except OSError:
        log.error("import: %s", error)
