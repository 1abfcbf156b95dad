"""Worker processes for pixels: bounded in number, waiting callers, time and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """Runs functions in spawned processes, started at need and kept warm. Safe to call from any thread.

    workers: processes at most. queue_limit: callers that may wait for one. timeout_s: of one call, waiting included
    at most once more. memory_bytes: address space of one worker (0: no limit). idle_s: after so long without work all
    workers end.
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
        raise NotImplementedError

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an importable function with picklable arguments in a worker; its PacsError is raised here.

        Raises OutOfResources when too many wait or the pool is closed, Undecodable when the time is over or the worker
        died.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End all workers, running calls too. Idempotent."""
