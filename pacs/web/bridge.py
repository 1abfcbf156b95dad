"""Between the event loop and the archive's blocking services."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from aiohttp import web

from pacs.errors import OutOfResources

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# One batch is being sent while the next is read: two of these per download is all the memory it takes.
_BATCH_BYTES = 1 << 20
_BATCH_PIECES = 64


class Bridge:
    """Runs blocking calls in threads and sends what blocking iterators give.

    A slow client holds no thread: a thread is busy only while a batch is read. idle_s: how long a client may take to
    accept or send the next bytes before it is given up. pixel_queue: calls that may wait for a pixel worker, further
    ones are told to come back.
    """

    def __init__(self, threads: int = 32, idle_s: float = 120.0, pixel_queue: int = 64) -> None:
        self.idle_s = idle_s
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="web")
        # Of their own: a page of thumbnails must not make a search wait behind it.
        self._pixels = ThreadPoolExecutor(max(1, threads // 2), thread_name_prefix="web-pixels")
        # What a call in those waits for must not wait for its turn among them.
        self._ahead = ThreadPoolExecutor(max(1, threads // 4), thread_name_prefix="web-ahead")
        self._pixel_limit = max(1, threads // 2) + pixel_queue
        self._pixel_calls = 0  # changed in the event loop only

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a thread. The call goes on when the waiting task is cancelled."""
        return await asyncio.wrap_future(self._executor.submit(function, *args, **kwargs))

    async def run_pixels(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``run`` for calls that may wait for a pixel worker. Raises OutOfResources when too many wait already."""
        if self._pixel_calls >= self._pixel_limit:
            raise OutOfResources("too many images are being processed")
        call = self._pixels.submit(function, *args, **kwargs)
        self._pixel_calls += 1
        loop = asyncio.get_running_loop()

        def count_down(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
                loop.call_soon_threadsafe(self._end_pixel_call)

        call.add_done_callback(count_down)
        return await asyncio.wrap_future(call)

    def ahead(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a call that may wait for a pixel worker, for a blocking iterator that will want its result."""
        return self._ahead.submit(function, *args, **kwargs)

    async def send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        pieces: Iterator[bytes],
        on_close: Callable[[], None] | None = None,
        *,
        waits_for_pixels: bool = False,
    ) -> web.StreamResponse:
        """Send a body from a blocking iterator, which is closed, and ``on_close`` called, whatever happens.

        waits_for_pixels: the iterator may wait for a pixel worker, so it runs where it holds up such ones only.
        When the first piece cannot be read, that error is raised and nothing is sent. When reading fails half way the
        connection is cut: the client must not take what it has for the whole.
        """
        pending: Future[list[bytes]] | None = None
        executor = self._pixels if waits_for_pixels else self._executor
        try:
            if request.method == "HEAD":
                await response.prepare(request)
                await response.write_eof()
                return response
            pending = executor.submit(_batch, pieces)
            batch = await asyncio.wrap_future(pending)
            await response.prepare(request)
            while batch:
                pending = executor.submit(_batch, pieces)
                for piece in batch:
                    async with asyncio.timeout(self.idle_s):
                        await response.write(piece)
                batch = await asyncio.wrap_future(pending)
            await response.write_eof()
            return response
        except TimeoutError as error:
            self._cut(request)
            raise ConnectionAbortedError("the client takes nothing any more") from error
        except ConnectionError:
            raise
        except Exception as error:
            if not response.prepared:
                raise
            log.error("download cut path=%s reason=%s", request.rel_url.raw_path, error, exc_info=error)
            self._cut(request)
            raise ConnectionAbortedError("reading failed half way") from error
        finally:
            # Not awaited: the iterator must be closed even when this task is cancelled.
            executor.submit(_finish, pieces, pending, on_close)

    async def send_bytes(self, request: web.Request, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
        """Send a small body that is there already: no thread has anything to do for it. As ``send`` otherwise."""
        response.content_length = len(body)
        try:
            await response.prepare(request)
            if request.method != "HEAD":
                async with asyncio.timeout(self.idle_s):
                    await response.write(body)
            await response.write_eof()
            return response
        except TimeoutError as error:
            self._cut(request)
            raise ConnectionAbortedError("the client takes nothing any more") from error

    def close(self) -> None:
        """Wait for the calls under way; no call may follow."""
        self._pixels.shutdown(wait=True)
        self._ahead.shutdown(wait=True)
        self._executor.shutdown(wait=True)

    def _end_pixel_call(self) -> None:
        self._pixel_calls -= 1

    @staticmethod
    def _cut(request: web.Request) -> None:
        if request.transport is not None:
            request.transport.abort()


def _batch(pieces: Iterator[bytes]) -> list[bytes]:
    """The next pieces, about a MiB; empty at the end."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        if piece:
            batch.append(piece)
            size += len(piece)
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_PIECES:
            break
    return batch


def _finish(pieces: Iterator[bytes], pending: Future[list[bytes]] | None, on_close: Callable[[], None] | None) -> None:
    """Close the iterator once no thread is in it. The executor is a queue, so ``pending`` never waits behind this."""
    if pending is not None and not pending.cancel():
        pending.exception()
    try:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
    finally:
        if on_close is not None:
            on_close()
