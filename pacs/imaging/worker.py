"""What runs in each process of the pool. Imports nothing heavy: the functions that it is sent do."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

from pacs.errors import PacsError, Undecodable

# Seconds after which the kernel ends a worker that its pool did not end: the pool's process is gone by then.
_GRACE_S = 10.0


def main(descriptor: int, memory_bytes: int) -> None:
    """Answer calls until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the pool decides when we end
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _limit_memory(memory_bytes)
    connection = Connection(descriptor)
    threading.Thread(target=_end_with_pool, args=(descriptor,), daemon=True).start()
    while True:
        try:
            request = connection.recv_bytes()
            answer = _answer(request)
            connection.send_bytes(answer)
        except (EOFError, OSError):
            return


def _answer(request: bytes) -> bytes:
    """The pickled (result, error, traceback) of a pickled (timeout_s, function, args, kwargs)."""
    try:
        timeout_s, function, args, kwargs = pickle.loads(request)
        signal.setitimer(signal.ITIMER_REAL, timeout_s + _GRACE_S)
        try:
            return pickle.dumps((function(*args, **kwargs), None, ""), pickle.HIGHEST_PROTOCOL)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except PacsError as err:
        return _failed(err, "")
    except MemoryError:
        return _failed(Undecodable("the pixels need more memory than is allowed"), "")
    except Exception:  # noqa: BLE001  hostile pixels make libraries raise anything; the pool logs what it was
        return _failed(Undecodable("the pixels cannot be processed"), traceback.format_exc())


def _failed(error: PacsError, trace: str) -> bytes:
    answer: tuple[Any, PacsError, str] = (None, error, trace)
    return pickle.dumps(answer)


def _limit_memory(memory_bytes: int) -> None:
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold patients' images


def _end_with_pool(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLHUP)
    poll.poll()
    os._exit(0)
