"""Batches of work on a few threads, never more of it in memory than the threads need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def run_batches(
    items: Iterable[T], work: Callable[[list[T]], object], *, threads: int, batch: int, progress: Callable[[int], None]
) -> None:
    """Call ``work`` with all items, ``batch`` at a time, and wait. The first exception ends it, and is raised."""
    remaining = iter(items)
    sizes: dict[Future[object], int] = {}
    with ThreadPoolExecutor(threads, "migrate") as pool:
        try:
            while True:
                while len(sizes) < 2 * threads and (part := list(islice(remaining, batch))):
                    sizes[pool.submit(work, part)] = len(part)
                if not sizes:
                    return
                for future in wait(sizes, return_when=FIRST_COMPLETED).done:
                    future.result()
                    progress(sizes.pop(future))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
