"""Between the event loop and the archive's blocking services."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

from aiohttp import web

from pacs.errors import OutOfResources
from pacs.services.file_span import Piece
from pacs.web.body import Body, Pushed, socket_of

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Between looks at whether what aiohttp holds back has gone; doubled each time, up to the second.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.0005, 0.05


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
        # Reading from a busy disk, or sending to a client that is nearly fast enough, must not make others wait.
        self._senders = ThreadPoolExecutor(max(1, threads // 2), thread_name_prefix="web-send")
        self._pixel_limit = max(1, threads // 2) + pixel_queue
        self._pixel_calls = 0  # changed in the event loop only

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a thread. The call goes on when the waiting task is cancelled."""
        return await asyncio.wrap_future(_submit(self._executor, function, *args, **kwargs))

    async def run_pixels(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``run`` for calls that may wait for a pixel worker. Raises OutOfResources when too many wait already."""
        if self._pixel_calls >= self._pixel_limit:
            raise OutOfResources("too many images are being processed")
        call = _submit(self._pixels, function, *args, **kwargs)
        self._pixel_calls += 1
        loop = asyncio.get_running_loop()

        def count_down(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
                loop.call_soon_threadsafe(self._end_pixel_call)

        call.add_done_callback(count_down)
        return await asyncio.wrap_future(call)

    def ahead(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a call that may wait for a pixel worker, for a blocking iterator that will want its result."""
        return _submit(self._ahead, function, *args, **kwargs)

    async def send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        pieces: Iterator[Piece] | Body,
        on_close: Callable[[], None] | None = None,
        *,
        waits_for_pixels: bool = False,
    ) -> web.StreamResponse:
        """Send a body from a blocking iterator, which is closed, and ``on_close`` called, whatever happens.

        pieces: a Body was begun already. Parts of files go from the disk's cache to the client without passing through
        here, where the response knows its length and the connection is plain. waits_for_pixels: the iterator may wait
        for a pixel worker, so it runs where it holds up such ones only.
        When the first piece cannot be read, that error is raised and nothing is sent. When reading fails half way the
        connection is cut: the client must not take what it has for the whole.
        """
        executor = self._pixels if waits_for_pixels else self._executor
        body = pieces if isinstance(pieces, Body) else Body(pieces)
        sending = _Sending(body, on_close)
        try:
            if request.method == "HEAD":
                await response.prepare(request)
                await response.write_eof()
                return response
            sending.client = socket_of(request, response)
            if sending.client is not None and body is not pieces:
                await sending.call(executor, body.begin)
            if sending.client is not None and body.has_files:
                await self._push(request, response, sending, sending.client)
            else:
                await self._write(request, response, sending, executor)
            await response.write_eof()
            return response
        except TimeoutError as error:
            sending.cut(request)
            raise ConnectionAbortedError("the client takes nothing any more") from error
        except ConnectionError:
            raise
        except Exception as error:
            if not response.prepared:
                raise
            log.error("download cut path=%s reason=%s", request.rel_url.raw_path, error, exc_info=error)
            sending.cut(request)
            raise ConnectionAbortedError("reading failed half way") from error
        finally:
            if sending.is_over:
                sending.finish()
            else:
                # Not awaited: the iterator must be closed even when this task is cancelled.
                executor.submit(sending.finish)

    async def _write(
        self, request: web.Request, response: web.StreamResponse, sending: _Sending, executor: ThreadPoolExecutor
    ) -> None:
        """Through memory: a batch is sent while the next is read."""
        body = sending.body
        batch = body.batch() if body.is_at_hand else await sending.call(executor, body.batch)
        await response.prepare(request)
        while batch:
            following = None if body.is_at_hand else sending.begin(executor, body.batch)
            for piece in batch:
                async with asyncio.timeout(self.idle_s):
                    await response.write(piece)
            batch = body.batch() if following is None else await asyncio.wrap_future(following)

    async def _push(
        self, request: web.Request, response: web.StreamResponse, sending: _Sending, client: socket.socket
    ) -> None:
        """From file to socket, by the kernel."""
        writer = await response.prepare(request)
        assert writer is not None
        writer.send_headers()
        async with asyncio.timeout(self.idle_s):
            await _flushed(request)
        # What is in memory is sent sooner than a thread wakes up.
        pushed = sending.body.push(client, 0) if sending.body.is_ready else Pushed.PART
        while pushed is not Pushed.ALL:
            if pushed is Pushed.FULL:
                async with asyncio.timeout(self.idle_s):
                    await _writable(client)
            pushed = await sending.call(self._senders, sending.body.push, client)

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
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionAbortedError("the client takes nothing any more") from error

    def close(self) -> None:
        """Wait for the calls under way; no call may follow."""
        self._pixels.shutdown(wait=True)
        self._ahead.shutdown(wait=True)
        self._senders.shutdown(wait=True)
        self._executor.shutdown(wait=True)

    def _end_pixel_call(self) -> None:
        self._pixel_calls -= 1


class _Sending:
    """A body on its way, and what has to be closed in the end."""

    def __init__(self, body: Body, on_close: Callable[[], None] | None) -> None:
        self.body = body
        self.client: socket.socket | None = None
        self._on_close = on_close
        self._pending: Future[Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether ``finish`` has nothing to wait for or to read, so that no thread need do it."""
        is_idle = self._pending is None or self._pending.done()
        return is_idle and self.body.is_over and self._on_close is None

    def begin(
        self, executor: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Begin a call that takes something of the body, in a thread; one at a time."""
        pending = _submit(executor, function, *args, **kwargs)
        self._pending = pending
        return pending

    async def call(
        self, executor: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``begin``, and wait for what it gives."""
        return await asyncio.wrap_future(self.begin(executor, function, *args, **kwargs))

    def cut(self, request: web.Request) -> None:
        """End the connection so that the client sees that something is missing."""
        if self.client is not None:
            with contextlib.suppress(OSError):  # gone already
                self.client.shutdown(socket.SHUT_RDWR)
        if request.transport is not None:
            request.transport.abort()

    def finish(self) -> None:
        """Close everything once no thread is in the body, which is waited for."""
        if self._pending is not None and not self._pending.cancel():
            self._pending.exception()
        try:
            self.body.close()
        finally:
            if self.client is not None:
                self.client.close()
            if self._on_close is not None:
                self._on_close()


def _submit(executor: ThreadPoolExecutor, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """What is logged in the thread is because of the same request."""
    context = copy_context()
    return executor.submit(lambda: context.run(function, *args, **kwargs))


async def _flushed(request: web.Request) -> None:
    """Wait until all that was written so far is the kernel's: what goes to the socket directly must come after it."""
    pause_s = 0.0
    while (transport := request.transport) is not None and transport.get_write_buffer_size():
        await asyncio.sleep(pause_s)
        pause_s = min(max(2 * pause_s, _FIRST_LOOK_S), _LAST_LOOK_S)
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client went")


async def _writable(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def note() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(client.fileno(), note)
    try:
        await ready
    finally:
        loop.remove_writer(client.fileno())
